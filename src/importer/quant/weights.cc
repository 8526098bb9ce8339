// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/weights.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

constexpr std::int64_t kAccumulator = std::int64_t{1} << 31;

std::int64_t limit_of(std::optional<field::Field> f) {
  return f ? (field::modulus(*f) - 1) / 2 : kAccumulator - 1;
}

// Terms describes what one weight of the last stage multiplies: for a plain convolution a code, for
// a separable pair the sum of a depthwise channel.
struct Terms {
  // Of the sum of a channel of the first stage, for codes -128..127: largest and least value, and
  // its value if all codes are 1 (the sum of its weights). A code itself: 127, -128, 1.
  struct Channel {
    std::int64_t high = 127;
    std::int64_t low = -128;
    std::int64_t ones = 1;
  };
  std::vector<Channel> channels;
  std::size_t group_in = 1;
  std::size_t group_out = 1;

  [[nodiscard]] const Channel& of(std::size_t output, std::size_t term) const {
    return channels[output / group_out * group_in + term % group_in];
  }
};

struct Bound {
  std::int64_t magnitude = 0;
  std::int64_t ones = 0;  // the sum for codes that are all 1
};
Bound bound_of(std::span<const std::int8_t> weights, const Terms& terms, std::size_t output) {
  std::int64_t high = 0;
  std::int64_t low = 0;
  std::int64_t ones = 0;
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const std::int64_t w = weights[k];
    const Terms::Channel& channel = terms.of(output, k);
    high += w * (w > 0 ? channel.high : channel.low);
    low += w * (w > 0 ? channel.low : channel.high);
    ones += w * channel.ones;
  }
  return {std::max(high, -low), ones};
}

float largest_magnitude(std::span<const float> values) {
  float largest = 0.0F;
  for (const float v : values) {
    if (!std::isfinite(v)) fail("a weight is not finite");
    largest = std::max(largest, std::fabs(v));
  }
  return largest;
}

void round_weights(std::span<const float> weights, double scale, std::span<std::int8_t> out) {
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const auto code = static_cast<double>(std::lrint(weights[k] / scale));
    out[k] = static_cast<std::int8_t>(std::clamp(code, -127.0, 127.0));
  }
}

// RealLayer is a layer ready to be rounded: the last stage's weights with everything that can be
// taken out of the first stage already in them.
struct RealLayer {
  std::vector<model::ConvStage> stages;  // the last one's weights still empty
  std::vector<float> weights;            // of the last stage
  std::vector<double> bias;
  Terms terms;
  std::vector<double> first_sum;  // separable: real sum of each depthwise channel's weights
  std::vector<double> first_scale;
};

// round_first quantises the depthwise half, channel by channel. Its scales go into the weights of
// the pointwise half, whose own scales are per output channel, so the sums between the halves need
// no rounding.
void round_first(const FloatStage& stage, RealLayer& layer) {
  const model::Conv& conv = stage.conv;
  const std::vector<float> weights = stage.weights();
  model::ConvStage rounded{.conv = conv, .weights = std::vector<std::int8_t>(weights.size())};
  const std::size_t taps = conv.taps();
  layer.terms.channels.clear();
  for (std::size_t c = 0; c < conv.out.c; ++c) {
    const std::span<const float> row(weights.data() + c * taps, taps);
    const float largest = largest_magnitude(row);
    const double scale = largest > 0.0F ? largest / 127.0 : 1.0;
    const std::span<std::int8_t> out(rounded.weights.data() + c * taps, taps);
    round_weights(row, scale, out);
    Terms::Channel channel{.high = 0, .low = 0, .ones = 0};
    double sum = 0.0;
    for (std::size_t t = 0; t < taps; ++t) {
      const std::int64_t w = out[t];
      channel.high += w * (w > 0 ? 127 : -128);
      channel.low += w * (w > 0 ? -128 : 127);
      channel.ones += w;
      sum += row[t];
    }
    layer.terms.channels.push_back(channel);
    layer.first_scale.push_back(scale);
    layer.first_sum.push_back(sum);
  }
  layer.stages.push_back(std::move(rounded));
}

RealLayer real_layer(const NetLinear& linear) {
  RealLayer layer;
  const FloatStage& last = linear.stages.back();
  layer.weights = last.weights();
  layer.bias.assign(last.bias.begin(), last.bias.end());
  layer.bias.resize(last.conv.out.c, 0.0);
  layer.terms.channels.assign(last.conv.in.c, {});
  layer.terms.group_in = last.conv.group_in();
  layer.terms.group_out = last.conv.group_out();
  if (linear.stages.size() == 2) {
    const FloatStage& first = linear.stages.front();
    round_first(first, layer);
    const std::size_t inner = last.conv.in.c;
    for (std::size_t o = 0; o < last.conv.out.c; ++o) {
      for (std::size_t c = 0; c < inner; ++c) {
        float& w = layer.weights[o * inner + c];
        if (!first.bias.empty()) layer.bias[o] += static_cast<double>(w) * first.bias[c];
        w = static_cast<float>(w * layer.first_scale[c]);
      }
    }
  }
  layer.stages.push_back({.conv = last.conv, .weights = {}});
  return layer;
}

// Channel is one output channel after rounding.
struct Channel {
  double scale = 1.0;
  double full_scale = 1.0;  // before anything was given up
  Bound bound;
  std::int64_t bias = 0;
};

std::int64_t integer_bias(double bias, double unit, std::int64_t ones, const Quant& in) {
  const double steps = std::clamp(bias / unit, -9e15, 9e15);
  return static_cast<std::int64_t>(std::nearbyint(steps)) - (in.zero_point - 128) * ones;
}

// starting_scale spreads the weights over -127..127; a channel that is nearly all bias gets coarser
// weights, so that its bias stays below 2^29 steps.
double starting_scale(std::span<const float> weights, double bias, const Quant& in,
                      double fallback) {
  const double by_weights = largest_magnitude(weights) / 127.0;
  const double by_bias = std::fabs(bias) / (static_cast<double>(in.scale) * 0x1p29);
  const double scale = std::max(by_weights, by_bias);
  return scale > 0.0 ? scale : fallback;
}

// round_channel rounds a channel so that its bound and its accumulator stay in range; the scale
// grows until they do.
Channel round_channel(std::span<const float> weights, double bias, double scale, const Terms& terms,
                      std::size_t output, const Quant& in, std::int64_t limit,
                      std::span<std::int8_t> out) {
  Channel channel{.scale = scale, .full_scale = scale, .bound = {}, .bias = 0};
  while (true) {
    round_weights(weights, channel.scale, out);
    channel.bound = bound_of(out, terms, output);
    channel.bias = integer_bias(bias, in.scale * channel.scale, channel.bound.ones, in);
    const double over_field =
        static_cast<double>(channel.bound.magnitude) / static_cast<double>(limit);
    const double over_sum = (static_cast<double>(channel.bound.magnitude) +
                             std::abs(static_cast<double>(channel.bias))) /
                            static_cast<double>(kAccumulator - 1);
    const double over = std::max(over_field, over_sum);
    if (over <= 1.0) return channel;
    channel.scale *= std::max(over, 1.0 + 0x1p-10);
  }
}

// correction is how much the mean output of a channel changes by rounding its weights.
double correction(const RealLayer& layer, const NetLinear& linear, std::size_t output,
                  std::span<const float> real, std::span<const std::int8_t> rounded, double scale,
                  const std::vector<double>& mean) {
  double change = 0.0;
  const Terms& terms = layer.terms;
  const std::size_t base = output / terms.group_out * terms.group_in;
  const bool separable = linear.stages.size() == 2;
  for (std::size_t k = 0; k < real.size(); ++k) {
    const std::size_t c = base + k % terms.group_in;
    double exact = real[k];
    double rough = scale * rounded[k];
    if (separable) {
      exact *= layer.first_sum[c] / layer.first_scale[c];
      rough *= static_cast<double>(terms.channels[c].ones);
    }
    change += (exact - rough) * mean[c];
  }
  return change;
}

IntegerLinear round_layer(const NetLinear& linear, const LinearContext& context,
                          std::int64_t limit) {
  RealLayer layer = real_layer(linear);
  const model::Conv& conv = layer.stages.back().conv;
  const std::size_t terms = conv.terms();
  IntegerLinear result;
  std::vector<std::int8_t> rounded(conv.weights());
  const float layer_largest = largest_magnitude(layer.weights);
  const double fallback = layer_largest > 0.0F ? layer_largest / 127.0 : 1.0;
  for (std::size_t o = 0; o < conv.out.c; ++o) {
    const std::span<const float> row(layer.weights.data() + o * terms, terms);
    const std::span<std::int8_t> out(rounded.data() + o * terms, terms);
    const double start = starting_scale(row, layer.bias[o], context.in, fallback);
    Channel channel =
        round_channel(row, layer.bias[o], start, layer.terms, o, context.in, limit, out);
    if (!context.channel_mean.empty()) {
      const double corrected = layer.bias[o] + correction(layer, linear, o, row, out, channel.scale,
                                                          context.channel_mean);
      const std::int64_t bias =
          integer_bias(corrected, context.in.scale * channel.scale, channel.bound.ones, context.in);
      if (channel.bound.magnitude + std::abs(bias) < kAccumulator) channel.bias = bias;
    }
    result.unit.push_back(context.in.scale * channel.scale);
    result.bias.push_back(static_cast<std::int32_t>(channel.bias));
    result.bound = std::max(result.bound, channel.bound.magnitude);
    if (channel.scale > channel.full_scale) {
      ++result.channels_scaled;
      result.scale_loss = std::max(result.scale_loss, 1.0 - channel.full_scale / channel.scale);
    }
  }
  result.stages = std::move(layer.stages);
  result.stages.back().weights = std::move(rounded);
  return result;
}

// take_fixed keeps the integers of an imported network.
IntegerLinear take_fixed(const NetLinear& linear, const LinearContext& context) {
  const FixedWeights& fixed = *linear.fixed;
  const FloatStage& stage = linear.stages.back();
  const model::Conv& conv = stage.conv;
  const std::size_t terms = conv.terms();
  Terms codes;
  codes.channels.assign(conv.in.c, {});
  codes.group_in = conv.group_in();
  codes.group_out = conv.group_out();
  IntegerLinear result;
  result.saturated = fixed.saturated;
  for (std::size_t o = 0; o < conv.out.c; ++o) {
    const std::span<const std::int8_t> row(fixed.weights.data() + o * terms, terms);
    const Bound bound = bound_of(row, codes, o);
    const float scale = fixed.scales[fixed.scales.size() == 1 ? 0 : o];
    // The file's own arithmetic: the product of the two scales in binary32.
    const float unit = context.in.scale * scale;
    std::int64_t bias = 0;
    if (!fixed.bias.empty()) {
      const double bias_unit = fixed.bias_scales[fixed.bias_scales.size() == 1 ? 0 : o];
      const bool same_unit = std::fabs(bias_unit / unit - 1.0) < 1e-5;
      bias = same_unit
                 ? fixed.bias[o]
                 : static_cast<std::int64_t>(std::nearbyint(fixed.bias[o] * bias_unit / unit));
      bias -= (context.in.zero_point - 128) * bound.ones;
    } else {
      bias = integer_bias(stage.bias.empty() ? 0.0 : stage.bias[o], unit, bound.ones, context.in);
    }
    if (bound.magnitude + std::abs(bias) >= kAccumulator) {
      fail("the sums of output channel " + std::to_string(o) + " can leave 32 bits");
    }
    result.bias.push_back(static_cast<std::int32_t>(bias));
    result.unit.push_back(unit);
    result.bound = std::max(result.bound, bound.magnitude);
  }
  result.stages.push_back({.conv = conv, .weights = fixed.weights});
  return result;
}

// full_bound is the largest |Y| of a layer before anything is given up.
std::int64_t full_bound(const NetLinear& linear, const LinearContext& context) {
  const RealLayer layer = real_layer(linear);
  const model::Conv& conv = layer.stages.back().conv;
  const std::size_t terms = conv.terms();
  std::vector<std::int8_t> rounded(terms);
  std::int64_t largest = 0;
  for (std::size_t o = 0; o < conv.out.c; ++o) {
    const std::span<const float> row(layer.weights.data() + o * terms, terms);
    round_weights(row, starting_scale(row, layer.bias[o], context.in, 1.0), rounded);
    largest = std::max(largest, bound_of(rounded, layer.terms, o).magnitude);
  }
  return largest;
}

}  // namespace

std::optional<field::Field> wanted_field(const NetLinear& linear, const LinearContext& context) {
  const bool fixed = linear.fixed.has_value();
  const std::int64_t bound =
      fixed ? take_fixed(linear, context).bound : full_bound(linear, context);
  // The share of weight scale that the largest channel gives up to come down to the limit.
  const auto fits = [&](field::Field f, double allowed_loss) {
    const double kept = static_cast<double>(limit_of(f)) / static_cast<double>(bound);
    return kept >= 1.0 - (fixed ? 0.0 : allowed_loss);
  };
  if (fits(field::Field::kP24, kMaxLossP24)) return field::Field::kP24;
  if (fits(field::Field::kP31, kMaxLossP31)) return field::Field::kP31;
  return std::nullopt;
}

IntegerLinear make_integer(const NetLinear& linear, const LinearContext& context,
                           std::optional<field::Field> field) {
  IntegerLinear result =
      linear.fixed ? take_fixed(linear, context) : round_layer(linear, context, limit_of(field));
  result.field = field;
  return result;
}

}  // namespace slalom::importer
