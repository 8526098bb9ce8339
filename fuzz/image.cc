// SPDX-License-Identifier: Apache-2.0
// Pictures: whatever the bytes are, decoding gives a consistent picture or an error, and what it
// gives can be prepared for a network.
#include "cli/image.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "cli/preprocess.h"

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using slalom::cli::Image;
  const auto bytes = std::as_bytes(std::span(data, size));
  const unsigned orientation = slalom::cli::exif_orientation(bytes);
  if (orientation < 1 || orientation > 8) std::abort();
  const auto image = slalom::cli::decode_image(bytes);
  if (!image.ok()) return 0;
  if (image->pixels.size() != std::size_t{3} * image->height * image->width) std::abort();
  if (image->pixels.size() > 3'000'000) return 0;  // larger ones only cost time here
  slalom::model::Preprocess how;
  how.resize_shorter = 9;
  how.crop_h = how.crop_w = 8;
  how.mean = how.std = {1.0F, 1.0F, 1.0F};
  if (image->height / image->width > 1000 || image->width / image->height > 1000) return 0;
  if (!slalom::cli::prepare(*image, how).ok()) std::abort();
  return 0;
}
