// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace slalom::base {
namespace {

std::size_t page_size() noexcept { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

void wipe(void* memory, std::size_t bytes) noexcept {
  if (bytes == 0) return;
  std::memset(memory, 0, bytes);
  // The compiler must assume that this reads the zeros.
  __asm__ volatile("" : : "r"(memory) : "memory");
}

Result<SecretArena> SecretArena::create(std::size_t bytes, Lock lock) noexcept {
  const std::size_t page = page_size();
  SecretArena arena;
  if (bytes == 0) return arena;
  if (bytes > SIZE_MAX / 2) return Error{Errc::kUnavailable, "no memory for secrets"};
  arena.size_ = round_up(bytes, page);
  const std::size_t whole = arena.size_ + 2 * page;
  // Mapped without access, then opened between the guard pages.
  void* const mapping =
      mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return Error{Errc::kUnavailable, "no memory for secrets"};
  std::byte* const memory = static_cast<std::byte*>(mapping) + page;
  if (mprotect(memory, arena.size_, PROT_READ | PROT_WRITE) != 0) {
    (void)munmap(mapping, whole);
    return Error{Errc::kUnavailable, "no memory for secrets"};
  }
  arena.memory_ = {memory, UnmapSecrets{arena.size_}};
  if (madvise(memory, arena.size_, MADV_DONTDUMP) != 0 ||
      madvise(memory, arena.size_, MADV_DONTFORK) != 0) {
    return Error{Errc::kUnavailable, "the kernel will not keep secrets out of dumps and forks"};
  }
  // Huge pages spare the check vectors most of their address translations. Only a hint.
  if (arena.size_ >= kHugeFrom) (void)madvise(memory, arena.size_, MADV_HUGEPAGE);
  arena.locked_ = mlock(memory, arena.size_) == 0;
  if (!arena.locked_ && lock == Lock::kRequired) {
    return Error{Errc::kUnavailable,
                 "keys cannot be locked into memory; raise the limit (ulimit -l)"};
  }
  return arena;
}

void UnmapSecrets::operator()(std::byte* memory) const noexcept {
  const std::size_t page = page_size();
  wipe(memory, bytes);
  (void)munmap(memory - page, bytes + 2 * page);
}

std::byte* SecretArena::take_bytes(std::size_t bytes) noexcept {
  SLALOM_ASSERT(bytes <= size_ - used_);
  std::byte* const out = memory_.get() + used_;
  const std::size_t rounded = round_up(bytes, kAlignment);
  used_ = rounded < size_ - used_ ? used_ + rounded : size_;
  return out;
}

}  // namespace slalom::base
