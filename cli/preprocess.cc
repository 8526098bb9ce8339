// SPDX-License-Identifier: Apache-2.0
#include "cli/preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "cli/resize.h"

namespace slalom::cli {
namespace {

struct Size {
  std::uint64_t height;
  std::uint64_t width;
};

Size resized(const Image& picture, const model::Preprocess& how) {
  if (how.resize_shorter == 0) return {how.crop_h, how.crop_w};
  const std::uint64_t s = how.resize_shorter;
  if (picture.width <= picture.height) return {s * picture.height / picture.width, s};
  return {s, s * picture.width / picture.height};
}

// round_half_even(n / 2).
std::uint64_t half(std::uint64_t n) { return n / 2 + ((n & 3U) == 3 ? 1 : 0); }

Image crop(const Image& image, const model::Preprocess& how) {
  Image out{how.crop_h, how.crop_w, image.channels, {}};
  const std::uint64_t top = half(image.height - how.crop_h);
  const std::uint64_t left = half(image.width - how.crop_w);
  const std::size_t row = static_cast<std::size_t>(how.crop_w) * image.channels;
  out.pixels.resize(how.crop_h * row);
  for (std::size_t y = 0; y < how.crop_h; ++y) {
    std::copy_n(&image.pixels[image.at(top + y, left)], row, &out.pixels[out.at(y, 0)]);
  }
  return out;
}

}  // namespace

Result<Image> prepare(const Image& picture, const model::Preprocess& how) {
  const Size size = resized(picture, how);
  if (how.crop_h == 0 || how.crop_w == 0 || size.height < how.crop_h || size.width < how.crop_w) {
    return Error{Errc::kMalformed, "the plan crops more than its resize leaves of this picture"};
  }
  if (size.height > kMaxPixels / size.width) {
    return Error{Errc::kMalformed, "it is too long and thin to be scaled"};
  }
  const Image scaled = resize(how.mean.size() == 1 ? to_grey(picture) : picture,
                              static_cast<std::uint32_t>(size.height),
                              static_cast<std::uint32_t>(size.width), how.interpolation);
  return crop(scaled, how);
}

std::vector<float> normalise(const Image& prepared, const model::Preprocess& how) {
  const std::size_t channels = prepared.channels;
  std::vector<float> values(prepared.pixels.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t c = i % channels;
    const std::size_t from = how.bgr ? i - c + (channels - 1 - c) : i;
    values[i] = (static_cast<float>(prepared.pixels[from]) - how.mean[c]) / how.std[c];
  }
  return values;
}

void quantise(std::span<const float> values, const model::TensorInfo& tensor,
              std::span<std::uint8_t> codes) {
  constexpr float kLimit = 0x1p30F;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float v = values[i] / tensor.scale;
    const float bounded = std::isnan(v) ? 0.0F : std::clamp(v, -kLimit, kLimit);
    const auto rounded = static_cast<std::int32_t>(std::nearbyint(bounded));
    codes[i] = static_cast<std::uint8_t>(std::clamp(rounded + tensor.zero_point, 0, 255));
  }
}

}  // namespace slalom::cli
