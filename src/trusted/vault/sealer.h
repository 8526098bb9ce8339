// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/secret.h"
#include "field/pad_stream.h"
#include "model/mode.h"
#include "model/plan.h"
#include "slalom/result.h"

namespace slalom::vault {

inline constexpr std::size_t kTagBytes = 16;

// FactorAddress names the unblinding factors of one Linear node in one image: what the sealing key
// is derived for and what every chunk is bound to.
struct FactorAddress {
  model::Privacy mode = model::Privacy::kPads;
  model::Digest model{};
  std::uint64_t epoch = 0;  // the epoch's public id
  std::uint64_t inference = 0;
  std::uint32_t node = 0;
};

// Sealer protects the factors of one address: AES-256-GCM with a key derived from the epoch key for
// this address alone (HKDF-Expand with SHA-256, RFC 5869 section 2.3; the epoch key is uniform, so
// Extract is left out as section 3.3 allows), nonce = chunk number, AAD = the address and the
// chunk. An address is sealed once, so no nonce repeats. One thread; the derived key is wiped at
// the end.
class Sealer {
 public:
  Sealer(const field::StreamKey& epoch_key, const FactorAddress& address) noexcept;
  ~Sealer();
  Sealer(const Sealer&) = delete;
  Sealer& operator=(const Sealer&) = delete;

  // seal encrypts bytes in place; the tag follows from them.
  void seal(std::uint32_t chunk, std::span<std::byte> bytes,
            std::span<std::byte, kTagBytes> tag) noexcept;

  // open decrypts in place, or wipes the bytes and returns kRejected if a single bit was changed or
  // the chunk was sealed for another address.
  [[nodiscard]] Status open(std::uint32_t chunk, std::span<std::byte> bytes,
                            std::span<const std::byte, kTagBytes> tag) noexcept;

 private:
  base::Wiped<field::StreamKey> key_;
  std::array<std::byte, 1 + 32 + 8 + 8 + 4 + 4> aad_;
  void* context_;  // EVP_CIPHER_CTX
};

}  // namespace slalom::vault
