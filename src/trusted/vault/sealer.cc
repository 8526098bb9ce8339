// SPDX-License-Identifier: Apache-2.0
#include "vault/sealer.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstring>

#include "base/assert.h"

namespace slalom::vault {
namespace {

constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kAddressBytes = 1 + 32 + 8 + 8 + 4;
constexpr char kPurpose[] = "slalom unblinding factors v1";

unsigned char* u8(std::byte* p) noexcept { return reinterpret_cast<unsigned char*>(p); }
const unsigned char* u8(const std::byte* p) noexcept {
  return reinterpret_cast<const unsigned char*>(p);
}

// derive_key is T(1) of HKDF-Expand: HMAC(epoch key, purpose || address || 0x01).
void derive_key(const field::StreamKey& epoch_key, std::span<const std::byte> address,
                field::StreamKey& out) noexcept {
  std::array<std::byte, sizeof(kPurpose) - 1 + kAddressBytes + 1> info{};
  std::memcpy(info.data(), kPurpose, sizeof(kPurpose) - 1);
  std::memcpy(info.data() + sizeof(kPurpose) - 1, address.data(), kAddressBytes);
  info.back() = std::byte{1};
  unsigned length = 0;
  const auto* done = HMAC(EVP_sha256(), epoch_key.data(), static_cast<int>(epoch_key.size()),
                          u8(info.data()), info.size(), u8(out.data()), &length);
  SLALOM_ASSERT(done != nullptr && length == out.size());
}

std::array<std::byte, kNonceBytes> nonce(std::uint32_t chunk) noexcept {
  std::array<std::byte, kNonceBytes> out{};
  std::memcpy(out.data(), &chunk, sizeof(chunk));
  return out;
}

}  // namespace

Sealer::Sealer(const field::StreamKey& epoch_key, const FactorAddress& address) noexcept
    : aad_{}, context_(EVP_CIPHER_CTX_new()) {
  SLALOM_ASSERT(context_ != nullptr);
  std::byte* at = aad_.data();
  *at++ = static_cast<std::byte>(address.mode);
  std::memcpy(at, address.model.data(), address.model.size());
  at += address.model.size();
  std::memcpy(at, &address.epoch, sizeof(address.epoch));
  at += sizeof(address.epoch);
  std::memcpy(at, &address.inference, sizeof(address.inference));
  at += sizeof(address.inference);
  std::memcpy(at, &address.node, sizeof(address.node));
  derive_key(epoch_key, std::span(aad_).first(kAddressBytes), key_.reveal());
}

Sealer::~Sealer() { EVP_CIPHER_CTX_free(static_cast<EVP_CIPHER_CTX*>(context_)); }

void Sealer::seal(std::uint32_t chunk, std::span<std::byte> bytes,
                  std::span<std::byte, kTagBytes> tag) noexcept {
  auto* context = static_cast<EVP_CIPHER_CTX*>(context_);
  std::memcpy(aad_.data() + aad_.size() - sizeof(chunk), &chunk, sizeof(chunk));
  const auto iv = nonce(chunk);
  int written = 0;
  SLALOM_ASSERT(EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nullptr, u8(key_.reveal().data()),
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
  SLALOM_ASSERT(EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), nullptr, u8(key_.reveal().data()),
                                   u8(iv.data())) == 1);
  SLALOM_ASSERT(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, kTagBytes, expected.data()) ==
                1);
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
