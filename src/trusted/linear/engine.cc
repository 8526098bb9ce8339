// SPDX-License-Identifier: Apache-2.0
#include "linear/engine.h"

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "linear/candidates.h"
#include "linear/core.h"
#include "linear/kernels.h"
#include "linear/proof.h"
#include "linear/tiled_engine.h"

namespace slalom::linear {
namespace {

std::unique_ptr<Engine> make_fastest(const model::Linear& layer, const EngineOptions& options) {
  return make_engine_of(choose_kernels(options.cpu), layer, options);
}

// What the proof falls back on: AMX needs more of the system than an instruction (its registers are
// the kernel's and the hypervisor's to grant and to keep).
std::unique_ptr<Engine> make_without_tiles(const model::Linear& layer,
                                           const EngineOptions& options) {
  base::CpuFeatures cpu = options.cpu;
  cpu.amx_int8 = false;
  return make_engine_of(choose_kernels(cpu), layer, options);
}

constexpr std::array<Candidate, 2> kCandidates = {make_fastest, make_without_tiles};

}  // namespace

std::unique_ptr<Engine> make_engine_of(const Kernels& kernels, const model::Linear& layer,
                                       const EngineOptions& options) {
  const TilingTarget target{.threads = options.pool.size(),
                            .max_batch = options.max_batch,
                            .whole = layer.stages.size() > 1};
  std::vector<std::unique_ptr<Core>> cores;
  for (const model::ConvStage& stage : layer.stages) {
    cores.push_back(make_kernel_core(stage, kernels, target));
  }
  return make_tiled_engine(layer, options, kernels, std::move(cores));
}

std::span<const Candidate> all_candidates() noexcept { return kCandidates; }

Result<std::unique_ptr<Engine>> choose_engine(const model::Linear& layer,
                                              const EngineOptions& options,
                                              std::span<const Candidate> candidates) {
  for (const model::ConvStage& stage : layer.stages) {
    if (stage.conv.terms() > kMaxTerms) {
      return Error{Errc::kInvalidArgument, "a layer's sums have more than 2^24 terms"};
    }
  }
  for (const Candidate candidate : candidates) {
    auto engine = candidate(layer, options);
    if (engine == nullptr) continue;
    if (!options.prove || proves_exact(layer, options, *engine)) return engine;
  }
  return Error{Errc::kUnavailable, "no kernel computes a layer exactly on this processor"};
}

Result<std::unique_ptr<Engine>> make_engine(const model::Linear& layer,
                                            const EngineOptions& options) {
  return choose_engine(layer, options, all_candidates());
}

}  // namespace slalom::linear
