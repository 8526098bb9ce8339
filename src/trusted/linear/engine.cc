// SPDX-License-Identifier: Apache-2.0
#include "linear/engine.h"

#include <array>
#include <utility>
#include <vector>

#include "linear/candidates.h"
#include "linear/core.h"
#include "linear/kernels.h"
#include "linear/onednn_core.h"
#include "linear/portable.h"
#include "linear/proof.h"
#include "linear/tiled_engine.h"

namespace slalom::linear {
namespace {

// make_own serves layers with the first of our own kernels that the CPU supports.
std::unique_ptr<Engine> make_own(const model::Linear& layer, const EngineOptions& options) {
  for (const Kernels* kernels : all_kernels()) {
    if (!kernels->supported(options.cpu)) continue;
    const TilingTarget target{.threads = options.pool == nullptr ? 1 : options.pool->size(),
                              .max_batch = options.max_batch,
                              .whole = layer.stages.size() > 1};
    std::vector<std::unique_ptr<Core>> cores;
    for (const model::ConvStage& stage : layer.stages) {
      cores.push_back(make_kernel_core(stage, *kernels, target));
    }
    return make_tiled_engine(layer, options, kernels->name, *kernels, std::move(cores));
  }
  return nullptr;
}

constexpr std::array kCandidates = {
#ifdef SLALOM_WITH_ONEDNN
    Candidate{Backend::kOneDnn, "onednn", make_onednn},
#endif
    Candidate{Backend::kOwn, "own", make_own},
    Candidate{Backend::kPortable, "portable", make_portable},
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
    if (options.prove && candidate.backend != Backend::kPortable &&
        !proves_exact(layer, options, *engine)) {
      continue;
    }
    return engine;
  }
  return Error{Errc::kUnavailable, "the chosen backend cannot compute a layer on this processor"};
}

Result<std::unique_ptr<Engine>> make_engine(const model::Linear& layer,
                                            const EngineOptions& options) {
  return choose_engine(layer, options, all_candidates());
}

}  // namespace slalom::linear
