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

// make_onednn serves layers with oneDNN's int8 primitives (Debian's 2.6, C API), u8 x s8 -> s32, on
// processors with AVX-512 VNNI or AMX: below those its dense convolutions saturate. Depthwise
// stages, the epilogue and the cutting into tiles are our own; each primitive runs in the calling
// thread, so the pool alone decides on threads. Nothing if this build, CPU or layer cannot use it.
[[nodiscard]] std::unique_ptr<Engine> make_onednn(const model::Linear& layer,
                                                  const EngineOptions& options);

// all_candidates lists what this build has, fastest first, our own kernels last.
[[nodiscard]] std::span<const Candidate> all_candidates() noexcept;

// choose_engine returns the first candidate of the backend asked for that serves the layer and, if
// options.prove is set, proves exact on it. See make_engine for the errors.
[[nodiscard]] Result<std::unique_ptr<Engine>> choose_engine(const model::Linear& layer,
                                                            const EngineOptions& options,
                                                            std::span<const Candidate> candidates);

}  // namespace slalom::linear
