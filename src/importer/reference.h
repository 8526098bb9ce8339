// SPDX-License-Identifier: Apache-2.0
// The reference interpreter of plans: the rules of model/plan.h written down as plainly as they
// are stated. Every other way to run a plan has to give these integers, bit for bit. It shares no
// code with the trusted runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/plan.h"

namespace slalom::importer {

// Codes is one tensor of one image in the order of model/plan.h (channels last): codes 0..255 of a
// u8 tensor, or the integers of an i32 tensor.
using Codes = std::vector<std::int32_t>;

// CodesObserver is called with every tensor as soon as it is known, inputs first, then in the
// order of Plan::nodes. The span is valid during the call only.
using CodesObserver = std::function<void(model::TensorId id, std::span<const std::int32_t> codes)>;

// run_reference runs one image on the calling thread. `inputs` and the result are in the order of
// Plan::inputs and Plan::outputs.
// REQUIRES: model::validate(plan); inputs of the right number and sizes, with codes in 0..255
// (aborts otherwise). Thread safe: the plan is only read.
[[nodiscard]] std::vector<Codes> run_reference(const model::Plan& plan,
                                               std::span<const Codes> inputs,
                                               const CodesObserver& observer = nullptr);

// run_reference_batch runs images independently of each other on `threads` threads (0: as many as
// the machine has) and returns their outputs in order. The same requirements.
[[nodiscard]] std::vector<std::vector<Codes>> run_reference_batch(
    const model::Plan& plan, std::span<const std::vector<Codes>> images, unsigned threads = 0);

// linear_sums returns Y[y][x][o] of a Linear: the exact sums before the bias, for input codes
// q = c + 128 whose zero point (and so padding code) is `zero_point`.
// REQUIRES: the operator is part of a valid plan; input.size() == linear.in().elements().
[[nodiscard]] std::vector<std::int64_t> linear_sums(const model::Linear& linear,
                                                    std::span<const std::int32_t> input,
                                                    std::int32_t zero_point);

// encode_reals turns real values (in the tensor's own order) into codes:
// requantise(f32(real / scale), zero_point, lo, hi) over the whole range of the type.
// REQUIRES: reals.size() == info.shape.elements(); no NaN.
[[nodiscard]] Codes encode_reals(const model::TensorInfo& info, std::span<const float> reals);

// decode_reals is scale * (q - zero_point) for each element, rounded to binary32 once.
[[nodiscard]] std::vector<float> decode_reals(const model::TensorInfo& info,
                                              std::span<const std::int32_t> codes);

}  // namespace slalom::importer
