// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
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

  // count says how often the bytes stand in this process's private writable memory. It leaves no
  // copies there: what it reads lies in memory of the other kind.
  [[nodiscard]] std::size_t count() const {
    std::vector<std::string> lines;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) lines.push_back(line);
    void* const shared =
        mmap(nullptr, kRead, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    if (shared == MAP_FAILED || memory < 0) return ~std::size_t{0};
    const std::span<std::byte> buffer(static_cast<std::byte*>(shared), kRead);
    std::size_t found = 0;
    for (const std::string& line : lines) {
      char* end = nullptr;
      std::uint64_t first = std::strtoull(line.c_str(), &end, 16);
      if (*end != '-') continue;
      const std::uint64_t last = std::strtoull(end + 1, &end, 16);
      if (!std::string_view(end).starts_with(" rw-p") || last - first > kMost) continue;
      // Each piece begins with what could be the start of the bytes in the one before.
      for (const std::uint64_t step = kRead - (inverted_.size() - 1); first < last; first += step) {
        const std::size_t n = std::min<std::uint64_t>(kRead, last - first);
        const ssize_t got = pread(memory, shared, n, static_cast<off_t>(first));
        if (got > 0) found += count_in(buffer.first(static_cast<std::size_t>(got)));
      }
    }
    static_cast<void>(close(memory));
    static_cast<void>(munmap(shared, kRead));
    return found;
  }

 private:
  static constexpr std::uint64_t kMost = std::uint64_t{1} << 28;
  static constexpr std::size_t kRead = std::size_t{1} << 20;

  [[nodiscard]] std::size_t count_in(std::span<std::byte> copy) const {
    for (std::byte& byte : copy) byte = ~byte;
    std::size_t found = 0;
    for (auto at = copy.begin();; ++at) {
      at = std::search(at, copy.end(), inverted_.begin(), inverted_.end());
      if (at == copy.end()) return found;
      ++found;
    }
  }

  std::vector<std::byte> inverted_;
};

}  // namespace slalom::testing
