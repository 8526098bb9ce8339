// SPDX-License-Identifier: Apache-2.0
#include "vault/sealer.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/arena.h"
#include "base/assert.h"

namespace slalom::vault {
namespace {

unsigned char* u8(std::byte* p) noexcept { return reinterpret_cast<unsigned char*>(p); }

}  // namespace

Sealer::Sealer(const field::StreamKey& epoch_key, const field::Address& address,
               const field::Kernels& kernels) noexcept
    : kernels_(kernels) {
  const field::AddressBytes bytes = field::address_bytes(address);
  std::copy(bytes.begin(), bytes.end(), aad_.begin());
  field::derive_key("slalom unblinding factors v1", epoch_key, address, key_.reveal());
}

bool Sealer::crypt(Way way, std::uint32_t chunk, std::span<std::byte> bytes,
                   std::byte* tag) noexcept {
  std::array<std::byte, 12> nonce{};
  std::memcpy(nonce.data(), &chunk, sizeof(chunk));
  std::memcpy(aad_.data() + sizeof(field::AddressBytes), &chunk, sizeof(chunk));
  std::byte* const key = key_.bytes().data();
  if (way == Way::kOpen && kernels_.gcm_open != nullptr) {
    return kernels_.gcm_open(key, nonce.data(), aad_, bytes, tag);
  }
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> owned(EVP_CIPHER_CTX_new(),
                                                                              EVP_CIPHER_CTX_free);
  EVP_CIPHER_CTX* const context = owned.get();
  int written = 0;
  SLALOM_ASSERT(context != nullptr &&
                EVP_CipherInit_ex(context, EVP_aes_256_gcm(), nullptr, u8(key), u8(nonce.data()),
                                  static_cast<int>(way)) == 1 &&
                EVP_CipherUpdate(context, nullptr, &written, u8(aad_.data()),
                                 static_cast<int>(aad_.size())) == 1 &&
                EVP_CipherUpdate(context, u8(bytes.data()), &written, u8(bytes.data()),
                                 static_cast<int>(bytes.size())) == 1);
  if (way == Way::kOpen) {
    SLALOM_ASSERT(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, kTagBytes, tag) == 1);
  }
  const bool done = EVP_CipherFinal_ex(context, u8(nonce.data()), &written) == 1;
  if (way == Way::kSeal) {
    SLALOM_ASSERT(done && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, kTagBytes, tag) == 1);
  }
  return done;
}

void Sealer::seal(std::uint32_t chunk, std::span<std::byte> bytes,
                  std::span<std::byte, kTagBytes> tag) noexcept {
  (void)crypt(Way::kSeal, chunk, bytes, tag.data());
}

Status Sealer::open(std::uint32_t chunk, std::span<std::byte> bytes,
                    std::span<std::byte, kTagBytes> tag) noexcept {
  if (crypt(Way::kOpen, chunk, bytes, tag.data())) return {};
  base::wipe(bytes.data(), bytes.size());
  return Error{Errc::kRejected, "the pad store was changed: its authentication failed"};
}

}  // namespace slalom::vault
