// SPDX-License-Identifier: Apache-2.0
#include "field/requant.h"

#include <algorithm>

#include "base/assert.h"
#include "base/round_up.h"
#include "field/arithmetic.h"

namespace slalom::field {
namespace {

// weight_sums returns, for each output channel, the sum of the weights of all its taps; of a
// separable pair, the sum through both stages. |sum| < 2^62: a validated plan has |Y| < 2^30 with
// |code| = 128, and a stage's weights are at most 127 * 2^32.
std::vector<std::int64_t> weight_sums(const model::Linear& layer) {
  std::vector<std::int64_t> sums(layer.in().c, 1);
  for (const model::ConvStage& stage : layer.stages) {
    const model::Conv& conv = stage.conv;
    std::vector<std::int64_t> next(conv.out.c, 0);
    const std::int8_t* w = stage.weights.data();
    for (std::size_t o = 0; o < conv.out.c; ++o) {
      const std::size_t base = o / conv.group_out() * conv.group_in();
      for (std::size_t t = 0; t < conv.taps(); ++t) {
        for (std::size_t i = 0; i < conv.group_in(); ++i) next[o] += sums[base + i] * *w++;
      }
    }
    sums = std::move(next);
  }
  return sums;
}

}  // namespace

EpilogueTables::EpilogueTables(const model::Linear& layer)
    : multiplier_(base::round_up(layer.out().c, kChannelPad), layer.requant.multiplier[0]),
      table_(layer.requant.table),
      zero_point_(layer.requant.zero_point),
      lo_(layer.requant.lo),
      hi_(layer.requant.hi),
      tame_(std::ranges::max(layer.requant.multiplier) <= 0.5F) {
  if (layer.requant.multiplier.size() != 1) {
    std::ranges::copy(layer.requant.multiplier, multiplier_.begin());
  }
}

EpilogueTables::EpilogueTables(const model::Linear& layer, InputForm form, std::uint8_t pad_code)
    : EpilogueTables(layer) {
  SLALOM_ASSERT(layer.field.has_value());
  const Field f = *layer.field;
  threshold_.resize(multiplier_.size());
  offset_.resize(multiplier_.size());
  const std::vector<std::int64_t> sums = weight_sums(layer);
  const auto half = static_cast<std::int32_t>((modulus(f) - 1) / 2);
  for (std::size_t o = 0; o < sums.size(); ++o) {
    const std::int64_t shift = form == InputForm::kWords ? sums[o] * (pad_code - 128) : 0;
    const std::int32_t centred = to_signed(reduce_signed(shift, f), f);
    threshold_[o] = static_cast<std::uint32_t>(half - centred);
    offset_[o] = static_cast<std::int32_t>(static_cast<std::uint32_t>(centred) +
                                           static_cast<std::uint32_t>(layer.bias[o]));
  }
}

Epilogue EpilogueTables::requantising() const noexcept {
  return {threshold_.data(),
          offset_.data(),
          multiplier_.data(),
          zero_point_,
          lo_,
          hi_,
          table_.empty() ? nullptr : table_.data(),
          tame_};
}

}  // namespace slalom::field
