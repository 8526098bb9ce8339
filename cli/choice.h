// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "cli/suggest.h"

// Options that take one of a few names.

namespace slalom::cli {

// Choices are the values of an option: name and what it stands for. The first is not special.
template <class T>
using Choices = std::vector<std::pair<std::string, T>>;

// one_of accepts these names and nothing else.
inline CLI::Validator one_of(std::vector<std::string> names) {
  return {[names = std::move(names)](std::string& word) {
            if (std::find(names.begin(), names.end(), word) != names.end()) return std::string();
            return fmt::format("'{}' is none of {}{}", word, fmt::join(names, ", "),
                               suggestion(word, names));
          },
          ""};
}

// choice adds an option whose value is one of the choices; `value` holds the default.
// REQUIRES: choices outlives the app.
template <class T>
CLI::Option* choice(CLI::App& app, const std::string& name, T& value, const Choices<T>& choices,
                    const std::string& text) {
  std::vector<std::string> names;
  std::string current;
  for (const auto& [key, meaning] : choices) {
    names.push_back(key);
    if (meaning == value) current = key;
  }
  const auto set = [&value, &choices](const std::string& key) {
    for (const auto& [other, meaning] : choices) {
      if (other == key) value = meaning;
    }
  };
  return app.add_option_function<std::string>(name, set, text)
      ->check(one_of(names))
      ->type_name(fmt::format("{}", fmt::join(names, "|")))
      ->default_str(current);
}

}  // namespace slalom::cli
