// SPDX-License-Identifier: Apache-2.0
#include "cli/resize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace slalom::cli {
namespace {

double triangle(double x) { return std::max(0.0, 1.0 - std::fabs(x)); }

double keys_cubic(double x) {
  constexpr double kA = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((kA + 2) * x - (kA + 3)) * x * x + 1;
  if (x < 2) return kA * (((x - 5) * x + 8) * x - 4);
  return 0;
}

// Taps says how one output coordinate is made: weights of the inputs from `first` on, in units of
// 2^-22 and summing to about 2^22.
struct Taps {
  std::size_t first = 0;
  std::vector<std::int32_t> weights;
};
constexpr int kWeightBits = 22;  // 255 * 2^22 * (the cubic's largest absolute sum, 1.25) < 2^31

std::vector<Taps> make_taps(std::uint32_t in, std::uint32_t out,
                            model::Interpolation interpolation) {
  std::vector<Taps> all(out);
  const double scale = static_cast<double>(in) / out;
  const bool cubic = interpolation == model::Interpolation::kBicubic;
  const double stretch = std::max(scale, 1.0);
  const double radius = (cubic ? 2.0 : 1.0) * stretch;
  for (std::uint32_t i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    Taps& taps = all[i];
    if (interpolation == model::Interpolation::kNearest) {
      taps.first = std::min<std::size_t>(static_cast<std::size_t>(centre), in - 1);
      taps.weights = {1 << kWeightBits};
      continue;
    }
    // Input pixels whose centre may lie within the radius.
    taps.first = static_cast<std::size_t>(std::max(0.0, centre - radius + 0.5));
    const auto end =
        static_cast<std::size_t>(std::min(static_cast<double>(in), centre + radius + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (std::size_t x = taps.first; x < end; ++x) {
      const double distance = (static_cast<double>(x) + 0.5 - centre) / stretch;
      weights.push_back(cubic ? keys_cubic(distance) : triangle(distance));
      sum += weights.back();
    }
    for (const double w : weights) {
      taps.weights.push_back(static_cast<std::int32_t>(std::lround(w / sum * (1 << kWeightBits))));
    }
  }
  return all;
}

std::uint8_t rounded(std::int64_t sum) {
  const std::int64_t half = std::int64_t{1} << (kWeightBits - 1);
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>((sum + half) >> kWeightBits, 0, 255));
}

// One pass: `lines` independent lines of `out` samples each, neighbours `step` bytes apart in both
// pictures; consecutive lines begin where `start` says.
template <class Start>
void pass(const std::vector<Taps>& all, std::size_t lines, std::size_t step, const std::uint8_t* in,
          std::uint8_t* out, Start start) {
  for (std::size_t line = 0; line < lines; ++line) {
    const auto [from, to] = start(line);
    for (std::size_t i = 0; i < all.size(); ++i) {
      std::int64_t sum = 0;
      const std::uint8_t* sample = in + from + all[i].first * step;
      for (const std::int32_t w : all[i].weights) {
        sum += static_cast<std::int64_t>(w) * *sample;
        sample += step;
      }
      out[to + i * step] = rounded(sum);
    }
  }
}

}  // namespace

Image resize(const Image& image, std::uint32_t height, std::uint32_t width,
             model::Interpolation interpolation) {
  struct Begin {
    std::size_t from;
    std::size_t to;
  };
  const std::size_t c = image.channels;
  Image wide{image.height, width, image.channels, {}};
  if (width == image.width) {
    wide.pixels = image.pixels;
  } else {
    wide.pixels.resize(static_cast<std::size_t>(image.height) * width * c);
    pass(make_taps(image.width, width, interpolation), image.height * c, c, image.pixels.data(),
         wide.pixels.data(), [&](std::size_t line) {
           const std::size_t row = line / c;
           return Begin{image.at(row, 0) + line % c, wide.at(row, 0) + line % c};
         });
  }
  if (height == image.height) return wide;
  Image out{height, width, image.channels, {}};
  const std::size_t row = width * c;
  out.pixels.resize(height * row);
  pass(make_taps(image.height, height, interpolation), row, row, wide.pixels.data(),
       out.pixels.data(), [](std::size_t line) {
         return Begin{line, line};
       });
  return out;
}

}  // namespace slalom::cli
