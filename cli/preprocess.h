// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cli/image.h"
#include "model/plan.h"
#include "slalom/result.h"

// From a picture to the codes of a network's input, as the plan says (model::Preprocess). Where the
// plan is silent the rules are torchvision's, since most networks were trained with it:
// - resize_shorter = s > 0: the shorter side becomes s, the other floor(s * longer / shorter), the
//   proportions stay; 0: both sides are stretched to the crop. See resize.h for the arithmetic.
// - the crop is taken from the middle: first row round_half_even((height - crop_h) / 2), likewise
//   the column. A plan whose crop is larger than what the resize leaves is refused.
// - a network of one channel gets luma (image.h).
// All later steps are single binary32 operations in the order that plan.h states.

namespace slalom::cli {

// prepare resizes and crops: crop_h x crop_w pixels with as many channels as the network's input,
// in the order red, green, blue (`bgr` concerns the next step only). kMalformed: the crop does not
// fit.
Result<Image> prepare(const Image& picture, const model::Preprocess& how);

// normalise gives the real values of a prepared picture, channels last, in the network's channel
// order: (value - mean) / std.
std::vector<float> normalise(const Image& prepared, const model::Preprocess& how);

// quantise turns real values into codes of a u8 tensor:
// clamp(round_to_nearest_even(value / scale) + zero_point, 0, 255). Not a number becomes
// zero_point. REQUIRES: codes.size() == values.size(), tensor.dtype is u8.
void quantise(std::span<const float> values, const model::TensorInfo& tensor,
              std::span<std::uint8_t> codes);

}  // namespace slalom::cli
