// SPDX-License-Identifier: Apache-2.0
// The error type of the importer. An import fails with one sentence for a person, who needs to
// know which node of which network is to blame; slalom::Error carries no text of its own, so the
// importer has a type with owned strings.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace slalom::importer {

// Error says what is wrong and, where a node is to blame, with which one.
struct Error {
  std::string what;        // one clause, lower case, no full stop: "the kernel is empty"
  std::string node;        // name of the node, or empty
  std::string op;          // its operator, "domain::name" outside the default domain, or empty
  std::int64_t opset = 0;  // the operator set that the network asks for, or 0
  bool no_memory = false;  // it is not the network's fault: this machine has too little memory

  // message joins the fields into one sentence:
  // "node 'conv1' (Conv, opset 13): the kernel is empty".
  [[nodiscard]] std::string message() const;
};

// out_of_memory is the Error of a std::bad_alloc.
Error out_of_memory();

// ImportResult is a value or an Error. Reading the member that is not there is a programming
// error (std::get throws std::bad_variant_access).
template <class T>
class [[nodiscard]] ImportResult {
 public:
  ImportResult(T value)  // NOLINT(google-explicit-constructor): `return value;` reads well
      : state_(std::in_place_index<0>, std::move(value)) {}
  ImportResult(Error error)  // NOLINT(google-explicit-constructor)
      : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  [[nodiscard]] T& value() & { return std::get<0>(state_); }
  [[nodiscard]] const T& value() const& { return std::get<0>(state_); }
  [[nodiscard]] T&& value() && { return std::get<0>(std::move(state_)); }
  [[nodiscard]] const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

}  // namespace slalom::importer
