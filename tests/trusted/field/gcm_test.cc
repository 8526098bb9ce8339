// SPDX-License-Identifier: Apache-2.0
// AES-256-GCM of the kernels, against published vectors and against libcrypto.
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "field/kernels.h"
#include "trusted/field/kernels_test.h"
#include "trusted/field/support.h"

namespace slalom::field {
namespace {

using Bytes = std::vector<std::byte>;

Bytes unhex(std::string_view text) {
  Bytes out(text.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<std::byte>(std::stoi(std::string(text.substr(2 * i, 2)), nullptr, 16));
  }
  return out;
}
Bytes random_bytes(test::Dice& dice, std::size_t n) {
  Bytes out(n);
  for (auto& b : out) b = static_cast<std::byte>(dice.bits());
  return out;
}

struct Sealed {
  Bytes bytes, tag = Bytes(16);
};

unsigned char* u8(Bytes& bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }
const unsigned char* u8(const Bytes& bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

// by_libcrypto seals with OpenSSL's AES-256-GCM.
Sealed by_libcrypto(const Bytes& key, const Bytes& nonce, const Bytes& aad, const Bytes& plain) {
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(
      EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  Sealed out{plain};
  int n = 0;
  EXPECT_EQ(EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, u8(key), u8(nonce)), 1);
  if (!aad.empty()) {
    EXPECT_EQ(EVP_EncryptUpdate(context.get(), nullptr, &n, u8(aad), static_cast<int>(aad.size())),
              1);
  }
  if (!plain.empty()) {
    EXPECT_EQ(EVP_EncryptUpdate(context.get(), u8(out.bytes), &n, u8(plain),
                                static_cast<int>(plain.size())),
              1);
  }
  EXPECT_EQ(EVP_EncryptFinal_ex(context.get(), u8(out.tag), &n), 1);
  EXPECT_EQ(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, 16, out.tag.data()), 1);
  return out;
}

class Gcm : public test::EachKernels {
 protected:
  void SetUp() override {
    EachKernels::SetUp();
    if (!IsSkipped() && kernels().gcm_open == nullptr) GTEST_SKIP() << "leaves it to libcrypto";
  }
  bool opens(const Bytes& key, const Bytes& nonce, const Bytes& aad, const Sealed& sealed,
             Bytes& plain) {
    plain = sealed.bytes;
    return kernels().gcm_open(key.data(), nonce.data(), aad, plain, sealed.tag.data());
  }
  // agrees: what libcrypto sealed opens, and nothing near it does.
  void agrees(test::Dice& dice, const Bytes& key, const Bytes& nonce, const Bytes& aad,
              const Bytes& plain) {
    Sealed sealed = by_libcrypto(key, nonce, aad, plain);
    Bytes got;
    ASSERT_TRUE(opens(key, nonce, aad, sealed, got)) << plain.size() << " bytes, " << aad.size();
    ASSERT_EQ(got, plain) << plain.size() << " bytes, " << aad.size();
    const auto flip = [&](Bytes& bytes) {
      bytes[dice.below(bytes.size())] ^= static_cast<std::byte>(1U << dice.below(8));
    };
    Sealed forged = sealed;
    flip(forged.tag);
    EXPECT_FALSE(opens(key, nonce, aad, forged, got)) << plain.size();
    for (int part = 0; part < 4; ++part) {
      Bytes parts[] = {key, nonce, aad, sealed.bytes};
      if (parts[part].empty()) continue;
      flip(parts[part]);
      EXPECT_FALSE(opens(parts[0], parts[1], parts[2], {parts[3], sealed.tag}, got))
          << plain.size() << " part " << part;
    }
  }
};

// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test cases 13 to 16.
TEST_P(Gcm, MatchesThePublishedVectors) {
  const std::string key16 = "feffe9928665731c6d6a8f9467308308";
  const std::string plain =
      "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
      "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
  const std::string sealed =
      "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
      "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
  const std::string zero(64, '0');
  struct Case {
    std::string key, nonce, aad, plain, sealed, tag;
  };
  const Case cases[] = {
      {zero, zero.substr(0, 24), "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
      {zero, zero.substr(0, 24), "", zero.substr(0, 32), "cea7403d4d606b6e074ec5d3baf39d18",
       "d0d1c8a799996bf0265b98b5d48ab919"},
      {key16 + key16, "cafebabefacedbaddecaf888", "", plain, sealed,
       "b094dac5d93471bdec1a502270e3cc6c"},
      {key16 + key16, "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
       plain.substr(0, 120), sealed.substr(0, 120), "76fc6ece0f4e1768cddf8853bb2d551b"}};
  for (const Case& c : cases) {
    Bytes got;
    EXPECT_TRUE(
        opens(unhex(c.key), unhex(c.nonce), unhex(c.aad), {unhex(c.sealed), unhex(c.tag)}, got));
    EXPECT_EQ(got, unhex(c.plain));
  }
}

TEST_P(Gcm, AgreesWithLibcryptoAtEveryLength) {
  test::Dice dice(1);
  for (std::size_t n = 0; n <= 1200; ++n) {
    agrees(dice, random_bytes(dice, 32), random_bytes(dice, 12), random_bytes(dice, n % 70),
           random_bytes(dice, n));
  }
  for (std::size_t n = 0; n <= 1200; n += 7) {
    agrees(dice, random_bytes(dice, 32), random_bytes(dice, 12), random_bytes(dice, n),
           random_bytes(dice, n % 50));
  }
}

TEST_P(Gcm, AgreesWithLibcryptoOnWholeChunks) {
  test::Dice dice(2);
  for (const std::size_t n : {49'152U, 65'536U, 65'535U, 49'152U - 511, 65'536U - 16, 65'537U}) {
    agrees(dice, random_bytes(dice, 32), random_bytes(dice, 12), random_bytes(dice, 57),
           random_bytes(dice, n));
  }
}

// Bytes and keys of zeros and ones find carries that random ones rarely make.
TEST_P(Gcm, AgreesWithLibcryptoOnExtremes) {
  test::Dice dice(3);
  const std::byte ends[] = {std::byte{0}, std::byte{0xff}, std::byte{0x80}, std::byte{1}};
  for (const std::byte key : ends) {
    for (const std::byte text : ends) {
      agrees(dice, Bytes(32, key), Bytes(12, text), Bytes(57, text), Bytes(1000, text));
    }
  }
}

// Every bit of a tag counts.
TEST_P(Gcm, EveryBitOfTheTagCounts) {
  test::Dice dice(4);
  const Bytes key = random_bytes(dice, 32);
  const Bytes nonce = random_bytes(dice, 12);
  Sealed sealed = by_libcrypto(key, nonce, {}, random_bytes(dice, 600));
  Bytes got;
  for (std::size_t bit = 0; bit < 128; ++bit) {
    sealed.tag[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    EXPECT_FALSE(opens(key, nonce, {}, sealed, got)) << bit;
    sealed.tag[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  }
  EXPECT_TRUE(opens(key, nonce, {}, sealed, got));
}

// Nothing outside of the bytes is touched.
TEST_P(Gcm, StaysInside) {
  test::Dice dice(5);
  const Bytes key = random_bytes(dice, 32);
  for (std::size_t n = 0; n < 1100; n += 13) {
    const Bytes before = random_bytes(dice, n + 128);
    Bytes bytes = before;
    (void)kernels().gcm_open(key.data(), key.data(), {}, std::span(bytes).subspan(64, n),
                             key.data());
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.begin() + 64, before.begin()));
    EXPECT_TRUE(std::equal(bytes.end() - 64, bytes.end(), before.end() - 64));
  }
}

INSTANTIATE_TEST_SUITE_P(All, Gcm, ::testing::ValuesIn(all_kernels().begin(), all_kernels().end()),
                         test::kernels_name);

}  // namespace
}  // namespace slalom::field
