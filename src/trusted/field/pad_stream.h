// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/secret.h"
#include "field/kernels.h"
#include "field/prime.h"
#include "model/mode.h"
#include "model/plan.h"
#include "slalom/result.h"

// Pads: r uniform in [0, p) (DESIGN section 3, "Pads").
//
// Keystream t of a 32-byte key is AES-256 in counter mode (NIST SP 800-38A) on the 16-byte blocks
//   t (8 bytes, big-endian) || block number from 0 (8 bytes, big-endian).
// Candidate c_t(i) is the i-th word of keystream t: p24: bytes 3i..3i+2, p31: bytes 4i..4i+3 with
// the top bit cleared, little-endian. Word i of the pad is c_t(i) for the first t with c_t(i) < p.
// Each word depends on its own index only, so any part can be computed anywhere. A candidate is
// rejected with probability 3/2^24 (p24) or 1/2^31 (p31), whatever the accepted one is, so the time
// that rejections take says nothing about the pad.

namespace slalom::field {

using StreamKey = std::array<std::byte, 32>;

// Address names what is derived from an epoch key for one image in one attempt: the pad of one
// tensor, or the key that seals the unblinding factors of one node. Whoever holds the same key and
// address gets the same bytes; a pad masks one sequence of words once (vault/pads.h counts).
struct Address {
  model::Privacy mode = model::Privacy::kPads;
  model::Digest model{};
  std::uint64_t epoch = 0;
  std::uint64_t inference = 0;
  std::uint32_t index = 0;  // of the tensor or the node
};

// address_bytes is mode (1 byte) || model (32) || epoch (8) || inference (8) || index (4), integers
// little-endian.
using AddressBytes = std::array<std::byte, 53>;
[[nodiscard]] AddressBytes address_bytes(const Address& address) noexcept;

// derive_key is HKDF-Expand with SHA-256 (RFC 5869, section 2.3; the epoch key is uniform, so
// Extract is left out as section 3.3 allows), L = 32, info = label || address_bytes(address).
// Different labels and addresses give independent keys. Takes no memory and no lock.
void derive_key(std::string_view label, const StreamKey& epoch_key, const Address& address,
                StreamKey& out) noexcept;

// derive_stream_key derives the key of a pad, under the label "slalom pad stream 1".
void derive_stream_key(const StreamKey& epoch_key, const Address& address, StreamKey& out) noexcept;

// PadStream expands one stream key. It keeps the key schedule; wiped when it dies. fill is const
// and may run on several threads at a time; it leaves neither keys nor pads on their stacks.
class PadStream {
 public:
  PadStream(const StreamKey& key, Field f, const Kernels& kernels) noexcept;

  // fill writes words [first, first + out.size()) of the pad, canonical. Cheapest for 1,000 words
  // or more at a time. REQUIRES: first + out.size() < 2^40.
  void fill(std::uint64_t first, std::span<std::uint32_t> out) const noexcept;

 private:
  [[nodiscard]] bool candidates(std::uint64_t stream, std::uint64_t first,
                                std::span<std::uint32_t> out) const noexcept;

  const Kernels* kernels_;
  Field field_;
  base::Wiped<StreamKey> key_;
  base::Wiped<std::array<std::byte, 240>> round_keys_;  // for kernels that have their own AES
};

}  // namespace slalom::field
