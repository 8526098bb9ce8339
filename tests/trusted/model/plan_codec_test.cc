// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <cstring>

#include "model/plan.h"
#include "support/plans.h"

namespace slalom::model {
namespace {

// reseal replaces the closing digest, as an attacker would after changing a byte.
void reseal(std::vector<std::byte>& bytes) {
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size() - 32,
         reinterpret_cast<unsigned char*>(bytes.data() + bytes.size() - 32));
}

Plan rich_plan() {
  Plan plan = testing::small_network();
  plan.preprocess = Preprocess{.resize_shorter = 14,
                               .crop_h = 12,
                               .crop_w = 12,
                               .interpolation = Interpolation::kBicubic,
                               .bgr = true,
                               .mean = {1, 2, 3},
                               .std = {4, 5, 6}};
  for (int i = 0; i < 10; ++i) plan.labels.push_back("label " + std::to_string(i));
  return plan;
}

TEST(PlanCodec, RoundTrip) {
  const auto bytes = encode_plan(rich_plan());
  auto decoded = decode_plan(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.error().message;
  EXPECT_EQ(encode_plan(*decoded), bytes);
  EXPECT_EQ(decoded->labels[3], "label 3");
  EXPECT_TRUE(decoded->preprocess->bgr);
}

TEST(PlanCodec, EveryTruncationIsRefused) {
  const auto bytes = encode_plan(testing::small_network());
  for (std::size_t n = 0; n < bytes.size(); n += 1 + n / 50) {
    auto cut =
        std::vector<std::byte>(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_FALSE(decode_plan(cut).ok()) << n;
    if (cut.size() > 44) {
      reseal(cut);
      EXPECT_FALSE(decode_plan(cut).ok()) << n;
    }
  }
  auto longer = bytes;
  longer.insert(longer.end() - 32, std::byte{0});
  reseal(longer);
  EXPECT_FALSE(decode_plan(longer).ok());
}

// A changed byte is caught by the digest; with the digest made to fit, what still decodes must be a
// valid plan that encodes to the same bytes.
TEST(PlanCodec, EveryFlippedByteIsCaughtOrCanonical) {
  const auto bytes = encode_plan(rich_plan());
  std::size_t refused = 0;
  std::size_t tried = 0;
  for (std::size_t n = 0; n < bytes.size() - 32; n += 1 + n / 400) {
    auto changed = bytes;
    changed[n] ^= std::byte{0x81};
    EXPECT_FALSE(decode_plan(changed).ok()) << n;
    reseal(changed);
    ++tried;
    const auto decoded = decode_plan(changed);
    if (!decoded.ok()) {
      ++refused;
      continue;
    }
    EXPECT_TRUE(validate(*decoded).ok());
    EXPECT_EQ(encode_plan(*decoded), changed) << n;
  }
  EXPECT_GT(refused, tried / 10);
}

TEST(PlanCodec, EveryBitOfTheDigestCounts) {
  const auto bytes = encode_plan(testing::small_network());
  for (std::size_t bit = 0; bit < 256; ++bit) {
    auto changed = bytes;
    changed[bytes.size() - 32 + bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    EXPECT_FALSE(plan_digest(changed).ok());
    EXPECT_FALSE(decode_plan(changed).ok());
  }
}

TEST(PlanCodec, DigestNamesTheContent) {
  const auto a = encode_plan(testing::small_network(1));
  const auto b = encode_plan(testing::small_network(2));
  ASSERT_TRUE(plan_digest(a).ok());
  EXPECT_NE(*plan_digest(a), *plan_digest(b));
  EXPECT_EQ(*plan_digest(a), *plan_digest(a));
}

TEST(PlanCodec, OtherFilesAndVersionsAreNamed) {
  std::vector<std::byte> junk(100, std::byte{7});
  EXPECT_NE(std::strstr(decode_plan(junk).error().message, "not a plan"), nullptr);
  auto bytes = encode_plan(testing::small_network());
  bytes[8] = std::byte{99};
  reseal(bytes);
  EXPECT_NE(std::strstr(decode_plan(bytes).error().message, "version"), nullptr);
}

}  // namespace
}  // namespace slalom::model
