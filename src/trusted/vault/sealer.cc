// SPDX-License-Identifier: Apache-2.0
#include "vault/sealer.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <cstring>

#include "base/assert.h"

namespace slalom::vault {
namespace {

constexpr std::size_t kNonceBytes = 12;
constexpr char kPurpose[] = "slalom unblinding factors v1";

unsigned char* u8(std::byte* p) noexcept { return reinterpret_cast<unsigned char*>(p); }
const unsigned char* u8(const std::byte* p) noexcept {
  return reinterpret_cast<const unsigned char*>(p);
}

// derive_key: HKDF-SHA256 with info = purpose || address.
void derive_key(std::span<const std::byte> epoch_key, std::span<const std::byte> address,
                std::span<std::byte, kKeyBytes> out) noexcept {
  EVP_KDF* kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  SLALOM_ASSERT(kdf != nullptr);
  EVP_KDF_CTX* context = EVP_KDF_CTX_new(kdf);
  EVP_KDF_free(kdf);
  SLALOM_ASSERT(context != nullptr);
  std::array<char, 7> digest{"SHA256"};
  std::array<std::byte, sizeof(kPurpose) + 61> info{};
  SLALOM_ASSERT(address.size() <= info.size() - sizeof(kPurpose));
  std::memcpy(info.data(), kPurpose, sizeof(kPurpose));
  std::memcpy(info.data() + sizeof(kPurpose), address.data(), address.size());
  const std::array<OSSL_PARAM, 4> params = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, const_cast<std::byte*>(epoch_key.data()),
                                        epoch_key.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(),
                                        sizeof(kPurpose) + address.size()),
      OSSL_PARAM_construct_end()};
  const int ok = EVP_KDF_derive(context, u8(out.data()), out.size(), params.data());
  EVP_KDF_CTX_free(context);
  SLALOM_ASSERT(ok == 1);
}

std::array<std::byte, kNonceBytes> nonce(std::uint32_t chunk) noexcept {
  std::array<std::byte, kNonceBytes> out{};
  std::memcpy(out.data(), &chunk, sizeof(chunk));
  return out;
}

}  // namespace

Sealer::Sealer(std::span<const std::byte> epoch_key, const FactorAddress& address) noexcept
    : key_{}, aad_{}, context_(EVP_CIPHER_CTX_new()) {
  SLALOM_ASSERT(context_ != nullptr && epoch_key.size() == kKeyBytes);
  std::byte* at = aad_.data();
  *at++ = static_cast<std::byte>(address.mode);
  std::memcpy(at, address.model.data(), address.model.size());
  at += address.model.size();
  std::memcpy(at, address.epoch.data(), address.epoch.size());
  at += address.epoch.size();
  std::memcpy(at, &address.inference, sizeof(address.inference));
  at += sizeof(address.inference);
  std::memcpy(at, &address.node, sizeof(address.node));
  derive_key(epoch_key, std::span(aad_).first(aad_.size() - sizeof(std::uint32_t)), key_);
}

Sealer::~Sealer() {
  EVP_CIPHER_CTX_free(static_cast<EVP_CIPHER_CTX*>(context_));
  OPENSSL_cleanse(key_.data(), key_.size());
}

void Sealer::seal(std::uint32_t chunk, std::span<std::byte> bytes,
                  std::span<std::byte, kTagBytes> tag) noexcept {
  auto* context = static_cast<EVP_CIPHER_CTX*>(context_);
  std::memcpy(aad_.data() + aad_.size() - sizeof(chunk), &chunk, sizeof(chunk));
  const auto iv = nonce(chunk);
  int written = 0;
  SLALOM_ASSERT(EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nullptr, u8(key_.data()),
                                   u8(iv.data())) == 1);
  SLALOM_ASSERT(EVP_EncryptUpdate(context, nullptr, &written, u8(aad_.data()),
                                  static_cast<int>(aad_.size())) == 1);
  SLALOM_ASSERT(EVP_EncryptUpdate(context, u8(bytes.data()), &written, u8(bytes.data()),
                                  static_cast<int>(bytes.size())) == 1);
  std::array<unsigned char, kTagBytes> rest{};
  SLALOM_ASSERT(EVP_EncryptFinal_ex(context, rest.data(), &written) == 1);
  SLALOM_ASSERT(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, kTagBytes, tag.data()) == 1);
}

Status Sealer::open(std::uint32_t chunk, std::span<std::byte> bytes,
                    std::span<const std::byte, kTagBytes> tag) noexcept {
  auto* context = static_cast<EVP_CIPHER_CTX*>(context_);
  std::memcpy(aad_.data() + aad_.size() - sizeof(chunk), &chunk, sizeof(chunk));
  const auto iv = nonce(chunk);
  std::array<std::byte, kTagBytes> expected{};
  std::memcpy(expected.data(), tag.data(), kTagBytes);
  int written = 0;
  SLALOM_ASSERT(EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nullptr, u8(key_.data()),
                                   u8(iv.data())) == 1);
  SLALOM_ASSERT(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, kTagBytes, expected.data()) == 1);
  SLALOM_ASSERT(EVP_DecryptUpdate(context, nullptr, &written, u8(aad_.data()),
                                  static_cast<int>(aad_.size())) == 1);
  SLALOM_ASSERT(EVP_DecryptUpdate(context, u8(bytes.data()), &written, u8(bytes.data()),
                                  static_cast<int>(bytes.size())) == 1);
  std::array<unsigned char, kTagBytes> rest{};
  if (EVP_DecryptFinal_ex(context, rest.data(), &written) != 1) {
    OPENSSL_cleanse(bytes.data(), bytes.size());
    return Error{Errc::kRejected, "the pad store was changed: its authentication failed"};
  }
  return {};
}

}  // namespace slalom::vault
