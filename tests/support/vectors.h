// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace slalom::testing {

// Vector is one record of a vector file: lines "name = value", records separated by empty lines.
class Vector {
 public:
  std::map<std::string, std::string> fields;

  [[nodiscard]] std::vector<std::byte> bytes(const std::string& name) const {
    const std::string& hex = fields.at(name);
    std::vector<std::byte> out(hex.size() / 2);
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<std::byte>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
    }
    return out;
  }
  [[nodiscard]] std::uint64_t number(const std::string& name) const {
    return std::stoull(fields.at(name));
  }
};

inline std::vector<Vector> read_vectors(const std::string& path) {
  std::ifstream file(path);
  std::vector<Vector> out;
  std::string line;
  bool open = false;
  while (std::getline(file, line)) {
    const auto equals = line.find(" = ");
    if (line.empty() || line[0] == '#' || equals == std::string::npos) {
      open = false;
      continue;
    }
    if (!open) out.emplace_back();
    open = true;
    out.back().fields[line.substr(0, equals)] = line.substr(equals + 3);
  }
  return out;
}

}  // namespace slalom::testing
