// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "linear/engine.h"
#include "model/plan.h"

namespace slalom::linear {

// proves_exact runs an engine on worst-case data of its own layer and compares a sample of
// positions, all channels, with plain loops: random codes and words everywhere, and
// at each sampled position the inputs that drive one output channel to its largest or smallest sum
// (codes 0 and 255 by the sign of each weight; words whose digits are all extreme). An
// implementation that saturates, rounds or misplaces anything shows at once. Where tiles span
// images, later images and full batches are compared too; where images are rows, more batch sizes.
[[nodiscard]] bool proves_exact(const model::Linear& layer, const EngineOptions& options,
                                Engine& engine);

}  // namespace slalom::linear
