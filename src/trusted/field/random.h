// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/cpu.h"
#include "field/prime.h"
#include "slalom/result.h"

namespace slalom::field {

// Random is a source of uniform bytes. fill never fails: a source that cannot go on ends the
// process. One thread at a time; a thread that draws much makes its own.
class Random {
 public:
  virtual ~Random() = default;
  Random(const Random&) = delete;
  Random& operator=(const Random&) = delete;
  virtual void fill(std::span<std::byte> out) noexcept = 0;

 protected:
  Random() = default;
};

// make_system_random returns a generator seeded inside this process: SHA-256 over 32 bytes of the
// kernel's generator and, where the CPU has RDSEED, 32 bytes of it (so that in a TEE a lying host
// kernel alone cannot choose the seed), expanded by AES-256-CTR with fast key erasure: each refill
// replaces the key by the first output bytes, and bytes are wiped as they are handed out. The state
// is locked memory that a child of fork does not have. kUnavailable when the kernel's generator, a
// present RDSEED (after retries), libcrypto or the memory lock fails: nothing weaker is used
// instead.
[[nodiscard]] Result<std::unique_ptr<Random>> make_system_random(const base::CpuFeatures& cpu);

// keystream writes bytes [from, from + out.size()) of AES-256 in counter mode on blocks `stream`
// (8 bytes, big-endian) || block number from 0 (8 bytes, big-endian). from: a multiple of 16. The
// key may lie in out. Ends the process if libcrypto fails.
void keystream(std::span<const std::byte, 32> key, std::uint64_t stream, std::uint64_t from,
               std::span<std::byte> out) noexcept;

// draw_below fills out with independent uniform values in [0, range), by rejection on candidates of
// the fewest bits. 1 <= range <= 2^31. How many candidates were rejected does not depend on the
// values that were kept.
void draw_below(Random& random, std::uint32_t range, std::span<std::uint32_t> out) noexcept;

}  // namespace slalom::field
