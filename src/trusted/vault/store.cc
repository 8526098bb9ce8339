// SPDX-License-Identifier: Apache-2.0
#include "vault/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace slalom::vault {
namespace {
constexpr Error kNoRoom{Errc::kUnavailable,
                        "the pad store has no room: free disk space or ask for fewer pads"};
constexpr Error kGone{Errc::kUnavailable, "the pad store cannot be read"};

// all calls pread or pwrite until it has moved all the bytes.
template <auto kMove, class Byte>
Status all(int file, std::uint64_t offset, std::span<Byte> bytes, const Error& error) {
  while (!bytes.empty()) {
    const ssize_t n = kMove(file, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || static_cast<std::size_t>(n) > bytes.size()) return error;
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace

Status FileStore::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  return all<pwrite>(file_.get(), offset, bytes, kNoRoom);
}

Status FileStore::read(std::uint64_t offset, std::span<std::byte> out) {
  return all<pread>(file_.get(), offset, out, kGone);
}

Status FileStore::reserve(std::uint64_t bytes) {
  const int error = posix_fallocate(file_.get(), 0, static_cast<off_t>(bytes));
  return error == 0 ? Status{} : kNoRoom;
}

Status FileStore::clear() {
  return ftruncate(file_.get(), 0) == 0
             ? Status{}
             : Error{Errc::kUnavailable, "the pad store cannot be emptied"};
}

std::uint64_t FileStore::size() {
  struct stat info {};
  return fstat(file_.get(), &info) == 0 && info.st_size > 0
             ? static_cast<std::uint64_t>(info.st_size)
             : 0;
}

}  // namespace slalom::vault
