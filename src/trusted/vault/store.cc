// SPDX-License-Identifier: Apache-2.0
#include "vault/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

namespace slalom::vault {
namespace {
constexpr Error kNoRoom{Errc::kUnavailable,
                        "the pad store has no room: free disk space or ask for fewer pads"};
constexpr Error kGone{Errc::kUnavailable, "the pad store cannot be read"};
}  // namespace

FileStore::~FileStore() { close(fd_); }

Status FileStore::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || static_cast<std::size_t>(n) > bytes.size()) return kNoRoom;
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status FileStore::read(std::uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t n = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || static_cast<std::size_t>(n) > out.size()) return kGone;
    offset += static_cast<std::uint64_t>(n);
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Status FileStore::reserve(std::uint64_t bytes) {
  const int error = posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  return error == 0 ? Status{} : kNoRoom;
}

Status FileStore::clear() {
  return ftruncate(fd_, 0) == 0 ? Status{}
                                : Error{Errc::kUnavailable, "the pad store cannot be emptied"};
}

std::uint64_t FileStore::size() {
  struct stat info {};
  return fstat(fd_, &info) == 0 && info.st_size > 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

Status MemoryStore::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  const std::shared_lock lock(mutex_);
  if (offset > bytes_.size() || bytes.size() > bytes_.size() - offset) return kNoRoom;
  std::memcpy(bytes_.data() + offset, bytes.data(), bytes.size());
  return {};
}

Status MemoryStore::read(std::uint64_t offset, std::span<std::byte> out) {
  const std::shared_lock lock(mutex_);
  if (offset > bytes_.size() || out.size() > bytes_.size() - offset) return kGone;
  std::memcpy(out.data(), bytes_.data() + offset, out.size());
  return {};
}

Status MemoryStore::reserve(std::uint64_t bytes) {
  const std::unique_lock lock(mutex_);
  if (bytes > bytes_.size()) bytes_.resize(bytes);
  return {};
}

Status MemoryStore::clear() {
  const std::unique_lock lock(mutex_);
  bytes_.clear();
  bytes_.shrink_to_fit();
  return {};
}

std::uint64_t MemoryStore::size() {
  const std::shared_lock lock(mutex_);
  return bytes_.size();
}

}  // namespace slalom::vault
