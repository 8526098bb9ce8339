// SPDX-License-Identifier: Apache-2.0
#include "importer/external_data.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <system_error>
#include <utility>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

class File {
 public:
  explicit File(int fd) noexcept : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  int fd_;
};

std::string system_text(int error) { return std::system_category().message(error); }

std::vector<std::string> components(const std::string& location) {
  if (location.empty() || location.find('\0') != std::string::npos) {
    fail("the location of external data is empty or holds a zero byte");
  }
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (begin <= location.size()) {
    const std::size_t end = std::min(location.find('/', begin), location.size());
    parts.push_back(location.substr(begin, end - begin));
    begin = end + 1;
  }
  for (const std::string& part : parts) {
    if (part.empty() || part == "." || part == "..") {
      fail("the location of external data '" + location +
           "' is not a plain path below the folder of the network");
    }
  }
  return parts;
}

File open_below(const std::string& folder, const std::string& location) {
  const auto parts = components(location);
  File at(open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (std::size_t i = 0; at.fd() >= 0 && i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    // O_NONBLOCK: opening a named pipe must not wait for a writer.
    const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (last ? O_NONBLOCK : O_DIRECTORY);
    at = File(openat(at.fd(), parts[i].c_str(), flags));
  }
  if (at.fd() < 0) {
    const int error = errno;
    fail("the external data '" + location +
         "' cannot be opened: " + (error == ELOOP ? "it is a symbolic link" : system_text(error)));
  }
  return at;
}

// regular_size returns the size of a regular file, or -1.
std::int64_t regular_size(const File& file) {
  struct stat info {};
  if (fstat(file.fd(), &info) != 0 || !S_ISREG(info.st_mode)) return -1;
  return info.st_size;
}

// read_range fills dst; false if the file ends too early or fails.
bool read_range(const File& file, std::int64_t offset, std::span<std::byte> dst) {
  while (!dst.empty()) {
    const ssize_t got = pread(file.fd(), dst.data(), dst.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    dst = dst.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
  return true;
}

}  // namespace

std::vector<std::byte> read_external(const std::string& folder, const ExternalRange& range,
                                     std::int64_t wanted) {
  const std::string name = "the external data '" + range.location + "'";
  if (range.length && *range.length != wanted) {
    fail(name + " has " + std::to_string(*range.length) + " bytes, but the tensor needs " +
         std::to_string(wanted));
  }
  const File file = open_below(folder, range.location);
  const std::int64_t size = regular_size(file);
  if (size < 0) fail(name + " is not a regular file");
  if (range.offset < 0 || range.offset > size || wanted > size - range.offset) {
    fail(name + " has " + std::to_string(size) + " bytes, but the tensor needs " +
         std::to_string(wanted) + " from offset " + std::to_string(range.offset));
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(wanted));
  if (!read_range(file, range.offset, bytes)) fail(name + " cannot be read");
  return bytes;
}

std::vector<std::byte> read_file(const std::string& path, std::int64_t max_bytes) {
  const File file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd() < 0) fail("'" + path + "' cannot be opened: " + system_text(errno));
  const std::int64_t size = regular_size(file);
  if (size < 0) fail("'" + path + "' is not a regular file");
  if (size > max_bytes) {
    fail("'" + path + "' has " + std::to_string(size) + " bytes; " + std::to_string(max_bytes) +
         " are supported");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  if (!read_range(file, 0, bytes)) fail("'" + path + "' cannot be read");
  return bytes;
}

}  // namespace slalom::importer
