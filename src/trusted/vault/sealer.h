// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "model/mode.h"
#include "model/plan.h"
#include "slalom/result.h"

namespace slalom::vault {

inline constexpr std::size_t kTagBytes = 16;
inline constexpr std::size_t kKeyBytes = 32;

// EpochId names a pad epoch in the clear; it is no secret.
using EpochId = std::array<std::byte, 16>;

// FactorAddress names the unblinding factors of one Linear node in one image: what the sealing key is
// derived for and what every chunk is bound to.
struct FactorAddress {
  model::Privacy mode = model::Privacy::kPads;
  model::Digest model{};
  EpochId epoch{};
  std::uint64_t inference = 0;
  std::uint32_t node = 0;
};

// Sealer protects the factors of one address: AES-256-GCM with a key derived by HKDF-SHA256 (RFC 5869)
// from the epoch key for this address alone, nonce = chunk number, AAD = the address and the chunk. An
// address is sealed once, so no nonce repeats. One thread; the derived key is wiped at the end.
class Sealer {
 public:
  // REQUIRES: epoch_key.size() == kKeyBytes.
  Sealer(std::span<const std::byte> epoch_key, const FactorAddress& address) noexcept;
  ~Sealer();
  Sealer(const Sealer&) = delete;
  Sealer& operator=(const Sealer&) = delete;

  // seal encrypts bytes in place; the tag follows from them.
  void seal(std::uint32_t chunk, std::span<std::byte> bytes,
            std::span<std::byte, kTagBytes> tag) noexcept;

  // open decrypts in place, or wipes the bytes and returns kRejected if a single bit was changed or the
  // chunk was sealed for another address.
  [[nodiscard]] Status open(std::uint32_t chunk, std::span<std::byte> bytes,
                            std::span<const std::byte, kTagBytes> tag) noexcept;

 private:
  std::array<std::byte, kKeyBytes> key_;
  std::array<std::byte, 1 + 32 + 16 + 8 + 4 + 4> aad_;
  void* context_;  // EVP_CIPHER_CTX
};

}  // namespace slalom::vault
