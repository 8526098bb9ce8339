// SPDX-License-Identifier: Apache-2.0
// Integer weights and proven bounds: how a layer of real numbers becomes a model::Linear.
//
// With input codes c = q - 128, zero point z (so c0 = z - 128), weight integers w and weight scales
// s_w[o], the real output is s_in * s_w[o] * (sum w*(c - c0)) + b[o], so
//   Y = sum w*c,  bias[o] = round(b[o] / (s_in * s_w[o])) - c0 * sum w.
// A tap in the padding reads c0 and adds nothing, as it should.
// The largest |Y| over all inputs is max(127 P + 128 N, 128 P + 127 N), where P and N are the sums
// of the positive and of the magnitudes of the negative weights (model::sum_bound).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "importer/quant/net.h"
#include "model/plan.h"

namespace slalom::importer {

// A channel keeps p24 if it has to give up at most this share of its weight scale, and p31 if at
// most two bits (DESIGN, section "Fields").
inline constexpr double kMaxLossP24 = 0.125;
inline constexpr double kMaxLossP31 = 0.75;

// IntegerLinear is a layer with integer weights.
struct IntegerLinear {
  std::vector<model::ConvStage> stages;
  std::vector<std::int32_t> bias;
  std::vector<double> unit;  // real value of one step of the sum, for each output channel
  std::optional<field::Field> field;
  std::int64_t bound = 0;  // the largest |Y|
  double scale_loss = 0.0;
  std::size_t channels_scaled = 0;
  std::size_t saturated = 0;  // imported weights of -128 that became -127
};

// LinearContext is what a layer's weights depend on besides themselves.
struct LinearContext {
  Quant in;
  // Mean real value of each input channel, to correct the bias by what rounding the weights does
  // to it; empty: no correction.
  std::vector<double> channel_mean;
};

// wanted_field is the field that the layer would choose alone.
std::optional<field::Field> wanted_field(const NetLinear& linear, const LinearContext& context);

// make_integer quantises a layer for a field; without one only |Y| + |bias| < 2^31 is asked for.
// REQUIRES: the field is at least wanted_field(). Throws Failure if imported integers do not fit.
IntegerLinear make_integer(const NetLinear& linear, const LinearContext& context,
                           std::optional<field::Field> field);

}  // namespace slalom::importer
