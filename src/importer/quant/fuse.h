// SPDX-License-Identifier: Apache-2.0
// fuse simplifies a Net without changing what it computes on real numbers.
#pragma once

#include "importer/quant/net.h"

namespace slalom::importer {

// fuse
// - takes a clamp through the MaxPool before it (both are monotone, so they commute);
// - joins functions of one number that follow one another;
// - makes clamps part of the operator before them, other functions part of a Linear (its table);
// - with fuse_separable, joins a depthwise convolution with the 1x1 convolution after it;
// - puts a function between two tensors that have to share a scale and have two (Identity);
// - drops what nobody reads.
void fuse(Net& net, bool fuse_separable);

}  // namespace slalom::importer
