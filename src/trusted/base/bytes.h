// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace slalom::base {

static_assert(std::endian::native == std::endian::little, "all formats are little-endian");

// ByteReader is the one cursor through which structured bytes from outside are read. REQUIRES: the
// bytes are private memory (copied in), so that a check and a use see the same value. After the
// first failed read every later read fails too; callers may test ok() once at the end of a record.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] bool at_end() const noexcept { return ok_ && rest_.empty(); }
  [[nodiscard]] std::size_t remaining() const noexcept { return rest_.size(); }

  // take returns the next n bytes, or an empty span and a failed reader.
  std::span<const std::byte> take(std::size_t n) noexcept {
    if (!ok_ || n > rest_.size()) {
      ok_ = false;
      return {};
    }
    auto out = rest_.first(n);
    rest_ = rest_.subspan(n);
    return out;
  }
  // read returns the next little-endian value; zero from a failed reader.
  template <class T>
  requires(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) T read()
  noexcept {
    T out{};
    auto bytes = take(sizeof(T));
    if (!bytes.empty()) std::memcpy(&out, bytes.data(), sizeof(T));
    return out;
  }
  void fail() noexcept { ok_ = false; }

 private:
  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace slalom::base
