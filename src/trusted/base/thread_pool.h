// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

namespace slalom::base {

// ThreadPool runs the iterations of one loop on a fixed set of threads and owns one piece of
// scratch memory for each of them. The thread that calls run() works too, as worker 0.
//
// Contract. run() is called by one thread at a time, and never from inside a task. Iterations are
// handed out one by one in increasing order; each runs exactly once; run() returns when all are
// done, and what they wrote is then visible to the caller. A run does not wait for threads that
// took no iteration, so a small loop costs little even when the others sleep. No call but
// reserve_scratch() allocates. Between runs, threads spin for about 50 microseconds, then sleep.
//
// Each thread of the pool sets MXCSR to its default (round to nearest even, no flushing of
// denormals): the requantisation rule depends on it. Worker 0 is the caller's thread, which must do
// the same.
//
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): what threads spin on has its own line
class ThreadPool {
 public:
  using Task = void (*)(void* context, std::size_t index, std::size_t worker);

  // threads counts the caller; at least 1. If the system refuses a thread the pool is smaller: see
  // size(). bind: each worker runs only on one of the processors that the caller may use, spread
  // over them evenly (worker i of t on number i * n / t of n), so that few threads do not share
  // cores; nothing is bound if there are fewer processors.
  explicit ThreadPool(std::size_t threads, bool bind = false);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return workers_.size() + 1; }

  // Bound binds the thread that makes it as worker 0 of a pool that binds, until it ends.
  class Bound {
   public:
    explicit Bound(const ThreadPool& pool) noexcept;
    ~Bound();
    Bound(const Bound&) = delete;
    Bound& operator=(const Bound&) = delete;

   private:
    cpu_set_t before_{};
    bool bound_ = false;
  };

  // run calls task(context, index, worker) for each index < count; worker < size().
  // REQUIRES: count < 2^32.
  void run(std::size_t count, Task task, void* context) noexcept;

  // parallel_for is run() for a callable body(index, worker), which must not throw.
  template <class Body>
  void parallel_for(std::size_t count, Body&& body) noexcept {
    using Callable = std::remove_reference_t<Body>;
    run(
        count,
        [](void* context, std::size_t index, std::size_t worker) {
          (*static_cast<Callable*>(context))(index, worker);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // reserve_scratch makes every worker's scratch at least this large; its contents are lost,
  // earlier pointers die. REQUIRES: no run in progress.
  void reserve_scratch(std::size_t bytes);
  // scratch is the memory of one worker, 64-byte aligned, for whoever runs; it keeps nothing
  // between runs. Different users of one pool share it.
  [[nodiscard]] std::span<std::byte> scratch(std::size_t worker) const noexcept {
    return {reinterpret_cast<std::byte*>(scratch_[worker].get()), scratch_bytes_};
  }

 private:
  struct Worker {
    ThreadPool* pool = nullptr;
    std::size_t number = 0;
    pthread_t thread{};
  };
  struct alignas(64) Line {
    std::byte bytes[64];  // NOLINT(modernize-avoid-c-arrays): left as it comes
  };

  static void* thread_main(void* worker) noexcept;
  void work(std::size_t worker) noexcept;
  [[nodiscard]] bool bind_caller(std::size_t worker) const noexcept;

  cpu_set_t processors_{};   // to bind to; empty: not bound
  std::size_t threads_ = 1;  // that were asked for
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::unique_ptr<Line[]>> scratch_;  // NOLINT(modernize-avoid-c-arrays)
  std::size_t scratch_bytes_ = 0;

  // The job. These three are written before unclaimed_ is released and read only by a thread that
  // has claimed an iteration of it, which keeps the job alive.
  Task task_ = nullptr;
  void* context_ = nullptr;
  std::uint32_t count_ = 0;

  alignas(64) std::atomic<std::uint32_t> unclaimed_{0};  // iterations that nobody took yet
  alignas(64) std::atomic<std::uint32_t> finished_{0};
  alignas(64) std::atomic<std::uint32_t> wake_{0};  // changes when there is a new job or the end
  std::atomic<bool> stop_{false};
};

}  // namespace slalom::base
