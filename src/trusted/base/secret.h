// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "base/arena.h"
#include "slalom/result.h"

namespace slalom::base {

// Secret<T> owns one value in locked memory of its own, wiped when it dies and absent in a child of
// fork. It cannot be copied, printed, converted to bool or compared: the value is used through
// reveal() by code that keeps it secret, and leaves secrecy through declassify() only, a visible,
// greppable act.
template <class T>
requires std::is_trivially_copyable_v<T>
class Secret {
 public:
  // create gives a value of zero bytes. kUnavailable if the memory cannot be locked.
  [[nodiscard]] static Result<Secret> create() noexcept {
    Result<SecretArena> arena = SecretArena::create(SecretArena::bytes_for<T>(1), Lock::kRequired);
    if (!arena.ok()) return arena.error();
    return Secret(std::move(*arena));
  }
  Secret(Secret&&) noexcept = default;
  Secret& operator=(Secret&&) noexcept = default;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret() = default;

  // reveal gives the value to code that treats it as secret: constant time, never stored elsewhere.
  [[nodiscard]] const T& reveal() const noexcept { return *value_; }
  [[nodiscard]] T& reveal() noexcept { return *value_; }
  // bytes is the same as raw memory, to be filled by a random source or a key derivation.
  [[nodiscard]] std::span<std::byte, sizeof(T)> bytes() noexcept {
    return std::as_writable_bytes(std::span<T, 1>(value_, 1));
  }
  // declassify makes the value public.
  [[nodiscard]] T declassify() const noexcept { return *value_; }

  explicit operator bool() const = delete;
  bool operator==(const Secret&) const = delete;

 private:
  explicit Secret(SecretArena arena) noexcept
      : arena_(std::move(arena)), value_(arena_.take<T>(1).data()) {}

  SecretArena arena_;
  T* value_;
};

// Wiped<T> is a value on the stack or in a secret arena that is overwritten when it dies. It is for
// short-lived copies of key material; long-lived keys are Secrets.
template <class T>
requires std::is_trivially_copyable_v<T>
class Wiped {
 public:
  Wiped() noexcept : value_{} {}
  Wiped(const Wiped&) = delete;
  Wiped& operator=(const Wiped&) = delete;
  ~Wiped() { wipe(&value_, sizeof(T)); }
  [[nodiscard]] T& reveal() noexcept { return value_; }
  [[nodiscard]] const T& reveal() const noexcept { return value_; }
  [[nodiscard]] std::span<std::byte, sizeof(T)> bytes() noexcept {
    return std::as_writable_bytes(std::span<T, 1>(&value_, 1));
  }

 private:
  T value_;
};

}  // namespace slalom::base
