// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "session/service.h"
#include "support/plans.h"

// Stand-ins for the parts that a session::Service puts together, for tests of the service and of
// the control protocol alone.

namespace slalom::testing {

// FakeExecutor returns each image's codes plus one as its only output; an image whose first code is
// 255 is rejected, 254 ends the run.
class FakeExecutor final : public runtime::Executor {
 public:
  explicit FakeExecutor(const model::Plan& plan) : plan_(plan) {}

  Status run(runtime::Source& source, runtime::Sink& sink) override {
    std::vector<std::uint8_t> codes(plan_.tensors[plan_.inputs[0]].shape.elements());
    for (std::uint64_t image = 0; source.next(codes); ++image) {
      ++stats_.images;
      if (codes[0] == 255) {
        sink.fail(image, {Errc::kRejected, "a device gave a wrong answer"});
        continue;
      }
      if (codes[0] == 254) return Error{Errc::kUnavailable, "no device is left"};
      for (auto& c : codes) ++c;
      const std::array<std::int32_t, 2> integers{static_cast<std::int32_t>(image), -7};
      const std::array<runtime::OutputView, 2> views{runtime::OutputView{3, codes, {}},
                                                     runtime::OutputView{4, {}, integers}};
      sink.deliver(image, views);
    }
    return {};
  }
  [[nodiscard]] runtime::Stats stats() const noexcept override { return stats_; }

 private:
  const model::Plan& plan_;
  runtime::Stats stats_{.layers_checked = 3, .soundness_bits = 42.5};
};

class FakePads final : public vault::Pads {
 public:
  Result<vault::PadTicket> take() override { return vault::PadTicket{}; }
  Status pad_key(const vault::PadTicket&, model::TensorId, field::StreamKey&) override {
    return {};
  }
  Status open_factors(const vault::PadTicket&, std::uint32_t, field::Field, std::size_t,
                      std::span<std::uint32_t>) override {
    return {};
  }
  void destroy(const vault::PadTicket&) override {}
  Result<std::uint64_t> prepare(std::uint64_t count, Progress progress, void* context) override {
    std::uint64_t made = 0;
    while (made < count) {
      ++made;
      ++stock_;
      if (!progress(context, made, count)) break;
      if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return made;
  }
  [[nodiscard]] std::uint64_t stock() const noexcept override { return stock_; }
  [[nodiscard]] std::uint64_t bytes_per_image() const noexcept override { return 1000; }

  [[nodiscard]] bool dead_stock() const noexcept override { return dead; }

  bool slow = false;
  bool dead = false;

 private:
  std::atomic<std::uint64_t> stock_{0};
};

class FakeMakers final : public session::Makers {
 public:
  Result<std::unique_ptr<runtime::Executor>> executor(const model::Plan& plan,
                                                      const runtime::Placement& placement,
                                                      const runtime::Options& options,
                                                      std::span<channel::Port* const> ports,
                                                      vault::Pads* pads) override {
    ++executors;
    last_options = options;
    last_placement = placement;
    last_ports = ports.size();
    last_pads = pads;
    if (options.soundness_bits == 200) return Error{Errc::kInvalidArgument, "too many bits"};
    return std::unique_ptr<runtime::Executor>(std::make_unique<FakeExecutor>(plan));
  }
  Result<std::unique_ptr<vault::Pads>> pads(const model::Plan&, const model::Digest&,
                                            const runtime::Placement&, const runtime::Options&,
                                            vault::WhenDry, outside::Descriptor store) override {
    ++vaults;
    last_store = store.valid();
    auto made = std::make_unique<FakePads>();
    made->slow = slow_pads;
    made->dead = dead_stock;
    return std::unique_ptr<vault::Pads>(std::move(made));
  }

  int executors = 0;
  int vaults = 0;
  bool slow_pads = false;
  bool dead_stock = false;
  bool last_store = false;
  std::size_t last_ports = 0;
  vault::Pads* last_pads = nullptr;
  runtime::Options last_options;
  runtime::Placement last_placement;
};

// session_plan has an input of 4x4x3 (48 codes), two convolutions with fields and a dense layer.
inline model::Plan session_plan() {
  PlanBuilder b;
  auto t = b.input({4, 4, 3});
  t = b.conv(t, {.out_c = 4});
  t = b.conv(t, {.out_c = 4});
  t = b.reshape(t, {1, 1, 64});
  t = b.dense(t, 5);
  return b.finish({t});
}

// socket_pair returns two connected stream sockets.
inline std::pair<outside::Descriptor, outside::Descriptor> socket_pair() {
  std::array<int, 2> ends{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) std::abort();
  return {outside::Descriptor(ends[0]), outside::Descriptor(ends[1])};
}

}  // namespace slalom::testing
