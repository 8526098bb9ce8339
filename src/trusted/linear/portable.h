// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "linear/engine.h"
#include "model/plan.h"

namespace slalom::linear {

// make_portable prepares the specification of a linear layer: plain loops, no tricks. Every other
// implementation must return the same integers.
[[nodiscard]] std::unique_ptr<Engine> make_portable(const model::Linear& layer,
                                                    const EngineOptions& options);

}  // namespace slalom::linear
