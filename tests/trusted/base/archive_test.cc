// SPDX-License-Identifier: Apache-2.0
#include "base/archive.h"

#include <gtest/gtest.h>

#include <cstring>

namespace slalom::base {
namespace {

using Bytes = std::vector<std::byte>;

enum class Colour : std::uint8_t { kRed = 3, kGreen = 4, kBlue = 5 };
constexpr auto range_of(Colour) { return std::pair(Colour::kRed, Colour::kBlue); }

template <class... T>
Bytes bytes_of(const T&... values) {
  ArchiveWriter out;
  out(values...);
  return out.release();
}

// reads says whether bytes are one T and no more.
template <class T>
bool reads(const Bytes& bytes) {
  ArchiveReader in(bytes);
  T value{};
  in(value);
  return in.at_end();
}

TEST(Archive, ValuesComeBack) {
  const std::vector<std::string> texts{"", "abc"};
  const std::variant<std::uint8_t, std::uint32_t> either = 7U;
  const auto bytes =
      bytes_of(true, Colour::kBlue, texts, either, std::optional<std::uint16_t>(9),
               std::array<std::int8_t, 2>{-1, 1}, std::vector<std::int64_t>{5, -5}, 2.5);
  ArchiveReader in(bytes);
  bool flag = false;
  Colour colour{};
  std::vector<std::string> t;
  std::variant<std::uint8_t, std::uint32_t> e;
  std::optional<std::uint16_t> o;
  std::array<std::int8_t, 2> a{};
  std::vector<std::int64_t> v;
  double d = 0;
  in(flag, colour, t, e, o, a, v, d);
  ASSERT_TRUE(in.at_end());
  EXPECT_TRUE(flag);
  EXPECT_EQ(colour, Colour::kBlue);
  EXPECT_EQ(t, texts);
  EXPECT_EQ(e, either);
  EXPECT_EQ(o, std::optional<std::uint16_t>(9));
  EXPECT_EQ(a, (std::array<std::int8_t, 2>{-1, 1}));
  EXPECT_EQ(v, (std::vector<std::int64_t>{5, -5}));
  EXPECT_EQ(d, 2.5);
}

TEST(Archive, BoolsEnumerationsAndVariantsStayInTheirRange) {
  for (std::uint8_t raw = 0; raw < 255; ++raw) {
    EXPECT_EQ(reads<bool>(bytes_of(raw)), raw <= 1) << int{raw};
    EXPECT_EQ(reads<Colour>(bytes_of(raw)), raw >= 3 && raw <= 5) << int{raw};
    EXPECT_EQ(reads<std::optional<Colour>>(bytes_of(raw, Colour::kRed)), raw == 1) << int{raw};
    using Either = std::variant<std::uint8_t, std::int8_t>;
    EXPECT_EQ(reads<Either>(bytes_of(raw, raw)), raw <= 1) << int{raw};
    EXPECT_EQ(reads<Either>(bytes_of(raw)), false) << int{raw};
  }
}

TEST(Archive, TextsAreShortAndPrintable) {
  for (const std::uint32_t size : {0U, 1U, 4096U, 4097U}) {
    Bytes bytes = bytes_of(size);
    bytes.resize(bytes.size() + size, std::byte{'x'});
    EXPECT_EQ(reads<std::string>(bytes), size <= 4096) << size;
  }
  for (int c = 0; c < 256; ++c) {
    Bytes bytes = bytes_of(std::uint32_t{3});
    for (const int byte : {int{'a'}, c, int{'b'}}) bytes.push_back(static_cast<std::byte>(byte));
    EXPECT_EQ(reads<std::string>(bytes), c >= 0x20 && c != 0x7f) << c;
  }
}

// A count is believed as far as there are bytes for it: nothing is made for more.
TEST(Archive, CountsAskForNoMoreThanThereIs) {
  for (const std::uint64_t count : {std::uint64_t{3}, std::uint64_t{1} << 20, ~std::uint64_t{0}}) {
    const Bytes bytes = bytes_of(count, std::uint64_t{1}, std::uint64_t{2});
    ArchiveReader in(bytes);
    std::vector<std::uint64_t> numbers;
    in(numbers);
    EXPECT_FALSE(in.ok());
    EXPECT_TRUE(numbers.empty()) << count;
  }
  for (const std::uint32_t count : {5U, 60'000U}) {
    const Bytes bytes = bytes_of(count, std::uint32_t{0});  // four bytes, for a text of none
    ArchiveReader in(bytes);
    std::vector<std::string> texts;
    in(texts);
    EXPECT_FALSE(in.ok());
    EXPECT_TRUE(texts.empty()) << count;
  }
}

TEST(Archive, ListsHaveAMost) {
  for (const std::size_t count : {std::size_t{kMaxItems}, std::size_t{kMaxItems} + 1}) {
    EXPECT_EQ(reads<std::vector<std::string>>(bytes_of(std::vector<std::string>(count))),
              count == kMaxItems);
  }
}

TEST(ByteReader, ReadsToTheEndAndNoFurther) {
  const Bytes bytes = bytes_of(std::uint32_t{0x01020304});
  ByteReader whole(bytes);
  EXPECT_FALSE(whole.at_end());
  EXPECT_EQ(whole.read<std::uint32_t>(), 0x01020304U);
  EXPECT_TRUE(whole.at_end());
  EXPECT_TRUE(whole.take(1).empty());
  EXPECT_FALSE(whole.ok());
  ByteReader part(bytes);
  EXPECT_EQ(part.take(3).size(), 3U);
  EXPECT_EQ(part.read<std::uint16_t>(), 0U);
  EXPECT_FALSE(part.ok());
  EXPECT_EQ(part.read<std::uint8_t>(), 0U) << "a reader that failed gives nothing more";
  EXPECT_FALSE(part.at_end());
}

}  // namespace
}  // namespace slalom::base
