// SPDX-License-Identifier: Apache-2.0
#include "cli/array.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <variant>
#include <vector>

#include "vectors.h"

namespace slalom::cli {
namespace {

const std::vector<float>& floats(const Array& array) {
  return std::get<std::vector<float>>(array.values);
}

TEST(Npy, TypesOrdersAndVersions) {
  const Array f4 = decode_npy(vector_bytes("f4.npy")).value();
  EXPECT_EQ(f4.shape, (std::vector<std::size_t>{2, 3, 4}));
  EXPECT_EQ(floats(decode_npy(vector_bytes("f8.npy")).value()), floats(f4));
  EXPECT_EQ(floats(decode_npy(vector_bytes("fortran.npy")).value()), floats(f4));
  EXPECT_EQ(floats(decode_npy(vector_bytes("version2.npy")).value()), floats(f4));
  const auto f2 = floats(decode_npy(vector_bytes("f2.npy")).value());
  for (std::size_t i = 0; i < f2.size(); ++i) EXPECT_NEAR(f2[i], floats(f4)[i], 2e-3);
  EXPECT_EQ(floats(decode_npy(vector_bytes("scalar.npy")).value()), std::vector<float>{1.5F});
  EXPECT_EQ(floats(decode_npy(vector_bytes("vector.npy")).value()),
            (std::vector<float>{0, 1, 2, 3, 4}));
  EXPECT_TRUE(decode_npy(vector_bytes("u1.npy")).value().is_codes());
  EXPECT_FALSE(decode_npy(vector_bytes("i8.npy")).ok());  // 64-bit integers
}

TEST(Npy, EveryCutIsRefused) {
  const auto whole = vector_bytes("f4.npy");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(decode_npy(std::span(whole).first(n)).ok()) << n;
  }
  auto longer = whole;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_npy(longer).ok());
}

TEST(Npy, ShapesThatOverflowAreRefused) {
  auto bytes = vector_bytes("f4.npy");
  const std::string from = "(2, 3, 4), }        ";
  const std::string to = "(4294967296,1<<33),}";
  for (const std::string& shape : {std::string("(4294967296,4294967297),}"), to}) {
    auto copy = bytes;
    auto* text = reinterpret_cast<char*>(copy.data());
    auto* at = std::strstr(text + 10, "(2,");
    ASSERT_NE(at, nullptr);
    std::ranges::copy(shape, at);
    EXPECT_FALSE(decode_npy(copy).ok()) << shape;
  }
}

TEST(Npz, StoredAndDeflated) {
  const auto stored = vector_arrays("stored.npz");
  const auto deflated = vector_arrays("deflated.npz");
  ASSERT_EQ(stored.size(), 7U);
  for (const Array& array : stored) {
    EXPECT_EQ(named(deflated, array.name).values, array.values) << array.name;
    EXPECT_EQ(decode_npy(vector_bytes(array.name + ".npy")).value().values, array.values);
  }
}

TEST(Npz, DamageIsRefused) {
  const auto whole = vector_bytes("deflated.npz");
  for (std::size_t n = 0; n < whole.size(); n += 7) {
    EXPECT_FALSE(decode_npz(std::span(whole).first(n)).ok()) << n;
  }
  auto flipped = vector_bytes("stored.npz");
  flipped[200] ^= std::byte{1};  // inside the first member's data: its checksum no longer fits
  EXPECT_FALSE(decode_npz(flipped).ok());
}

std::vector<std::byte> as_bytes(const std::vector<unsigned>& values) {
  std::vector<std::byte> out(values.size());
  std::ranges::transform(values, out.begin(), [](unsigned v) { return static_cast<std::byte>(v); });
  return out;
}

TEST(Idx, ReadsBytesAndRefusesTheRest) {
  const auto good = decode_idx(as_bytes({0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 1, 7, 9}));
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good->shape, (std::vector<std::size_t>{2, 1}));
  EXPECT_EQ(std::get<1>(good->values), (std::vector<std::uint8_t>{7, 9}));
  EXPECT_EQ(good->image_elements(), 1U);
  EXPECT_FALSE(decode_idx(as_bytes({0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 1, 7})).ok());
  EXPECT_FALSE(decode_idx(as_bytes({0, 0, 13, 1, 0, 0, 0, 1, 7})).ok());
  EXPECT_FALSE(decode_idx(as_bytes({0, 0, 8, 9})).ok());
}

TEST(Gzip, UndoesWhatGzipDid) {
  // printf 'slalom slalom slalom' | gzip -n
  const auto zipped = as_bytes({0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03,
                                0x2b, 0xce, 0x49, 0xcc, 0xc9, 0xcf, 0x55, 0x28, 0x46, 0xa6,
                                0x00, 0x8a, 0x90, 0x4b, 0x7b, 0x14, 0x00, 0x00, 0x00});
  const auto text = gunzip(zipped, 1000);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(text->data()), text->size()),
            "slalom slalom slalom");
  EXPECT_FALSE(gunzip(std::span(zipped).first(zipped.size() - 1), 1000).ok());
  auto damaged = zipped;
  damaged[22] ^= std::byte{1};
  EXPECT_FALSE(gunzip(damaged, 1000).ok());
  const auto plain = as_bytes({1, 2, 3});
  EXPECT_EQ(gunzip(plain, 1000).value(), plain);
}

}  // namespace
}  // namespace slalom::cli
