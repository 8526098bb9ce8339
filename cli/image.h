// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "slalom/result.h"

// Pictures from files that anybody may have made. Decoding is left to libjpeg-turbo and libpng;
// what is decided here is how large a picture may be and which way up it is.

namespace slalom::cli {

// Image is an 8-bit picture, rows from the top, pixels interleaved.
struct Image {
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::uint32_t channels = 3;  // 3: red, green, blue; 1: grey
  std::vector<std::uint8_t> pixels;

  [[nodiscard]] std::size_t at(std::size_t y, std::size_t x) const noexcept {
    return (y * width + x) * channels;
  }
  friend bool operator==(const Image&, const Image&) = default;
};

// Larger pictures are refused before memory is taken.
inline constexpr std::uint64_t kMaxPixels = 100'000'000;
inline constexpr std::uint64_t kMaxImageBytes = 256U << 20U;  // of an encoded file

// decode_image reads a JPEG (baseline or progressive; grey, YCbCr, RGB, CMYK) or a PNG (any kind;
// 16 bits are cut to 8, transparency is dropped) into RGB. A JPEG is turned upright by its EXIF
// orientation. All or nothing: damaged or cut-off files are kMalformed. Thread-safe.
Result<Image> decode_image(std::span<const std::byte> bytes);

// to_grey converts RGB to luma (ITU-R BT.601, in 16-bit fixed point): (19595 R + 38470 G + 7471 B +
// 32768) >> 16.
Image to_grey(const Image& rgb);

// exif_orientation finds the Orientation tag (EXIF 2.3, 4.6.4) of a JPEG file: 1 to 8, or 1 if
// there is none or it makes no sense. Never reads outside of `jpeg`.
unsigned exif_orientation(std::span<const std::byte> jpeg) noexcept;

// upright undoes an EXIF orientation of 1 to 8. REQUIRES: 1 <= orientation <= 8.
Image upright(Image image, unsigned orientation);

}  // namespace slalom::cli
