// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cli/image.h"
#include "model/plan.h"

namespace slalom::cli {

// resize scales a picture to height x width. A pixel covers a unit square, so output pixel i lies
// over input coordinates [i, i + 1) * in/out.
//   kNearest:  the input pixel under the centre of the output pixel.
//   kBilinear, kBicubic: the weighted mean of input pixels under a kernel (a triangle of radius 1;
//     the cubic of Keys, "Cubic convolution interpolation for digital image processing", 1981, eq.
//     4 with a = -1/2, radius 2), which is stretched by the scale when the picture shrinks, so that
//     every input pixel counts (no aliasing). Rows first, then columns, each rounded to 8 bits.
// This is what Pillow's Image.resize computes, to within 1 of 255. REQUIRES: height, width > 0.
Image resize(const Image& image, std::uint32_t height, std::uint32_t width,
             model::Interpolation interpolation);

}  // namespace slalom::cli
