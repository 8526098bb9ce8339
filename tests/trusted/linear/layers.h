// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "field/prime.h"
#include "model/plan.h"

// Layers and data for the tests of slalom::linear, and the oracle: a loop over wide integers that
// shares no code and no order of work with the engines. Every sum in these tests is below 2^62:
// words times weights in two stages are at most 2^31 * (127 * 144) * (127 * 70).

namespace slalom::linear_test {

using Wide = std::int64_t;
using Random = std::mt19937_64;

inline std::uint32_t uniform(Random& random, std::uint32_t low, std::uint32_t high) {
  return low + static_cast<std::uint32_t>(random() % (high - low + 1));
}

struct Geometry {
  std::uint32_t h, w, in_c, out_c, groups;
  model::Window window;
};

inline std::uint32_t axis(std::uint32_t in, std::uint32_t kernel, std::uint32_t stride,
                          std::uint32_t dilation, std::uint32_t pads) {
  return (in + pads - dilation * (kernel - 1) - 1) / stride + 1;
}

// random_geometry draws small convolutions of every kind; depthwise ones have one or two outputs a
// channel.
inline Geometry random_geometry(Random& random, bool depthwise) {
  Geometry g{};
  model::Window& w = g.window;
  g.groups = 1;
  if (depthwise) {
    g.in_c = g.groups = uniform(random, 2, 70);
    g.out_c = g.in_c * (uniform(random, 0, 3) == 0 ? 2 : 1);
  } else {
    g.groups = uniform(random, 0, 3) == 0 ? uniform(random, 2, 4) : 1;
    g.in_c = g.groups * uniform(random, 1, 40);
    g.out_c = g.groups * uniform(random, 1, 40);
  }
  w.kernel_h = uniform(random, 1, 4);
  w.kernel_w = uniform(random, 1, 4);
  w.stride_h = uniform(random, 1, 3);
  w.stride_w = uniform(random, 1, 3);
  w.dilation_h = uniform(random, 1, 2);
  w.dilation_w = uniform(random, 1, 2);
  const std::uint32_t reach_h = (w.kernel_h - 1) * w.dilation_h;
  const std::uint32_t reach_w = (w.kernel_w - 1) * w.dilation_w;
  w.pad_top = uniform(random, 0, reach_h);
  w.pad_bottom = uniform(random, 0, reach_h);
  w.pad_left = uniform(random, 0, reach_w);
  w.pad_right = uniform(random, 0, reach_w);
  g.h = uniform(random, 1, 9) + reach_h;
  g.w = uniform(random, 1, 20) + reach_w;
  return g;
}

enum class Weights { kRandom, kAllMost, kAllLeast, kSignsByChannel, kSparse };

inline model::ConvStage make_stage(const Geometry& g, Weights kind, Random& random) {
  model::ConvStage stage;
  model::Conv& c = stage.conv;
  c.in = {g.h, g.w, g.in_c};
  c.window = g.window;
  c.groups = g.groups;
  const model::Window& w = g.window;
  c.out = {axis(g.h, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top + w.pad_bottom),
           axis(g.w, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left + w.pad_right), g.out_c};
  stage.weights.resize(c.weights());
  for (std::size_t i = 0; i < stage.weights.size(); ++i) {
    std::int32_t v = 0;
    switch (kind) {
      case Weights::kRandom:
        v = static_cast<std::int32_t>(uniform(random, 0, 254)) - 127;
        break;
      case Weights::kAllMost:
        v = 127;
        break;
      case Weights::kAllLeast:
        v = -127;
        break;
      case Weights::kSignsByChannel:
        v = (i / c.terms()) % 2 == 0 ? 127 : -127;
        break;
      case Weights::kSparse:
        v = uniform(random, 0, 3) == 0 ? 127 : 0;
        break;
    }
    stage.weights[i] = static_cast<std::int8_t>(v);
  }
  return stage;
}

// finish gives a layer random biases, multipliers of a size that uses the whole range of codes, a
// clamp and sometimes a table.
inline model::Linear finish(std::vector<model::ConvStage> stages, Random& random) {
  model::Linear layer;
  layer.stages = std::move(stages);
  const std::vector<std::int64_t> bounds = model::sum_bound(layer);
  for (const std::int64_t bound : bounds) {
    const auto limit = static_cast<std::uint32_t>(bound / 4);
    layer.bias.push_back(static_cast<std::int32_t>(uniform(random, 0, 2 * limit)) -
                         static_cast<std::int32_t>(limit));
    layer.requant.multiplier.push_back(static_cast<float>(uniform(random, 1, 4000)) /
                                       static_cast<float>(bound + 1));
  }
  if (uniform(random, 0, 3) == 0) layer.requant.multiplier.resize(1);
  layer.requant.zero_point = static_cast<std::int32_t>(uniform(random, 0, 255));
  layer.requant.lo = static_cast<std::int32_t>(uniform(random, 0, 100));
  layer.requant.hi = static_cast<std::int32_t>(uniform(random, 100, 255));
  if (uniform(random, 0, 2) == 0) {  // what follows a ReLU: some backends round it themselves
    layer.requant.zero_point = 0;
    layer.requant.lo = 0;
    layer.requant.hi = 255;
  }
  if (uniform(random, 0, 1) == 0) {
    layer.requant.table.resize(256);
    for (auto& entry : layer.requant.table) entry = static_cast<std::uint8_t>(random());
  }
  return layer;
}

inline std::vector<Wide> naive_stage(const model::ConvStage& stage, const std::vector<Wide>& x,
                                     Wide outside) {
  const model::Conv& c = stage.conv;
  const model::Window& w = c.window;
  const std::size_t big_h = w.pad_top + c.in.h + w.pad_bottom;
  const std::size_t big_w = w.pad_left + c.in.w + w.pad_right;
  std::vector<Wide> padded(big_h * big_w * c.in.c, outside);
  for (std::size_t y = 0; y < c.in.h; ++y) {
    for (std::size_t i = 0; i < c.in.w * c.in.c; ++i) {
      padded[((y + w.pad_top) * big_w + w.pad_left) * c.in.c + i] = x[y * c.in.w * c.in.c + i];
    }
  }
  std::vector<Wide> out(c.out.elements(), 0);
  for (std::size_t o = 0; o < c.out.c; ++o) {
    for (std::size_t ky = 0; ky < w.kernel_h; ++ky) {
      for (std::size_t kx = 0; kx < w.kernel_w; ++kx) {
        for (std::size_t i = 0; i < c.group_in(); ++i) {
          const Wide weight =
              stage.weights[((o * w.kernel_h + ky) * w.kernel_w + kx) * c.group_in() + i];
          const std::size_t channel = o / (c.out.c / c.groups) * c.group_in() + i;
          for (std::size_t y = 0; y < c.out.h; ++y) {
            for (std::size_t xx = 0; xx < c.out.w; ++xx) {
              const std::size_t row = y * w.stride_h + ky * w.dilation_h;
              const std::size_t column = xx * w.stride_w + kx * w.dilation_w;
              out[(y * c.out.w + xx) * c.out.c + o] +=
                  weight * padded[(row * big_w + column) * c.in.c + channel];
            }
          }
        }
      }
    }
  }
  return out;
}

// naive computes one image of a layer; the input is codes - 128 or words as they are.
inline std::vector<Wide> naive(const model::Linear& layer, std::vector<Wide> x, Wide outside) {
  for (const model::ConvStage& stage : layer.stages) {
    x = naive_stage(stage, x, outside);
    outside = 0;
  }
  return x;
}

inline Wide modulo(Wide v, field::Field f) {
  const Wide p = field::modulus(f);
  const Wide r = v % p;
  return r < 0 ? r + p : r;
}

enum class Data { kRandom, kLeast, kMost, kCentre, kAboveCentre, kEdges };

inline std::vector<std::uint8_t> make_codes(std::size_t n, Data kind, Random& random) {
  std::vector<std::uint8_t> codes(n);
  for (auto& q : codes) {
    switch (kind) {
      case Data::kLeast:
        q = 0;
        break;
      case Data::kMost:
        q = 255;
        break;
      case Data::kCentre:
        q = 128;
        break;
      case Data::kAboveCentre:
        q = 127;
        break;
      case Data::kEdges:
        q = (random() & 1) != 0 ? 0 : 255;
        break;
      case Data::kRandom:
        q = static_cast<std::uint8_t>(random());
        break;
    }
  }
  return codes;
}

inline std::vector<std::uint32_t> make_words(std::size_t n, field::Field f, Data kind,
                                             Random& random) {
  const std::uint32_t p = field::modulus(f);
  const std::uint32_t centre = field::limb_centre(f);
  const std::array edges = {0U, 1U, p - 1, p - 2, centre, centre + 1, p / 2, p / 2 + 1};
  std::vector<std::uint32_t> words(n);
  for (auto& v : words) {
    switch (kind) {
      case Data::kLeast:
        v = 0;
        break;
      case Data::kMost:
        v = p - 1;
        break;
      case Data::kCentre:
        v = centre;
        break;
      case Data::kAboveCentre:
        v = centre + 1;
        break;
      case Data::kEdges:
        v = edges[random() % edges.size()];
        break;
      case Data::kRandom:
        v = static_cast<std::uint32_t>(random() % p);
        break;
    }
  }
  return words;
}

inline constexpr std::array kAllData = {Data::kRandom, Data::kLeast,       Data::kMost,
                                        Data::kCentre, Data::kAboveCentre, Data::kEdges};
inline constexpr std::array kAllWeights = {Weights::kRandom, Weights::kAllMost, Weights::kAllLeast,
                                           Weights::kSignsByChannel, Weights::kSparse};

inline std::string describe(const model::Linear& layer) {
  std::string text;
  for (const model::ConvStage& s : layer.stages) {
    const model::Conv& c = s.conv;
    const model::Window& w = c.window;
    const auto add = [&](const char* name, std::uint32_t v) {
      text += std::string(" ") + name + std::to_string(v);
    };
    text += "[";
    add("h", c.in.h), add("w", c.in.w), add("c", c.in.c), add("o", c.out.c), add("g", c.groups);
    add("kh", w.kernel_h), add("kw", w.kernel_w), add("sh", w.stride_h), add("sw", w.stride_w);
    add("dh", w.dilation_h), add("dw", w.dilation_w), add("pt", w.pad_top), add("pl", w.pad_left);
    add("pb", w.pad_bottom), add("pr", w.pad_right);
    text += " ]";
  }
  return text;
}

}  // namespace slalom::linear_test
