// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "linear/engine.h"
#include "model/plan.h"

namespace slalom::linear {

// make_onednn serves layers with oneDNN's int8 primitives (Debian's 2.6, C API), u8 x s8 -> s32, on
// processors with AVX-512 VNNI or AMX: below those its dense convolutions saturate. Depthwise
// stages, the epilogue and the cutting into tiles are our own; each primitive runs in the calling
// thread, so the pool alone decides on threads. Nothing if this build, CPU or layer cannot use it.
[[nodiscard]] std::unique_ptr<Engine> make_onednn(const model::Linear& layer,
                                                  const EngineOptions& options);

}  // namespace slalom::linear
