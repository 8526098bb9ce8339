// SPDX-License-Identifier: Apache-2.0
// Linear: exact sums, bias, requantisation.
#include <algorithm>
#include <cstddef>

#include "importer/reference_ops.h"

namespace slalom::importer {
namespace {

using model::Conv;
using model::ConvStage;

// Patch gathers what one output position of one group reads, in the order of the weights
// [kernel_h][kernel_w][group_in]; taps outside the input read `padding`.
template <class T>
void gather_patch(const Conv& conv, std::span<const T> input, std::size_t group, std::size_t oy,
                  std::size_t ox, T padding, std::vector<T>& patch) {
  const model::Window& w = conv.window;
  std::size_t at = 0;
  for (std::size_t ky = 0; ky < w.kernel_h; ++ky) {
    for (std::size_t kx = 0; kx < w.kernel_w; ++kx) {
      const auto y = static_cast<std::ptrdiff_t>(oy * w.stride_h + ky * w.dilation_h) -
                     static_cast<std::ptrdiff_t>(w.pad_top);
      const auto x = static_cast<std::ptrdiff_t>(ox * w.stride_w + kx * w.dilation_w) -
                     static_cast<std::ptrdiff_t>(w.pad_left);
      const bool inside = y >= 0 && x >= 0 && y < static_cast<std::ptrdiff_t>(conv.in.h) &&
                          x < static_cast<std::ptrdiff_t>(conv.in.w);
      const std::size_t count = conv.group_in();
      if (inside) {
        const std::size_t from =
            (static_cast<std::size_t>(y) * conv.in.w + static_cast<std::size_t>(x)) * conv.in.c +
            group * count;
        std::copy_n(input.begin() + static_cast<std::ptrdiff_t>(from), count,
                    patch.begin() + static_cast<std::ptrdiff_t>(at));
      } else {
        std::fill_n(patch.begin() + static_cast<std::ptrdiff_t>(at), count, padding);
      }
      at += count;
    }
  }
}

// Sums are exact: a valid plan keeps every |Y| < 2^31, and a partial sum is the sum of another
// input (the remaining codes 0), so it is in range as well.
std::int32_t dot(const std::int16_t* a, const std::int16_t* b, std::size_t count) {
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += static_cast<std::int32_t>(a[i]) * b[i];
  return sum;
}
std::int64_t dot(const std::int32_t* a, const std::int16_t* b, std::size_t count) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += static_cast<std::int64_t>(a[i]) * b[i];
  return sum;
}

// convolve computes one stage; In is int16 (codes, sums in int32) or int32 (sums in int64).
template <class Sum, class In>
std::vector<Sum> convolve(const ConvStage& stage, std::span<const In> input, In padding) {
  const Conv& conv = stage.conv;
  const std::size_t terms = conv.terms();
  const std::vector<std::int16_t> weights(stage.weights.begin(), stage.weights.end());
  std::vector<Sum> sums(conv.out.elements());
  std::vector<In> patch(terms);
  for (std::size_t oy = 0; oy < conv.out.h; ++oy) {
    for (std::size_t ox = 0; ox < conv.out.w; ++ox) {
      Sum* row = sums.data() + (oy * conv.out.w + ox) * conv.out.c;
      for (std::size_t group = 0; group < conv.groups; ++group) {
        gather_patch<In>(conv, input, group, oy, ox, padding, patch);
        for (std::size_t i = 0; i < conv.group_out(); ++i) {
          const std::size_t o = group * conv.group_out() + i;
          row[o] = dot(patch.data(), weights.data() + o * terms, terms);
        }
      }
    }
  }
  return sums;
}

}  // namespace

std::vector<std::int64_t> linear_sums(const model::Linear& linear,
                                      std::span<const std::int32_t> input,
                                      std::int32_t zero_point) {
  std::vector<std::int16_t> codes;
  codes.reserve(input.size());
  for (const std::int32_t q : input) codes.push_back(static_cast<std::int16_t>(q - 128));
  const auto padding = static_cast<std::int16_t>(zero_point - 128);
  const std::vector<std::int32_t> first =
      convolve<std::int32_t, std::int16_t>(linear.stages[0], codes, padding);
  if (linear.stages.size() == 1) return {first.begin(), first.end()};
  // The second stage of a separable pair is 1x1 without padding.
  return convolve<std::int64_t, std::int32_t>(linear.stages[1], first, 0);
}

namespace reference {

Codes apply(const model::Linear& op, Operands in, const model::TensorInfo& out) {
  const std::vector<std::int64_t> sums = linear_sums(op, in[0].codes, in[0].info->zero_point);
  const model::Requant& r = op.requant;
  const std::size_t channels = out.shape.c;
  Codes codes(sums.size());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const std::size_t o = i % channels;
    const auto acc = static_cast<float>(sums[i] + op.bias[o]);
    const float multiplier = r.multiplier[r.multiplier.size() == 1 ? 0 : o];
    codes[i] = requantise(acc * multiplier, r.zero_point, {r.lo, r.hi});
    if (!r.table.empty()) codes[i] = r.table[static_cast<std::size_t>(codes[i])];
  }
  return codes;
}

}  // namespace reference
}  // namespace slalom::importer
