// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "device/gpu/accelerator.h"

namespace slalom::testing {

// HostAccelerator runs the kernels of a GPU worker in loops on this processor. Each lane is either
// lazy, its work is done only when somebody waits for it, or eager, its work is done as soon as the
// marks that it waits for allow. A missing wait between lanes then shows as a wrong result here, as
// it would (now and then) on a GPU: a lane that reads too early where the writer is lazy, a buffer
// that is used again too early where the reader is lazy.
class HostAccelerator final : public device::gpu::Accelerator {
 public:
  using Lane = device::gpu::Lane;
  // Which of upload, compute and download are eager.
  explicit HostAccelerator(std::array<bool, 3> eager = {}) {
    for (std::size_t i = 0; i < eager.size(); ++i) queues_[i].eager = eager[i];
  }

  Result<std::byte*> allocate(std::size_t bytes) override {
    if (bytes > room) return Error{Errc::kUnavailable, "no memory on the accelerator"};
    room -= bytes;
    memory_.push_back(std::make_unique<Page[]>(bytes / sizeof(Page) + 1));
    return reinterpret_cast<std::byte*>(memory_.back().get());
  }
  Result<device::gpu::Mark> make_mark() override {
    marks_.push_back({});
    return static_cast<device::gpu::Mark>(marks_.size() - 1);
  }
  void pin(std::span<std::byte> memory) override { pinned.push_back(memory.data()); }
  void unpin(std::span<std::byte> memory) override { std::erase(pinned, memory.data()); }

  void upload(std::byte* to, std::span<const std::byte> from) override {
    queue(Lane::kUpload, [to, from] { std::memcpy(to, from.data(), from.size()); });
  }
  void download(std::span<std::byte> to, const std::byte* from) override {
    queue(Lane::kDownload, [to, from] { std::memcpy(to.data(), from, to.size()); });
  }
  void gather(const device::gpu::Gather& kernel) override { loop(kernel); }
  void recombine(const device::gpu::Recombine& kernel) override { loop(kernel); }
  void direct(const device::gpu::Direct& kernel) override { loop(kernel); }
  void multiply(const device::gpu::Product& p) override {
    queue(Lane::kCompute, [p] {
      for (std::size_t r = 0; r < p.rows; ++r) {
        for (std::size_t c = 0; c < p.columns; ++c) {
          std::int64_t sum = 0;
          for (std::size_t d = 0; d < p.depth; ++d)
            sum += p.a[r * p.depth + d] * p.w[c * p.depth + d];
          p.c[r * p.columns + c] = static_cast<std::int32_t>(sum);
        }
      }
    });
  }

  void set(Lane lane, device::gpu::Mark mark) override {
    Queue& q = of(lane);
    unset_.erase(mark);
    marks_[mark] = {lane, q.begun + q.work.size()};
  }
  void wait(Lane lane, device::gpu::Mark mark) override {
    of(lane).work.push_back({{}, marks_[mark]});
    pump();
  }
  bool reached(device::gpu::Mark mark) override { return reached(marks_[mark]); }
  void synchronize(device::gpu::Mark mark) override { drain(marks_[mark]); }
  // Nobody stamps timers here: the time is that of the question, and a timer that was not set or
  // not reached by then breaks the accelerator.
  Result<device::gpu::Mark> make_timer() override {
    unset_.insert(static_cast<device::gpu::Mark>(marks_.size()));
    return make_mark();
  }
  std::chrono::steady_clock::time_point time_of(device::gpu::Mark timer) override {
    broken = broken || unset_.contains(timer) || !reached(marks_[timer]);
    return std::chrono::steady_clock::now();
  }

  [[nodiscard]] Status error() const override {
    return broken ? Status(Error{Errc::kUnavailable, "the accelerator broke"}) : Status{};
  }

  std::size_t room = std::size_t{1} << 30;
  bool broken = false;
  std::vector<std::byte*> pinned;

 private:
  struct alignas(256) Page {
    std::byte bytes[256];
  };
  struct At {
    Lane lane = Lane::kUpload;
    std::size_t work = 0;  // pieces of the lane's work before the mark
  };
  // Work is something to run, or a mark to wait for.
  struct Work {
    std::function<void()> run;
    At wait;
  };
  struct Queue {
    std::deque<Work> work;
    std::size_t begun = 0;  // taken out of `work` so far
    bool eager = false;
  };

  Queue& of(Lane lane) { return queues_[static_cast<std::size_t>(lane)]; }
  bool reached(At at) { return of(at.lane).begun >= at.work; }
  void queue(Lane lane, std::function<void()> work) {
    of(lane).work.push_back({std::move(work), {}});
    pump();
  }
  // pump lets the eager lanes go as far as they can without the lazy ones.
  void pump() {
    for (bool moved = true; moved;) {
      moved = false;
      for (Queue& q : queues_) {
        while (q.eager && !q.work.empty() && (q.work.front().run || reached(q.work.front().wait))) {
          step(q);
          moved = true;
        }
      }
    }
  }
  void step(Queue& q) {
    const Work next = std::move(q.work.front());
    q.work.pop_front();
    if (next.run) {
      next.run();
    } else {
      drain(next.wait);
    }
    ++q.begun;
  }
  template <class Kernel>
  void loop(const Kernel& kernel) {
    queue(Lane::kCompute, [kernel] {
      for (std::size_t i = 0; i < kernel.count(); ++i) kernel(i);
    });
  }
  void drain(At at) {
    while (!reached(at)) step(of(at.lane));
  }

  std::vector<std::unique_ptr<Page[]>> memory_;
  std::vector<At> marks_;
  std::set<device::gpu::Mark> unset_;  // timers that were never set
  Queue queues_[3];
};

}  // namespace slalom::testing
