// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "linear/engine.h"
#include "linear/kernels.h"
#include "model/plan.h"

namespace slalom::linear {

// Candidate is one way to compute linear layers. It returns nothing if it cannot serve this layer
// on this CPU; it need not be exact: that is for choose_engine to find out.
using Candidate = std::unique_ptr<Engine> (*)(const model::Linear& layer,
                                              const EngineOptions& options);

// make_engine_of serves layers with these kernels.
[[nodiscard]] std::unique_ptr<Engine> make_engine_of(const Kernels& kernels,
                                                     const model::Linear& layer,
                                                     const EngineOptions& options);

// all_candidates are the kernels of the processor, then those that do without its AMX.
[[nodiscard]] std::span<const Candidate> all_candidates() noexcept;

// choose_engine returns the first candidate that serves the layer and, if options.prove is set,
// proves exact on it. See make_engine for the errors.
[[nodiscard]] Result<std::unique_ptr<Engine>> choose_engine(const model::Linear& layer,
                                                            const EngineOptions& options,
                                                            std::span<const Candidate> candidates);

}  // namespace slalom::linear
