// SPDX-License-Identifier: Apache-2.0
// What the way over TCP costs: jobs through a remote device on the loopback interface, to a device
// that computes nothing. bytes_per_second counts inputs and answers; with one job in flight the
// time is a round trip. Streams 0 is the same device without a network.
#include <benchmark/benchmark.h>

#include <deque>
#include <memory>
#include <vector>

#include "device/remote/remote_device.h"
#include "support/plans.h"
#include "support/remote_worker.h"

namespace slalom {
namespace {

class Idle final : public device::Device {
 public:
  Status load(std::shared_ptr<const model::Plan>, std::size_t) override { return {}; }
  Status run(const device::Job&) override { return {}; }
};

Result<std::unique_ptr<device::Device>> make_idle() {
  std::unique_ptr<device::Device> out = std::make_unique<Idle>();
  return out;
}

// One layer of codes: `side` squared positions, 16 bytes in and 48 out.
std::shared_ptr<const model::Plan> plan_of(std::uint32_t side) {
  testing::PlanBuilder b;
  const auto x = b.input({side, side, 16});
  return std::make_shared<const model::Plan>(b.finish({b.conv(x, {.out_c = 16})}));
}

// Arguments: side of the layer, streams, jobs in flight.
void jobs(benchmark::State& state) {
  const auto side = static_cast<std::uint32_t>(state.range(0));
  const auto streams = static_cast<std::size_t>(state.range(1));
  const auto flight = static_cast<std::size_t>(state.range(2));
  const testing::RemoteWorker worker({.make_device = make_idle});
  auto device = streams == 0 ? make_idle()
                             : device::make_remote_device(worker.address(), {.streams = streams});
  if (!device.ok() || !(*device)->load(plan_of(side), 1).ok()) {
    return state.SkipWithError("no device");
  }
  const std::size_t positions = std::size_t{side} * side;
  std::vector<std::byte> input(16 * positions);
  std::vector<std::vector<std::byte>> outputs(flight, std::vector<std::byte>(48 * positions));
  std::size_t begun = 0;
  const auto begin = [&] {
    return (*device)
        ->start({.layer = 0,
                 .batch = 1,
                 .attempt = begun,
                 .kind = channel::InputKind::kCodes,
                 .field = field::Field::kP24,
                 .input = input,
                 .output = outputs[begun++ % flight]})
        .ok();
  };
  bool good = true;
  for (std::size_t i = 1; i < std::min(flight, (*device)->depth()); ++i) good = good && begin();
  for ([[maybe_unused]] const auto step : state) {
    good = good && begin();
    good = good && (*device)->finish().ok();
  }
  if (!good) state.SkipWithError("a job failed");
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * positions) * 64);
}
BENCHMARK(jobs)
    ->ArgNames({"side", "streams", "in_flight"})
    ->ArgsProduct({{8}, {0, 1, 4}, {1}})
    ->ArgsProduct({{64, 512}, {0, 1, 2, 4, 8, 16}, {4}})
    ->UseRealTime();

}  // namespace
}  // namespace slalom
