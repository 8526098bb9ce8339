// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "field/challenge.h"
#include "field/requant.h"
#include "trusted/field/support.h"
#include "trusted/linear/layers.h"

// One layer, an image, and what an honest device answers: the world around a check, computed by the
// oracle of tests/trusted/linear/layers.h.

namespace slalom::field::test {

using linear_test::Geometry;
using linear_test::Wide;

inline Geometry random_geometry(Dice& dice, bool depthwise, std::uint32_t most_channels) {
  const auto pick = [&](std::uint64_t lo, std::uint64_t hi) {
    return static_cast<std::uint32_t>(lo + dice.below(hi - lo + 1));
  };
  Geometry g{};
  g.window = {.kernel_h = pick(1, 4),
              .kernel_w = pick(1, 4),
              .stride_h = pick(1, 3),
              .stride_w = pick(1, 3),
              .dilation_h = pick(1, 2),
              .dilation_w = pick(1, 2)};
  const std::uint32_t reach_h = (g.window.kernel_h - 1) * g.window.dilation_h;
  const std::uint32_t reach_w = (g.window.kernel_w - 1) * g.window.dilation_w;
  g.window.pad_top = pick(0, reach_h);
  g.window.pad_bottom = pick(0, reach_h);
  g.window.pad_left = pick(0, reach_w);
  g.window.pad_right = pick(0, reach_w);
  g.h = pick(reach_h + 1, reach_h + 6);
  g.w = pick(reach_w + 1, reach_w + 6);
  if (depthwise) {
    g.groups = g.in_c = pick(1, most_channels);
    g.out_c = g.groups * pick(1, 2);
  } else {
    g.groups = pick(1, 3);
    g.in_c = g.groups * pick(1, most_channels);
    g.out_c = g.groups * pick(1, most_channels);
  }
  return g;
}

// random_layer is any of: convolution with groups, depthwise, separable, dense.
inline model::Linear random_layer(Dice& dice, std::uint32_t most_channels, Field f) {
  linear_test::Random random(dice.bits());
  const auto weights = linear_test::kAllWeights[dice.below(linear_test::kAllWeights.size())];
  std::vector<model::ConvStage> stages;
  const std::uint64_t kind = dice.below(4);
  Geometry g = random_geometry(dice, kind <= 1, most_channels);
  if (kind == 3) {
    g = {1,
         1,
         1 + static_cast<std::uint32_t>(dice.below(5ULL * most_channels)),
         1 + static_cast<std::uint32_t>(dice.below(5ULL * most_channels)),
         1,
         {}};
  }
  if (kind == 0) g.out_c = g.in_c;
  stages.push_back(linear_test::make_stage(g, weights, random));
  if (kind == 0) {
    const model::Shape middle = stages[0].conv.out;
    const Geometry second{middle.h, middle.w,
                          middle.c, 1 + static_cast<std::uint32_t>(dice.below(most_channels)),
                          1,        {}};
    stages.push_back(linear_test::make_stage(second, weights, random));
  }
  model::Linear layer = linear_test::finish(std::move(stages), random);
  layer.field = f;
  return layer;
}

inline bool fits(const model::Linear& layer) {
  for (const std::int64_t bound : model::sum_bound(layer)) {
    if (bound > (modulus(*layer.field) - 1) / 2) return false;
  }
  return true;
}

// Image is an input with the honest answer to it.
struct Image {
  std::vector<std::uint8_t> codes;
  std::vector<std::int32_t> y;       // the plan's Y
  std::vector<std::uint32_t> u;      // words form: what the pad adds
  std::vector<std::uint32_t> words;  // what an honest device answers

  Image(const CheckedLayer& asked, Dice& dice) : codes(dice.codes(asked.linear->in().elements())) {
    const model::Linear& layer = *asked.linear;
    const Field f = *layer.field;
    std::vector<Wide> x;
    for (const std::uint8_t q : codes) x.push_back(Wide{q} - 128);
    const std::vector<Wide> exact = linear_test::naive(layer, x, Wide{asked.pad_code} - 128);
    for (const Wide v : exact) y.push_back(static_cast<std::int32_t>(v));
    if (asked.form == InputForm::kCodes) {
      for (const Wide v : exact) words.push_back(word(v, f));
      return;
    }
    std::vector<Wide> r;
    for (const std::uint32_t w : dice.words(f, codes.size())) r.push_back(w);
    std::vector<Wide> sent;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      sent.push_back(linear_test::modulo(Wide{codes[i]} - asked.pad_code + r[i], f));
    }
    for (const Wide v : linear_test::naive(layer, r, 0)) u.push_back(word(v, f));
    for (const Wide v : linear_test::naive(layer, sent, 0)) words.push_back(word(v, f));
  }

  static std::uint32_t word(Wide v, Field f) {
    return static_cast<std::uint32_t>(linear_test::modulo(v, f));
  }
};

inline std::vector<std::byte> packed(const std::vector<std::uint32_t>& words, Field f) {
  std::vector<std::byte> out(words.size() * word_bytes(f));
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::memcpy(out.data() + i * word_bytes(f), &words[i], word_bytes(f));
  }
  return out;
}

// exact_value is what consume_image makes of one Y.
inline std::int32_t exact_value(std::int32_t y, std::int32_t bias) {
  return static_cast<std::int32_t>(std::clamp(static_cast<float>(y + bias), -0x1p30F, 0x1p30F));
}

// consume_image takes an answer in random tiles, as the runtime would, and returns what came of it:
// values are Y + bias in binary32, by multipliers of 1 and the widest clamp.
inline OutputSum consume_image(const Kernels& kernels, const model::Linear& layer,
                               const OutputChallenge& challenge, Epilogue epilogue,
                               const Image& image, const std::vector<std::uint32_t>& words,
                               Dice& dice, std::vector<std::int32_t>& values) {
  const Field f = *layer.field;
  const std::vector<std::byte> slot = packed(words, f);
  const std::size_t channels = layer.out().c;
  const std::size_t positions = layer.out().positions();
  values.resize(positions * channels);
  const std::vector<float> ones(channels + kChannelPad, 1.0F);
  epilogue.multiplier = ones.data();
  epilogue.zero_point = 0;
  epilogue.lo = -(1 << 30);
  epilogue.hi = 1 << 30;
  OutputSum total;
  for (std::size_t pos = 0; pos < positions;) {
    const std::size_t count = 1 + dice.below(positions - pos);
    OutputTile tile{f, count, channels, slot.data() + pos * channels * word_bytes(f),
                    image.u.empty() ? nullptr : image.u.data() + pos * channels};
    OutputSum part;
    kernels.consume_integers(tile, challenge.from(pos), epilogue, values.data() + pos * channels,
                             part);
    merge(f, total, part);
    pos += count;
  }
  return total;
}

inline Residues check_image(const Kernels& kernels, const CheckVector& vector, const Image& image,
                            Dice& dice) {
  Residues total;
  for (std::size_t first = 0; first < vector.elements;) {
    const std::size_t n = 1 + dice.below(vector.elements - first);
    const std::uint8_t* codes = image.codes.data() + first;
    kernels.check_input(vector, first, n, &codes, 1, &total);
    first += n;
  }
  return total;
}

}  // namespace slalom::field::test
