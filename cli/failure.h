// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "slalom/result.h"
#include "untrusted/host/outcome.h"

namespace slalom::cli {

// Stop ends a subcommand with an exit status (host::exit_code of its code) and one sentence for a
// person that says what to do. It is thrown anywhere in the command line and caught in main.
class Stop : public std::exception {
 public:
  Stop(Errc code, std::string message) : code_(code), message_(std::move(message)) {}
  explicit Stop(const host::Failure& failure) : Stop(failure.code, failure.message) {}

  [[nodiscard]] Errc code() const noexcept { return code_; }
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

 private:
  Errc code_;
  std::string message_;
};

// unwrap returns the value of an Outcome or throws its Failure as a Stop.
template <class T>
T unwrap(host::Outcome<T> outcome) {
  if (!outcome.ok()) throw Stop(outcome.failure());
  return std::move(outcome).value();
}
inline void unwrap(const host::Done& done) {
  if (!done.ok()) throw Stop(done.failure());
}

}  // namespace slalom::cli
