// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"

// Archives: one description of a record serves its reader and its writer, so they cannot disagree.
// A record R is described in its own namespace by
//
//   void fields(auto& a, Is<R> auto& r) { a(r.first, r.second); }
//
// and the type of each member says how it is written (docs/plan-format.md, "Types"): numbers as
// they are, bool and enumerations as one byte, a text as u32 and bytes, a vector of numbers as u64
// and the numbers, a vector of anything else as u32 and the items, an optional as bool and value, a
// variant as one byte (its index) and the alternative, an array as its elements.
//
// The reader believes nothing: no count asks for more memory than a small multiple of the bytes
// that are there, a bool is 0 or 1, an enumeration E lies in range_of(E), a text holds no control
// characters. What it cannot take fails it (ByteReader), and the caller asks at_end() at the end.

namespace slalom::base {

inline constexpr std::size_t kMaxText = 4096;
inline constexpr std::uint32_t kMaxItems = 1U << 16;

// A record is an R that the reader fills, or a const R that the writer visits.
template <class T, class R>
concept Is = std::is_same_v<std::remove_const_t<T>, R>;

template <class T>
inline constexpr bool kIsNumber = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

// ArchiveWriter appends to a buffer that it owns.
class ArchiveWriter {
 public:
  template <class... T>
  void operator()(const T&... values) {
    (value(values), ...);
  }
  // put appends bytes as they are.
  void put(std::span<const std::byte> bytes) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  // require states a rule that the reader enforces.
  void require(bool /*rule*/) noexcept {}
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return out_; }
  [[nodiscard]] std::vector<std::byte> release() noexcept { return std::move(out_); }

 private:
  template <class T>
  void value(const T& v) {
    if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      static_assert(kIsNumber<T> || sizeof(T) == 1);
      put(std::as_bytes(std::span(&v, 1)));
    } else {
      fields(*this, v);
    }
  }
  void value(const std::string& v) {
    const auto text = std::span(v).first(std::min(v.size(), kMaxText));
    value(static_cast<std::uint32_t>(text.size()));
    put(std::as_bytes(text));
  }
  template <class T>
  void value(const std::vector<T>& v) {
    if constexpr (kIsNumber<T>) {
      value(static_cast<std::uint64_t>(v.size()));
      put(std::as_bytes(std::span(v)));
    } else {
      value(static_cast<std::uint32_t>(v.size()));
      for (const T& item : v) value(item);
    }
  }
  template <class T, std::size_t kCount>
  void value(const std::array<T, kCount>& v) {
    for (const T& item : v) value(item);
  }
  template <class T>
  void value(const std::optional<T>& v) {
    value(v.has_value());
    if (v) value(*v);
  }
  template <class... T>
  void value(const std::variant<T...>& v) {
    value(static_cast<std::uint8_t>(v.index()));
    std::visit([this](const auto& alternative) { this->value(alternative); }, v);
  }

  std::vector<std::byte> out_;
};

class ArchiveReader : public ByteReader {
 public:
  using ByteReader::ByteReader;

  template <class... T>
  void operator()(T&... values) {
    (value(values), ...);
  }
  void require(bool rule) noexcept {
    if (!rule) fail();
  }

 private:
  template <class T>
  void value(T& v) {
    if constexpr (kIsNumber<T>) {
      v = read<T>();
    } else if constexpr (std::is_enum_v<T>) {
      const auto raw = static_cast<T>(read<std::uint8_t>());
      constexpr std::pair<T, T> kRange = range_of(T{});
      require(raw >= kRange.first && raw <= kRange.second);
      v = raw;
    } else {
      fields(*this, v);
    }
  }
  void value(bool& v) {
    const auto raw = read<std::uint8_t>();
    require(raw <= 1);
    v = raw == 1;
  }
  void value(std::byte& v) { v = static_cast<std::byte>(read<std::uint8_t>()); }
  void value(std::string& v) {
    const auto size = read<std::uint32_t>();
    require(size <= kMaxText);
    const auto bytes = take(size);
    v.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const char c : v) require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  }
  template <class T>
  void value(std::vector<T>& v) {
    if constexpr (kIsNumber<T>) {
      const auto count = read<std::uint64_t>();
      if (count > remaining() / sizeof(T)) return fail();
      v.resize(static_cast<std::size_t>(count));
      const auto bytes = take(v.size() * sizeof(T));
      if (!bytes.empty()) std::memcpy(v.data(), bytes.data(), bytes.size());
    } else {
      const auto count = read<std::uint32_t>();
      if (count > kMaxItems || count > remaining()) return fail();  // an item has a byte or more
      v.resize(count);
      for (auto item = v.begin(); item != v.end() && ok(); ++item) value(*item);
    }
  }
  template <class T, std::size_t kCount>
  void value(std::array<T, kCount>& v) {
    for (T& item : v) value(item);
  }
  template <class T>
  void value(std::optional<T>& v) {
    bool there = false;
    value(there);
    if (there) value(v.emplace());
  }
  template <class... T>
  void value(std::variant<T...>& v) {
    const auto index = read<std::uint8_t>();
    require(index < sizeof...(T));
    if (ok()) alternative<0>(v, index);
  }
  template <std::size_t kIndex, class... T>
  void alternative(std::variant<T...>& v, std::size_t index) {
    if constexpr (kIndex < sizeof...(T)) {
      if (index == kIndex) return value(v.template emplace<kIndex>());
      alternative<kIndex + 1>(v, index);
    }
  }
};

}  // namespace slalom::base
