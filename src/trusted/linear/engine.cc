// SPDX-License-Identifier: Apache-2.0
#include "linear/engine.h"

#include <array>

#include "linear/candidates.h"
#include "linear/portable.h"

namespace slalom::linear {
namespace {

constexpr std::array kCandidates = {
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
    auto engine = candidate.make(layer, options);
    if (engine == nullptr) continue;
    return engine;
  }
  return Error{Errc::kUnavailable, "the chosen backend cannot compute a layer on this processor"};
}

Result<std::unique_ptr<Engine>> make_engine(const model::Linear& layer,
                                            const EngineOptions& options) {
  return choose_engine(layer, options, all_candidates());
}

}  // namespace slalom::linear
