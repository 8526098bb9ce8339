// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <type_traits>
#include <utility>
#include <variant>

namespace slalom {

// Errc says what a caller can do about an error. Callers branch on codes, never on text.
enum class Errc : unsigned char {
  kInvalidArgument = 1,  // the caller's mistake: a wrong option, a missing file
  kMalformed = 2,        // bytes from outside that do not parse or break a stated bound
  kRejected = 3,         // a proof failed: a device answered wrongly; nothing was released
  kUnavailable = 4,      // a device, a disk or a pad stock is not there (now); try again
  kInternal = 5,         // a mistake in this program
};
constexpr auto range_of(Errc) { return std::pair(Errc::kInvalidArgument, Errc::kInternal); }

// Error is a code and one sentence with static storage duration. No text depends on secret data.
struct Error {
  Errc code = Errc::kInternal;
  const char* message = "";
};

// Result is a value or an Error. It never throws; the value of an error, or the error of a value,
// ends the process.
template <class T>
class [[nodiscard]] Result {
 public:
  // A Status is good from the start.
  Result() noexcept requires std::is_same_v<T, std::monostate>
  = default;
  // A function returns a value or an Error as it is.
  // NOLINTBEGIN(google-explicit-constructor)
  Result(T value) noexcept : content_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) noexcept : content_(std::in_place_index<1>, error) {}
  // NOLINTEND(google-explicit-constructor)

  [[nodiscard]] bool ok() const noexcept { return content_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] T& value() & noexcept { return *there(std::get_if<0>(&content_)); }
  [[nodiscard]] const T& value() const& noexcept { return *there(std::get_if<0>(&content_)); }
  [[nodiscard]] T&& value() && noexcept { return std::move(value()); }
  T& operator*() & noexcept { return value(); }
  const T& operator*() const& noexcept { return value(); }
  T&& operator*() && noexcept { return std::move(value()); }
  T* operator->() noexcept { return &value(); }
  const T* operator->() const noexcept { return &value(); }
  [[nodiscard]] Error error() const noexcept { return *there(std::get_if<1>(&content_)); }

 private:
  template <class Content>
  static Content* there(Content* content) noexcept {
    if (content == nullptr) std::abort();
    return content;
  }
  std::variant<T, Error> content_;
};

// Status is success or an Error.
using Status = Result<std::monostate>;

// SLALOM_TRY returns the error of a failed Status from the enclosing function.
#define SLALOM_TRY(expression)                                    \
  do {                                                            \
    if (auto slalom_status = (expression); !slalom_status.ok()) { \
      return slalom_status.error();                               \
    }                                                             \
  } while (false)

}  // namespace slalom
