// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>
#include <vector>

// Looks for bytes that should be gone in all of a process's writable memory, which is what a dump
// or a swapped page would show.

namespace slalom::testing {

// Trace remembers bytes without holding them: each is kept inverted.
class Trace {
 public:
  explicit Trace(std::span<const std::byte> bytes) : inverted_(bytes.begin(), bytes.end()) {
    for (std::byte& byte : inverted_) byte = ~byte;
  }

  // count says how often the bytes stand in this process's private writable memory.
  [[nodiscard]] std::size_t count() const {
    std::size_t found = 0;
    std::ifstream maps("/proc/self/maps");
    std::ifstream memory("/proc/self/mem", std::ios::binary);
    for (std::string line; std::getline(maps, line);) {
      std::uint64_t first = 0;
      std::uint64_t last = 0;
      char access[5] = {};
      if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %4s", &first, &last, access) != 3) {
        continue;
      }
      if (std::string(access) != "rw-p" || last - first > kMost) continue;
      found += count_in(memory, first, last);
    }
    return found;
  }

 private:
  static constexpr std::uint64_t kMost = std::uint64_t{1} << 28;

  [[nodiscard]] std::size_t count_in(std::ifstream& memory, std::uint64_t first,
                                     std::uint64_t last) const {
    std::vector<char> copy(last - first);
    memory.clear();
    memory.seekg(static_cast<std::streamoff>(first));
    if (!memory.read(copy.data(), static_cast<std::streamsize>(copy.size()))) return 0;
    for (char& c : copy) c = static_cast<char>(~c);
    std::size_t found = 0;
    const auto* const needle = reinterpret_cast<const char*>(inverted_.data());
    for (auto at = copy.begin();; ++at) {
      at = std::search(at, copy.end(), needle, needle + inverted_.size());
      if (at == copy.end()) return found;
      ++found;
    }
  }

  std::vector<std::byte> inverted_;
};

}  // namespace slalom::testing
