// SPDX-License-Identifier: Apache-2.0
// The largest sums that a Linear can produce, from its weights alone (docs/mathematics.md).

#include <algorithm>
#include <limits>

#include "model/plan.h"

namespace slalom::model {
namespace {

// Range holds every value that a sum can take, zero included; stage_range carries the ranges of a
// convolution's input channels to its output channels.
struct Range {
  std::int64_t low = 0;   // <= 0
  std::int64_t high = 0;  // >= 0
};
std::int64_t saturating_fma(std::int64_t sum, std::int64_t a, std::int64_t b) noexcept {
  std::int64_t product = 0;
  std::int64_t out = 0;
  if (__builtin_mul_overflow(a, b, &product) || __builtin_add_overflow(sum, product, &out)) {
    return (a < 0) == (b < 0) ? std::numeric_limits<std::int64_t>::max()
                              : std::numeric_limits<std::int64_t>::min() + 1;
  }
  return out;
}
std::vector<Range> stage_range(const ConvStage& stage, const std::vector<Range>& in) {
  const Conv& conv = stage.conv;
  std::vector<Range> out(conv.out.c);
  const std::int8_t* w = stage.weights.data();
  for (std::size_t o = 0; o < conv.out.c; ++o) {
    const std::size_t base = o / conv.group_out() * conv.group_in();
    Range& r = out[o];
    for (std::size_t tap = 0; tap < conv.taps(); ++tap) {
      for (std::size_t i = 0; i < conv.group_in(); ++i, ++w) {
        const Range& x = in[base + i];
        r.low = saturating_fma(r.low, *w, *w > 0 ? x.low : x.high);
        r.high = saturating_fma(r.high, *w, *w > 0 ? x.high : x.low);
      }
    }
  }
  return out;
}

}  // namespace

std::vector<std::int64_t> sum_bound(const Linear& linear) {
  std::vector<Range> range(linear.in().c, Range{-128, 127});
  for (const ConvStage& stage : linear.stages) range = stage_range(stage, range);
  std::vector<std::int64_t> out;
  out.reserve(range.size());
  for (const Range& r : range) out.push_back(std::max(r.high, -r.low));
  return out;
}

}  // namespace slalom::model
