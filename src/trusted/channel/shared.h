// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "base/assert.h"

namespace slalom::channel {

// SharedView gives access to the header and rings of a segment that another process may rewrite at
// any moment. Structures are moved whole between shared and private memory, eight bytes at a time
// by atomic accesses that the compiler can neither repeat nor split; nothing is used before it is a
// private copy. Offsets are the caller's own (layout.h), never read from the segment by the trusted
// side, and out of range ends the process.
class SharedView {
 public:
  explicit SharedView(std::span<std::byte> memory) noexcept : memory_(memory) {}

  template <class T>
  [[nodiscard]] T load(std::size_t at, std::memory_order order) const noexcept {
    return std::atomic_ref<T>(word<T>(at)).load(order);
  }
  template <class T>
  void store(std::size_t at, T value, std::memory_order order) const noexcept {
    std::atomic_ref<T>(word<T>(at)).store(value, order);
  }
  // low_half is the lower 32 bits of a 64-bit word, as an address to sleep on.
  [[nodiscard]] const std::uint32_t& low_half(std::size_t at) const noexcept {
    return word<std::uint32_t>(at);
  }

  template <class T>
  [[nodiscard]] T copy_in(std::size_t at) const noexcept {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::uint64_t) == 0);
    std::array<std::uint64_t, sizeof(T) / sizeof(std::uint64_t)> words{};
    for (std::size_t i = 0; i < words.size(); ++i) {
      words[i] = load<std::uint64_t>(at + i * sizeof(std::uint64_t), std::memory_order_relaxed);
    }
    T out{};
    std::memcpy(&out, words.data(), sizeof(T));
    return out;
  }
  template <class T>
  void copy_out(std::size_t at, const T& value) const noexcept {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::uint64_t) == 0);
    std::array<std::uint64_t, sizeof(T) / sizeof(std::uint64_t)> words{};
    std::memcpy(words.data(), &value, sizeof(T));
    for (std::size_t i = 0; i < words.size(); ++i) {
      store(at + i * sizeof(std::uint64_t), words[i], std::memory_order_relaxed);
    }
  }

 private:
  template <class T>
  [[nodiscard]] T& word(std::size_t at) const noexcept {
    SLALOM_ASSERT(at % sizeof(T) == 0 && at <= memory_.size() && sizeof(T) <= memory_.size() - at);
    return *reinterpret_cast<T*>(memory_.data() + at);
  }

  std::span<std::byte> memory_;
};

}  // namespace slalom::channel
