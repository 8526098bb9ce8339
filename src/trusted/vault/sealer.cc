// SPDX-License-Identifier: Apache-2.0
#include "vault/sealer.h"

#include <array>
#include <cstring>

#include "base/arena.h"
#include "base/assert.h"

namespace slalom::vault {
namespace {

unsigned char* u8(std::byte* p) noexcept { return reinterpret_cast<unsigned char*>(p); }
const unsigned char* u8(const std::byte* p) noexcept {
  return reinterpret_cast<const unsigned char*>(p);
}

}  // namespace

Sealer::Sealer(const field::StreamKey& epoch_key, const field::Address& address) noexcept
    : address_(field::address_bytes(address)), context_(EVP_CIPHER_CTX_new()) {
  SLALOM_ASSERT(context_ != nullptr);
  field::derive_key("slalom unblinding factors v1", epoch_key, address, key_.reveal());
}

void Sealer::crypt(Way way, std::uint32_t chunk, std::span<std::byte> bytes) noexcept {
  std::array<std::byte, 12> nonce{};
  std::memcpy(nonce.data(), &chunk, sizeof(chunk));
  int written = 0;
  SLALOM_ASSERT(EVP_CipherInit_ex(context_.get(), EVP_aes_256_gcm(), nullptr,
                                  u8(key_.reveal().data()), u8(nonce.data()),
                                  static_cast<int>(way)) == 1);
  for (const auto aad : {std::span<const std::byte>(address_),
                         std::as_bytes(std::span<const std::uint32_t>(&chunk, 1))}) {
    SLALOM_ASSERT(EVP_CipherUpdate(context_.get(), nullptr, &written, u8(aad.data()),
                                   static_cast<int>(aad.size())) == 1);
  }
  SLALOM_ASSERT(EVP_CipherUpdate(context_.get(), u8(bytes.data()), &written, u8(bytes.data()),
                                 static_cast<int>(bytes.size())) == 1);
}

void Sealer::seal(std::uint32_t chunk, std::span<std::byte> bytes,
                  std::span<std::byte, kTagBytes> tag) noexcept {
  crypt(Way::kSeal, chunk, bytes);
  std::array<unsigned char, kTagBytes> rest{};
  int written = 0;
  SLALOM_ASSERT(EVP_CipherFinal_ex(context_.get(), rest.data(), &written) == 1);
  SLALOM_ASSERT(EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag.data()) ==
                1);
}

Status Sealer::open(std::uint32_t chunk, std::span<std::byte> bytes,
                    std::span<const std::byte, kTagBytes> tag) noexcept {
  crypt(Way::kOpen, chunk, bytes);
  std::array<std::byte, kTagBytes> expected{};
  std::memcpy(expected.data(), tag.data(), kTagBytes);
  SLALOM_ASSERT(
      EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, expected.data()) == 1);
  std::array<unsigned char, kTagBytes> rest{};
  int written = 0;
  if (EVP_CipherFinal_ex(context_.get(), rest.data(), &written) != 1) {
    base::wipe(bytes.data(), bytes.size());
    return Error{Errc::kRejected, "the pad store was changed: its authentication failed"};
  }
  return {};
}

}  // namespace slalom::vault
