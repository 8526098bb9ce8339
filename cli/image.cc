// SPDX-License-Identifier: Apache-2.0
#include "cli/image.h"

#include <png.h>
#include <turbojpeg.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

namespace slalom::cli {
namespace {

constexpr Error kTooLarge{Errc::kMalformed, "it has more than 100 million pixels"};
constexpr Error kBadJpeg{Errc::kMalformed, "it is a damaged JPEG file"};
constexpr Error kBadPng{Errc::kMalformed, "it is a damaged PNG file"};

bool fits(std::uint64_t height, std::uint64_t width) {
  return height > 0 && width > 0 && height <= kMaxPixels && width <= kMaxPixels / height;
}

struct JpegHandle {
  void operator()(void* handle) const noexcept { tjDestroy(handle); }
};

// Adobe's CMYK files hold inverted inks (0 is full ink), so a product is the light that is left.
void cmyk_to_rgb(std::span<const std::uint8_t> cmyk, std::span<std::uint8_t> rgb) {
  for (std::size_t i = 0; i < rgb.size() / 3; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      const unsigned light = cmyk[i * 4 + c] * static_cast<unsigned>(cmyk[i * 4 + 3]);
      rgb[i * 3 + c] = static_cast<std::uint8_t>((light + 127) / 255);
    }
  }
}

Result<Image> decode_jpeg(std::span<const std::byte> bytes) {
  const std::unique_ptr<void, JpegHandle> handle(tjInitDecompress());
  if (!handle) return Error{Errc::kInternal, "libjpeg-turbo does not start"};
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  int width = 0;
  int height = 0;
  int subsampling = 0;
  int colours = 0;
  if (tjDecompressHeader3(handle.get(), data, bytes.size(), &width, &height, &subsampling,
                          &colours) != 0) {
    return kBadJpeg;
  }
  if (!fits(static_cast<std::uint64_t>(height), static_cast<std::uint64_t>(width))) {
    return kTooLarge;
  }
  Image image{static_cast<std::uint32_t>(height), static_cast<std::uint32_t>(width), 3, {}};
  const std::size_t num_pixels = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
  const bool cmyk = colours == TJCS_CMYK || colours == TJCS_YCCK;
  std::vector<std::uint8_t> raw(num_pixels * (cmyk ? 4 : 3));
  // TJFLAG_LIMITSCANS: a progressive file of a few kilobytes can otherwise cost minutes.
  // A warning (a cut-off or patched-up file) counts as damage: half a picture is not the picture.
  if (tjDecompress2(handle.get(), data, bytes.size(), raw.data(), width, 0, height,
                    cmyk ? TJPF_CMYK : TJPF_RGB, TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS) != 0) {
    return kBadJpeg;
  }
  if (cmyk) {
    image.pixels.resize(num_pixels * 3);
    cmyk_to_rgb(raw, image.pixels);
  } else {
    image.pixels = std::move(raw);
  }
  return upright(std::move(image), exif_orientation(bytes));
}

Result<Image> decode_png(std::span<const std::byte> bytes) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0) return kBadPng;
  const std::unique_ptr<png_image, decltype(&png_image_free)> guard(&png, png_image_free);
  if (!fits(png.height, png.width)) return kTooLarge;
  // Read with the alpha channel and drop it: libpng would otherwise blend with a background.
  png.format = PNG_FORMAT_RGBA;
  std::vector<std::uint8_t> rgba(PNG_IMAGE_SIZE(png));
  if (png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr) == 0) return kBadPng;
  Image image{png.height, png.width, 3, {}};
  const std::size_t num_pixels = rgba.size() / 4;
  image.pixels.resize(num_pixels * 3);
  for (std::size_t i = 0; i < num_pixels; ++i) {
    std::copy_n(&rgba[i * 4], 3, &image.pixels[i * 3]);
  }
  return image;
}

bool starts_with(std::span<const std::byte> bytes, std::span<const unsigned char> magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

// TiffReader reads the numbers of an EXIF block in the byte order that it states.
class TiffReader {
 public:
  explicit TiffReader(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {
    const unsigned mark = number(0, 2).value_or(0);
    big_ = mark == 0x4D4D;
    valid_ = (big_ || mark == 0x4949) && number(2, 2) == 42U;
  }
  [[nodiscard]] bool valid() const noexcept { return valid_; }
  [[nodiscard]] std::optional<unsigned> number(std::size_t at, std::size_t size) const noexcept {
    if (at > bytes_.size() || size > bytes_.size() - at) return std::nullopt;
    unsigned value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t from = big_ ? at + i : at + size - 1 - i;
      value = (value << 8U) | static_cast<unsigned>(bytes_[from]);
    }
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
  bool big_ = true;
  bool valid_ = false;
};

unsigned tiff_orientation(std::span<const std::byte> tiff) noexcept {
  constexpr unsigned kOrientationTag = 0x0112;
  constexpr unsigned kShort = 3;
  const TiffReader reader(tiff);
  const auto directory = reader.number(4, 4);
  if (!reader.valid() || !directory) return 1;
  const unsigned entries = reader.number(*directory, 2).value_or(0);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t at = *directory + 2 + i * 12;
    const auto tag = reader.number(at, 2);
    if (!tag) return 1;
    if (*tag != kOrientationTag || reader.number(at + 2, 2) != kShort) continue;
    const unsigned value = reader.number(at + 8, 2).value_or(1);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

}  // namespace

Result<Image> decode_image(std::span<const std::byte> bytes) {
  constexpr std::array<unsigned char, 3> kJpeg{0xFF, 0xD8, 0xFF};
  constexpr std::array<unsigned char, 8> kPng{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  if (bytes.size() > kMaxImageBytes) return Error{Errc::kMalformed, "it is larger than 256 MiB"};
  if (starts_with(bytes, kJpeg)) return decode_jpeg(bytes);
  if (starts_with(bytes, kPng)) return decode_png(bytes);
  return Error{Errc::kMalformed, "it is neither JPEG nor PNG"};
}

Image to_grey(const Image& rgb) {
  Image grey{rgb.height, rgb.width, 1, {}};
  grey.pixels.resize(rgb.pixels.size() / 3);
  for (std::size_t i = 0; i < grey.pixels.size(); ++i) {
    const std::uint8_t* p = &rgb.pixels[i * 3];
    grey.pixels[i] =
        static_cast<std::uint8_t>((19595U * p[0] + 38470U * p[1] + 7471U * p[2] + 32768U) >> 16U);
  }
  return grey;
}

unsigned exif_orientation(std::span<const std::byte> jpeg) noexcept {
  constexpr std::array<unsigned char, 6> kExif{'E', 'x', 'i', 'f', 0, 0};
  const auto byte_at = [&](std::size_t at) { return static_cast<unsigned>(jpeg[at]); };
  // Segments are FF, marker, two bytes of length (with itself), payload (ITU-T T.81, B.1.1.4).
  std::size_t at = 2;
  while (at + 4 <= jpeg.size() && byte_at(at) == 0xFF) {
    const unsigned marker = byte_at(at + 1);
    const std::size_t length = byte_at(at + 2) << 8U | byte_at(at + 3);
    if (marker == 0xDA || length < 2 || length > jpeg.size() - at - 2) return 1;
    const auto payload = jpeg.subspan(at + 4, length - 2);
    if (marker == 0xE1 && starts_with(payload, kExif)) {
      return tiff_orientation(payload.subspan(kExif.size()));
    }
    at += 2 + length;
  }
  return 1;
}

Image upright(Image image, unsigned orientation) {
  if (orientation == 1) return image;
  const bool swapped = orientation >= 5;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  Image out{swapped ? image.width : image.height,
            swapped ? image.height : image.width,
            image.channels,
            {}};
  out.pixels.resize(image.pixels.size());
  for (std::size_t y = 0; y < out.height; ++y) {
    for (std::size_t x = 0; x < out.width; ++x) {
      // The stored picture is the upright one flipped, then (5 to 8) with its axes exchanged.
      const std::size_t from_y = flip_y ? out.height - 1 - y : y;
      const std::size_t from_x = flip_x ? out.width - 1 - x : x;
      const std::size_t from = swapped ? image.at(from_x, from_y) : image.at(from_y, from_x);
      std::copy_n(&image.pixels[from], image.channels, &out.pixels[out.at(y, x)]);
    }
  }
  return out;
}

}  // namespace slalom::cli
