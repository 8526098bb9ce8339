// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/secret.h"
#include "field/pad_stream.h"
#include "slalom/result.h"

namespace slalom::vault {

inline constexpr std::size_t kTagBytes = 16;

// Sealer protects the unblinding factors of one node in one image: AES-256-GCM with a key derived
// from the epoch key for this address alone (field::derive_key, label "slalom unblinding factors
// v1"), nonce = chunk number, AAD = the address's bytes and the chunk (u32, little-endian). An
// address is sealed once, so no nonce repeats. libcrypto does the
// work, in a context that the thread keeps. One thread; the derived key is wiped at the end, from
// that context too.
class Sealer {
 public:
  Sealer(const field::StreamKey& epoch_key, const field::Address& address) noexcept;
  ~Sealer();
  Sealer(const Sealer&) = delete;
  Sealer& operator=(const Sealer&) = delete;

  // seal encrypts bytes in place; the tag follows from them.
  void seal(std::uint32_t chunk, std::span<std::byte> bytes,
            std::span<std::byte, kTagBytes> tag) noexcept;

  // open decrypts in place, or wipes the bytes and returns kRejected if a single bit was changed or
  // the chunk was sealed for another address.
  [[nodiscard]] Status open(std::uint32_t chunk, std::span<std::byte> bytes,
                            std::span<std::byte, kTagBytes> tag) noexcept;

 private:
  enum class Way : int { kOpen = 0, kSeal = 1 };
  // crypt seals or opens in place; false if the tag is not theirs.
  bool crypt(Way way, std::uint32_t chunk, std::span<std::byte> bytes, std::byte* tag) noexcept;

  base::Wiped<field::StreamKey> key_;
  std::array<std::byte, sizeof(field::AddressBytes) + sizeof(std::uint32_t)> aad_{};
};

}  // namespace slalom::vault
