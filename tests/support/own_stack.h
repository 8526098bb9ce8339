// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <unordered_set>
#include <vector>

namespace slalom::testing {

// left_on_stack does some work on a thread with a stack of its own and returns what then lies
// there. Empty: there is no such thread.
template <class Work>
std::vector<std::byte> left_on_stack(Work work) {
  constexpr std::size_t kBytes = std::size_t{1} << 20;
  void* const memory =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return {};
  pthread_attr_t attributes;
  pthread_t thread{};
  bool ran = pthread_attr_init(&attributes) == 0;
  ran = ran && pthread_attr_setstack(&attributes, memory, kBytes) == 0;
  const auto start = [](void* what) -> void* {
    (*static_cast<Work*>(what))();
    return nullptr;
  };
  ran = ran && pthread_create(&thread, &attributes, start, &work) == 0;
  ran = ran && pthread_join(thread, nullptr) == 0;
  std::vector<std::byte> out(ran ? kBytes : 0);
  if (ran) std::memcpy(out.data(), memory, out.size());
  static_cast<void>(munmap(memory, kBytes));
  return out;
}

// Pieces are all stretches of eight bytes in a secret, to be looked for elsewhere.
class Pieces {
 public:
  void add(std::span<const std::byte> secret) {
    for (std::size_t i = 0; i + kSize <= secret.size(); ++i) known_.insert(at(secret, i));
    known_.erase(0);
  }
  // in counts the places where one of them lies.
  [[nodiscard]] std::size_t in(std::span<const std::byte> memory) const {
    std::size_t found = 0;
    for (std::size_t i = 0; i + kSize <= memory.size(); ++i) found += known_.count(at(memory, i));
    return found;
  }

 private:
  static constexpr std::size_t kSize = sizeof(std::uint64_t);
  static std::uint64_t at(std::span<const std::byte> bytes, std::size_t i) {
    std::uint64_t piece = 0;
    std::memcpy(&piece, bytes.data() + i, kSize);
    return piece;
  }
  std::unordered_set<std::uint64_t> known_;
};

}  // namespace slalom::testing
