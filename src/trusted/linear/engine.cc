// SPDX-License-Identifier: Apache-2.0
#include "linear/engine.h"

#include <array>
#include <utility>
#include <vector>

#include "linear/candidates.h"
#include "linear/core.h"
#include "linear/kernels.h"
#include "linear/proof.h"
#include "linear/tiled_engine.h"

namespace slalom::linear {
namespace {

// make_own serves layers with the first of our own kernels that the CPU supports.
std::unique_ptr<Engine> make_own(const model::Linear& layer, const EngineOptions& options) {
  const Kernels& kernels = choose_kernels(options.cpu);
  const TilingTarget target{.threads = options.pool.size(),
                            .max_batch = options.max_batch,
                            .whole = layer.stages.size() > 1};
  std::vector<std::unique_ptr<Core>> cores;
  for (const model::ConvStage& stage : layer.stages) {
    cores.push_back(make_kernel_core(stage, kernels, target));
  }
  return make_tiled_engine(layer, options, kernels.name, kernels, std::move(cores));
}

constexpr std::array kCandidates = {
#ifdef SLALOM_WITH_ONEDNN
    Candidate{Backend::kOneDnn, make_onednn},
#endif
    Candidate{Backend::kOwn, make_own},
};

}  // namespace

std::span<const Candidate> all_candidates() noexcept { return kCandidates; }

Result<std::unique_ptr<Engine>> choose_engine(const model::Linear& layer,
                                              const EngineOptions& options,
                                              std::span<const Candidate> candidates) {
  for (const model::ConvStage& stage : layer.stages) {
    if (stage.conv.terms() > kMaxTerms) {
      return Error{Errc::kInvalidArgument, "a layer's sums have more than 2^24 terms"};
    }
  }
  for (const Candidate& candidate : candidates) {
    if (options.backend != Backend::kAuto && options.backend != candidate.backend) continue;
    // Without AMX our own kernels are as fast as oneDNN's.
    if (options.backend == Backend::kAuto && candidate.backend == Backend::kOneDnn &&
        !options.cpu.amx_int8) {
      continue;
    }
    auto engine = candidate.make(layer, options);
    if (engine == nullptr) continue;
    if (!options.prove || proves_exact(layer, options, *engine)) return engine;
  }
  return Error{Errc::kUnavailable, "the chosen backend cannot compute a layer on this processor"};
}

Result<std::unique_ptr<Engine>> make_engine(const model::Linear& layer,
                                            const EngineOptions& options) {
  return choose_engine(layer, options, all_candidates());
}

}  // namespace slalom::linear
