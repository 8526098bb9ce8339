// SPDX-License-Identifier: Apache-2.0
#include "cli/image.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <variant>
#include <vector>

#include "cli/preprocess.h"
#include "cli/resize.h"
#include "vectors.h"

namespace slalom::cli {
namespace {

const std::vector<std::uint8_t>& bytes_of(const Array& array) {
  return std::get<std::vector<std::uint8_t>>(array.values);
}

int worst_difference(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
  int worst = a.size() == b.size() ? 0 : 256;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    worst = std::max(worst, std::abs(a[i] - b[i]));
  }
  return worst;
}

TEST(Image, EveryEncodingDecodesAsPillowDoes) {
  const auto expected = vector_arrays("decoded.npz");
  ASSERT_GE(expected.size(), 17U);
  for (const Array& array : expected) {
    const auto image = decode_image(vector_bytes(array.name));
    ASSERT_TRUE(image.ok()) << array.name << ": " << image.error().message;
    EXPECT_EQ(image->height, array.shape[0]) << array.name;
    EXPECT_EQ(image->width, array.shape[1]) << array.name;
    // JPEG decoders may differ by the rounding of their colour conversion; PNG is exact.
    const int allowed = array.name.ends_with(".jpg") ? 1 : 0;
    EXPECT_LE(worst_difference(image->pixels, bytes_of(array)), allowed) << array.name;
  }
}

TEST(Image, DamageIsRefused) {
  for (const char* name : {"cut.jpg", "cut.png", "text.jpg"}) {
    const auto image = decode_image(vector_bytes(name));
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_EQ(image.error().code, Errc::kMalformed) << name;
  }
  EXPECT_FALSE(decode_image({}).ok());
}

TEST(Image, HugeHeadersAreRefusedBeforeMemoryIsTaken) {
  auto png = vector_bytes("rgb.png");
  png[16] = std::byte{0x7F};  // width of the header chunk; its checksum is then wrong as well
  EXPECT_FALSE(decode_image(png).ok());
  auto jpeg = vector_bytes("rgb.jpg");
  bool changed = false;
  for (std::size_t i = 0; i + 9 < jpeg.size() && !changed; ++i) {
    if (jpeg[i] == std::byte{0xFF} && jpeg[i + 1] == std::byte{0xC0}) {  // start of frame
      for (std::size_t k = 5; k < 9; ++k) jpeg[i + k] = std::byte{0xF0};
      changed = true;
    }
  }
  ASSERT_TRUE(changed);
  const auto image = decode_image(jpeg);
  ASSERT_FALSE(image.ok());
  EXPECT_STREQ(image.error().message, "it has more than 100 million pixels");
}

TEST(Image, OrientationIsFoundAndNonsenseIsIgnored) {
  for (unsigned o = 1; o <= 8; ++o) {
    EXPECT_EQ(exif_orientation(vector_bytes("turned" + std::to_string(o) + ".jpg")), o);
  }
  EXPECT_EQ(exif_orientation(vector_bytes("rgb.jpg")), 1U);
  const auto whole = vector_bytes("turned6.jpg");
  for (std::size_t n = 0; n < whole.size(); ++n) {  // every cut is read without harm
    const unsigned o = exif_orientation(std::span(whole).first(n));
    EXPECT_TRUE(o == 1 || o == 6);
  }
}

TEST(Resize, WithinOneOfPillow) {
  const auto source = decode_image(vector_bytes("rgb.png"));
  ASSERT_TRUE(source.ok());
  const auto expected = vector_arrays("resized.npz");
  ASSERT_EQ(expected.size(), 21U);
  for (const Array& array : expected) {
    const auto interpolation = array.name.starts_with("nearest") ? model::Interpolation::kNearest
                               : array.name.starts_with("bilinear")
                                   ? model::Interpolation::kBilinear
                                   : model::Interpolation::kBicubic;
    const Image out = resize(*source, static_cast<std::uint32_t>(array.shape[0]),
                             static_cast<std::uint32_t>(array.shape[1]), interpolation);
    EXPECT_LE(worst_difference(out.pixels, bytes_of(array)), 1) << array.name;
  }
}

model::Preprocess imagenet() {
  model::Preprocess how;
  how.resize_shorter = 40;
  how.crop_h = 32;
  how.crop_w = 37;
  how.interpolation = model::Interpolation::kBicubic;
  how.mean = {123.675F, 116.28F, 103.53F};
  how.std = {58.395F, 57.12F, 57.375F};
  return how;
}

void expect_real(const model::Preprocess& how, const char* name, float step) {
  const auto source = decode_image(vector_bytes("rgb.png"));
  const auto prepared = prepare(*source, how);
  ASSERT_TRUE(prepared.ok());
  const std::vector<float> real = normalise(*prepared, how);
  const auto expected = vector_arrays("codes.npz");
  const auto& want = std::get<std::vector<float>>(named(expected, name).values);
  ASSERT_EQ(real.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(real[i], want[i], step) << name << i;
}

TEST(Preprocess, RealValuesAreWithinOnePixelStep) {
  expect_real(imagenet(), "rgb_real", 1.01F / 57.12F);
  model::Preprocess bgr = imagenet();
  bgr.bgr = true;
  bgr.mean = {104, 117, 124};
  bgr.std = {1, 1, 1};
  expect_real(bgr, "bgr_real", 1.01F);
  model::Preprocess grey;
  grey.crop_h = grey.crop_w = 28;
  grey.mean = grey.std = {127.5F};
  expect_real(grey, "grey_real", 1.01F / 127.5F);
}

TEST(Preprocess, CodesOfARealNetworkInput) {
  const auto source = decode_image(vector_bytes("rgb.png"));
  const auto prepared = prepare(*source, imagenet());
  ASSERT_TRUE(prepared.ok());
  model::TensorInfo tensor;
  tensor.scale = 4.7F / 255;
  tensor.zero_point = 114;
  const auto real = normalise(*prepared, imagenet());
  std::vector<std::uint8_t> codes(real.size());
  quantise(real, tensor, codes);
  const auto expected = vector_arrays("codes.npz");
  // One step of a pixel is 1 / 57.12 / scale = 0.95 codes.
  EXPECT_LE(worst_difference(codes, bytes_of(named(expected, "rgb_codes"))), 1);
}

TEST(Preprocess, QuantiseRoundsToEvenAndBounds) {
  model::TensorInfo tensor;
  tensor.scale = 0.5F;
  tensor.zero_point = 10;
  const std::vector<float> values{0.25F, 0.75F, -0.25F, 1e30F, -1e30F, __builtin_nanf("")};
  std::vector<std::uint8_t> codes(values.size());
  quantise(values, tensor, codes);
  EXPECT_EQ(codes, (std::vector<std::uint8_t>{10, 12, 10, 255, 0, 10}));
}

TEST(Preprocess, ACropThatDoesNotFitIsRefused) {
  model::Preprocess how = imagenet();
  how.crop_h = 41;
  EXPECT_FALSE(prepare(*decode_image(vector_bytes("rgb.png")), how).ok());
}

}  // namespace
}  // namespace slalom::cli
