// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "linear/engine.h"
#include "model/plan.h"

namespace slalom::linear {

// Candidate is one way to compute linear layers. make returns nothing if it cannot serve this layer
// on this CPU; it need not be exact: that is for choose_engine to find out.
struct Candidate {
  Backend backend = Backend::kOwn;
  std::unique_ptr<Engine> (*make)(const model::Linear& layer,
                                  const EngineOptions& options) = nullptr;
};

// all_candidates lists what this build has, fastest first, our own kernels last.
[[nodiscard]] std::span<const Candidate> all_candidates() noexcept;

// choose_engine returns the first candidate of the backend asked for that serves the layer and, if
// options.prove is set, proves exact on it. See make_engine for the errors.
[[nodiscard]] Result<std::unique_ptr<Engine>> choose_engine(const model::Linear& layer,
                                                            const EngineOptions& options,
                                                            std::span<const Candidate> candidates);

}  // namespace slalom::linear
