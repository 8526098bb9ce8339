// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "importer/graph.h"

namespace slalom::importer {

// ChannelAffine is y = scale * x + shift for one channel.
struct ChannelAffine {
  double scale = 1.0;
  double shift = 0.0;
};

// channel_affine gives what a BatchNormalization in inference form does to each channel:
// scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale (Ioffe and Szegedy,
// "Batch Normalization", ICML 2015, algorithm 2, step 11).
// REQUIRES: float32 tensors of one size.
std::vector<ChannelAffine> channel_affine(const Node& node, const Tensor& scale, const Tensor& bias,
                                          const Tensor& mean, const Tensor& variance);

}  // namespace slalom::importer
