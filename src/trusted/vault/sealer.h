// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/secret.h"
#include "field/pad_stream.h"
#include "slalom/result.h"

namespace slalom::vault {

inline constexpr std::size_t kTagBytes = 16;

// Sealer protects the unblinding factors of one node in one image: AES-256-GCM with a key derived
// from the epoch key for this address alone (field::derive_key, label "slalom unblinding factors
// v1"), nonce = chunk number, AAD = the address's bytes and the chunk (u32, little-endian). An
// address is sealed once, so no nonce repeats. One thread; the derived key is wiped at the end.
class Sealer {
 public:
  Sealer(const field::StreamKey& epoch_key, const field::Address& address) noexcept;

  // seal encrypts bytes in place; the tag follows from them.
  void seal(std::uint32_t chunk, std::span<std::byte> bytes,
            std::span<std::byte, kTagBytes> tag) noexcept;

  // open decrypts in place, or wipes the bytes and returns kRejected if a single bit was changed or
  // the chunk was sealed for another address.
  [[nodiscard]] Status open(std::uint32_t chunk, std::span<std::byte> bytes,
                            std::span<const std::byte, kTagBytes> tag) noexcept;

 private:
  enum class Way : int { kOpen = 0, kSeal = 1 };
  // crypt starts the context on one chunk and passes the address and the bytes through it.
  void crypt(Way way, std::uint32_t chunk, std::span<std::byte> bytes) noexcept;

  base::Wiped<field::StreamKey> key_;
  std::vector<std::byte> address_;
  struct Free {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
  };
  std::unique_ptr<EVP_CIPHER_CTX, Free> context_;
};

}  // namespace slalom::vault
