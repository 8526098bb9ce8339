// SPDX-License-Identifier: Apache-2.0
// slalom-trusted: the measured process. It is started with two or four arguments and an empty
// environment, reads no file by name, prints nothing, and speaks only the control protocol on the
// sockets that it was given:
//   slalom-trusted --control-fd N [--listen-fd N]
// Exit status: 0 after a shutdown or when its host is gone, 1 for wrong arguments, 4 when what it
// needs is not to be had, 5 when the kernel refuses to protect it.
#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "field/random.h"
#include "outside.h"
#include "runtime/executor.h"
#include "session/server.h"
#include "session/service.h"
#include "vault/stocked_pads.h"
#include "vault/store.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file

// ProcessMakers makes the real parts. Pad epoch and inference numbers live as long as the process.
class ProcessMakers final : public session::Makers {
 public:
  explicit ProcessMakers(vault::Epoch epoch) : epoch_(std::move(epoch)) {}

  Result<std::unique_ptr<runtime::Executor>> executor(const model::Plan& plan,
                                                      const runtime::Placement& placement,
                                                      const runtime::Options& options,
                                                      std::span<channel::Port* const> ports,
                                                      vault::Pads* pads) override {
    return runtime::Executor::create(plan, placement, options, ports, pads);
  }
  Result<std::unique_ptr<vault::Pads>> pads(const model::Plan& plan, const model::Digest& digest,
                                            const runtime::Placement& placement,
                                            const runtime::Options& options,
                                            vault::WhenDry when_dry,
                                            outside::Descriptor store) override {
    std::vector<std::uint32_t> nodes;
    for (std::size_t n = 0; n < placement.remote.size(); ++n) {
      if (placement.remote[n]) nodes.push_back(static_cast<std::uint32_t>(n));
    }
    std::unique_ptr<vault::BlobStore> blobs;  // none: stock stays in this process's memory
    if (store.valid()) blobs = std::make_unique<vault::FileStore>(std::move(store));
    auto made = vault::StockedPads::create(plan, digest, nodes, epoch_, numbers_, std::move(blobs),
                                           {.mode = options.privacy,
                                            .when_dry = when_dry,
                                            .cpu = options.cpu,
                                            .threads = options.threads,
                                            .batch = options.micro_batch});
    if (!made) return made.error();
    return std::unique_ptr<vault::Pads>(std::move(*made));
  }

 private:
  vault::Epoch epoch_;
  vault::InferenceNumbers numbers_;
};

// descriptor_argument reads "NAME N".
std::optional<int> descriptor_argument(const char* name, char** values) {
  if (std::strcmp(values[0], name) != 0) return std::nullopt;
  int out = -1;
  const char* end = values[1] + std::strlen(values[1]);
  const auto [stop, error] = std::from_chars(values[1], end, out);
  if (error != std::errc{} || stop != end || out < 3) return std::nullopt;
  return out;
}

}  // namespace

int main(int count, char** values) {
  if (count != 3 && count != 5) return 1;
  const auto control = descriptor_argument("--control-fd", values + 1);
  if (!control) return 1;
  outside::Descriptor listener;
  if (count == 5) {
    const auto given = descriptor_argument("--listen-fd", values + 3);
    if (!given || *given == *control) return 1;
    listener = outside::Descriptor(*given);
  }
  if (!outside::harden().ok()) return 5;
  const base::CpuFeatures cpu = base::detect_cpu();
  auto random = field::make_system_random(cpu);
  if (!random) return 4;
  auto epoch = vault::Epoch::draw(**random);
  if (!epoch) return 4;
  ProcessMakers makers(std::move(*epoch));
  session::Service service(makers, cpu);
  session::serve_process(service, outside::Descriptor(*control), std::move(listener));
  // Connections may still be at work on what lives above: the process ends here, without
  // destructors.
  _exit(0);
}
