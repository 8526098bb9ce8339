// SPDX-License-Identifier: Apache-2.0
#include "vault/sealer.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>

#include "base/arena.h"
#include "base/assert.h"

namespace slalom::vault {
namespace {

unsigned char* u8(std::byte* p) noexcept { return reinterpret_cast<unsigned char*>(p); }

// Cipher is a thread's own: libcrypto takes memory and locks only when one is made.
struct Cipher {
  Cipher() noexcept {
    SLALOM_ASSERT(context != nullptr &&
                  EVP_CipherInit_ex(context, EVP_aes_256_gcm(), nullptr, nullptr, nullptr, 0) == 1);
  }
  ~Cipher() { EVP_CIPHER_CTX_free(context); }
  Cipher(const Cipher&) = delete;
  Cipher& operator=(const Cipher&) = delete;
  EVP_CIPHER_CTX* const context = EVP_CIPHER_CTX_new();
};
EVP_CIPHER_CTX* cipher() noexcept {
  thread_local const Cipher own;
  return own.context;
}

}  // namespace

Sealer::Sealer(const field::StreamKey& epoch_key, const field::Address& address) noexcept {
  const field::AddressBytes bytes = field::address_bytes(address);
  std::copy(bytes.begin(), bytes.end(), aad_.begin());
  field::derive_key("slalom unblinding factors v1", epoch_key, address, key_.reveal());
}

// What the thread's cipher knows of the key goes as well.
Sealer::~Sealer() {
  static constexpr std::array<unsigned char, 32> kNoKey{};
  (void)EVP_CipherInit_ex(cipher(), nullptr, nullptr, kNoKey.data(), kNoKey.data(), 0);
}

bool Sealer::crypt(Way way, std::uint32_t chunk, std::span<std::byte> bytes,
                   std::byte* tag) noexcept {
  std::array<std::byte, 12> nonce{};
  std::memcpy(nonce.data(), &chunk, sizeof(chunk));
  std::memcpy(aad_.data() + sizeof(field::AddressBytes), &chunk, sizeof(chunk));
  EVP_CIPHER_CTX* const context = cipher();
  int written = 0;
  SLALOM_ASSERT(EVP_CipherInit_ex(context, nullptr, nullptr, u8(key_.bytes().data()),
                                  u8(nonce.data()), static_cast<int>(way)) == 1 &&
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
