// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <new>
#include <type_traits>
#include <utility>

namespace slalom {

// Errc says what a caller can do about an error. Callers branch on codes, never on text.
enum class Errc : unsigned char {
  kInvalidArgument = 1,  // the caller's mistake: a wrong option, a missing file
  kMalformed = 2,        // bytes from outside that do not parse or break a stated bound
  kRejected = 3,         // a proof failed: a device answered wrongly; nothing was released
  kUnavailable = 4,      // a device, a disk or a pad stock is not there (now); try again
  kInternal = 5,         // a mistake in this program
};

// Error is a code and one sentence with static storage duration. No text depends on secret data.
struct Error {
  Errc code = Errc::kInternal;
  const char* message = "";
};

// Result is a value or an Error. It never throws; value() of an error ends the process.
template <class T>
class [[nodiscard]] Result {
  static_assert(!std::is_reference_v<T>);

 public:
  // A function returns a value or an Error as it is.
  // NOLINTBEGIN(google-explicit-constructor)
  Result(T value) noexcept : ok_(true), value_(std::move(value)) {}
  Result(Error error) noexcept : ok_(false), error_(error) {}
  // NOLINTEND(google-explicit-constructor)
  Result(Result&& other) noexcept : ok_(other.ok_) {
    if (ok_) {
      new (&value_) T(std::move(other.value_));
    } else {
      error_ = other.error_;
    }
  }
  Result& operator=(Result&& other) noexcept {
    if (this != &other) {
      this->~Result();
      new (this) Result(std::move(other));
    }
    return *this;
  }
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  ~Result() {
    if (ok_) value_.~T();
  }

  [[nodiscard]] bool ok() const noexcept { return ok_; }
  explicit operator bool() const noexcept { return ok_; }
  [[nodiscard]] T& value() & noexcept {
    if (!ok_) std::abort();
    return value_;
  }
  [[nodiscard]] const T& value() const& noexcept {
    if (!ok_) std::abort();
    return value_;
  }
  [[nodiscard]] T&& value() && noexcept {
    if (!ok_) std::abort();
    return std::move(value_);
  }
  T& operator*() & noexcept { return value(); }
  const T& operator*() const& noexcept { return value(); }
  T&& operator*() && noexcept { return std::move(*this).value(); }
  T* operator->() noexcept { return &value(); }
  const T* operator->() const noexcept { return &value(); }
  [[nodiscard]] Error error() const noexcept {
    if (ok_) std::abort();
    return error_;
  }

 private:
  bool ok_;
  union {
    T value_;
    Error error_;
  };
};

// Result<void>, called Status, is success or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() noexcept = default;
  // NOLINTNEXTLINE(google-explicit-constructor)
  Result(Error error) noexcept : ok_(false), error_(error) {}
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  explicit operator bool() const noexcept { return ok_; }
  [[nodiscard]] Error error() const noexcept {
    if (ok_) std::abort();
    return error_;
  }

 private:
  bool ok_ = true;
  Error error_;
};
using Status = Result<void>;

// SLALOM_TRY returns the error of a failed Status from the enclosing function.
#define SLALOM_TRY(expression)                                    \
  do {                                                            \
    if (auto slalom_status = (expression); !slalom_status.ok()) { \
      return slalom_status.error();                               \
    }                                                             \
  } while (false)

}  // namespace slalom
