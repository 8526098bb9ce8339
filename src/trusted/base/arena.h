// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

#include "base/assert.h"
#include "base/round_up.h"
#include "slalom/result.h"

namespace slalom::base {

// wipe overwrites memory with zeros; the compiler may not leave it out.
void wipe(void* memory, std::size_t bytes) noexcept;

// Lock says what to do when the kernel will not lock the memory (RLIMIT_MEMLOCK): bulk secrets may
// go on unlocked and be reported, keys may not.
enum class Lock : std::uint8_t { kWhereAllowed = 1, kRequired = 2 };

// UnmapSecrets wipes usable bytes and unmaps them with their guard pages.
struct UnmapSecrets {
  std::size_t bytes = 0;
  void operator()(std::byte* memory) const noexcept;
};

// SecretArena is one block of memory for secrets: zeroed, 64-byte aligned pieces, kept out of core
// dumps (MADV_DONTDUMP) and not there at all in a child of fork (MADV_DONTFORK: a child that
// touches a key dies, where a wiped key would be a key of zeros), an unmapped guard page at each
// end, locked as far as RLIMIT_MEMLOCK allows, wiped when it dies. Pieces are handed out in order
// and never given back. Not thread-safe while pieces are taken. An arena moved from must not be
// used.
//
//   | guard page | pieces ...  (unused) | guard page |
class SecretArena {
 public:
  // create maps room for `bytes` (rounded up to pages; each piece takes a multiple of 64).
  // kUnavailable without memory, or, with kRequired, when not all of it can be locked.
  [[nodiscard]] static Result<SecretArena> create(std::size_t bytes, Lock lock) noexcept;

  // take returns n zeroed values; the process ends if they do not fit (the caller sized the arena).
  template <class T>
  requires(std::is_trivially_copyable_v<T>&& std::is_trivially_destructible_v<T>)
      [[nodiscard]] std::span<T> take(std::size_t n) noexcept {
    static_assert(alignof(T) <= kAlignment);
    SLALOM_ASSERT(n <= SIZE_MAX / sizeof(T));
    auto* const raw = take_bytes(n * sizeof(T));
    return {std::launder(static_cast<T*>(static_cast<void*>(raw))), n};
  }
  // bytes_for is what take<T>(n) uses up: add these to size an arena.
  template <class T>
  [[nodiscard]] static constexpr std::size_t bytes_for(std::size_t n) noexcept {
    return round_up(n * sizeof(T), kAlignment);
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  // locked_bytes is 0 or size(): how much the kernel agreed never to swap out.
  [[nodiscard]] std::size_t locked_bytes() const noexcept { return locked_ ? size_ : 0; }

 private:
  static constexpr std::size_t kAlignment = 64;
  static constexpr std::size_t kHugeFrom = std::size_t{4} << 20;
  [[nodiscard]] std::byte* take_bytes(std::size_t bytes) noexcept;

  std::unique_ptr<std::byte, UnmapSecrets> memory_;  // the usable bytes, between two guard pages
  std::size_t size_ = 0;
  std::size_t used_ = 0;
  bool locked_ = false;
};

}  // namespace slalom::base
