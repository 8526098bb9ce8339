// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "slalom/result.h"

namespace slalom::host {

// Failure is an Errc with one sentence for a person: what went wrong and with which file, device or
// process. (slalom::Error has static text only, which is right inside the trusted process and too
// little outside.)
struct Failure {
  Errc code = Errc::kInternal;
  std::string message;
};

// exit_code is the exit status of the command line for an error: 1 usage, 2 bad input, 3 integrity
// rejected, 4 unavailable, 5 internal.
[[nodiscard]] constexpr int exit_code(Errc code) noexcept { return static_cast<int>(code); }
static_assert(exit_code(Errc::kInvalidArgument) == 1 && exit_code(Errc::kMalformed) == 2 &&
              exit_code(Errc::kRejected) == 3 && exit_code(Errc::kUnavailable) == 4 &&
              exit_code(Errc::kInternal) == 5);

// Outcome is a value or a Failure. Reading the one that is not there is a programming error
// (std::get throws std::bad_variant_access).
template <class T>
class [[nodiscard]] Outcome {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): `return value;` is what it is for
  Outcome(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Outcome(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

  [[nodiscard]] bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] T& value() & { return std::get<0>(state_); }
  [[nodiscard]] const T& value() const& { return std::get<0>(state_); }
  [[nodiscard]] T&& value() && { return std::get<0>(std::move(state_)); }
  [[nodiscard]] T& operator*() & { return value(); }
  [[nodiscard]] const T& operator*() const& { return value(); }
  [[nodiscard]] T&& operator*() && { return std::move(*this).value(); }
  [[nodiscard]] T* operator->() { return &value(); }
  [[nodiscard]] const T* operator->() const { return &value(); }
  [[nodiscard]] const Failure& failure() const { return std::get<1>(state_); }

 private:
  std::variant<T, Failure> state_;
};

// Outcome<void>, called Done, is success or a Failure.
template <>
class [[nodiscard]] Outcome<void> {
 public:
  Outcome() = default;
  // NOLINTNEXTLINE(google-explicit-constructor)
  Outcome(Failure failure) : failed_(true), failure_(std::move(failure)) {}
  [[nodiscard]] bool ok() const noexcept { return !failed_; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] const Failure& failure() const noexcept { return failure_; }

 private:
  bool failed_ = false;
  Failure failure_;
};
using Done = Outcome<void>;

}  // namespace slalom::host
