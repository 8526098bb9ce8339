// SPDX-License-Identifier: Apache-2.0
#include "cli/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "cli/failure.h"

namespace slalom::cli {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

// Fd closes a file descriptor at the end of its scope.
class Fd {
 public:
  explicit Fd(int fd) noexcept : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void stop_writing(const std::string& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  throw Stop(full ? Errc::kUnavailable : Errc::kInvalidArgument,
             full ? fmt::format("there is no room for {} ({}); free some, or write elsewhere", path,
                                reason(error))
                  : fmt::format("{} cannot be written ({}); name a file in a folder you may write",
                                path, reason(error)));
}

void write_all(int fd, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) stop_writing(path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  // Some file systems notice only here that they are full.
  if (::fsync(fd) != 0 && errno != EINVAL) stop_writing(path, errno);
}

// Target is where the bytes for a path go.
struct Target {
  std::string name;      // the path, or what it links to
  std::string folder;    // of that
  bool special = false;  // a device or a pipe: it has no contents to replace
};

Target target_of(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) stop_writing(path, EISDIR);
  fs::path name = path;
  if (fs::is_regular_file(status) && fs::is_symlink(path, error)) name = fs::canonical(path, error);
  return {.name = name,
          .folder = name.has_parent_path() ? name.parent_path() : ".",
          .special = fs::exists(status) && !fs::is_regular_file(status)};
}

// A file made under a temporary name, removed unless it got its own.
class Temporary {
 public:
  explicit Temporary(const std::string& target)
      : name_(fmt::format("{}.{}.tmp", target, ::getpid())) {}
  ~Temporary() {
    if (!kept_) ::unlink(name_.c_str());
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  void rename_to(const std::string& target) {
    if (::rename(name_.c_str(), target.c_str()) != 0) stop_writing(target, errno);
    kept_ = true;
  }

 private:
  std::string name_;
  bool kept_ = false;
};

}  // namespace

std::vector<std::byte> read_file(const std::string& path, std::uint64_t max_bytes) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (fd.get() < 0 || ::fstat(fd.get(), &info) != 0) {
    throw Stop(Errc::kInvalidArgument,
               fmt::format("{} cannot be read ({}); check the name", path, reason(errno)));
  }
  if (!S_ISREG(info.st_mode)) {
    throw Stop(Errc::kInvalidArgument, fmt::format("{} is not a file; name a regular file", path));
  }
  if (static_cast<std::uint64_t>(info.st_size) > max_bytes) {
    throw Stop(Errc::kMalformed, fmt::format("{} has {} bytes, more than the {} that are read here",
                                             path, info.st_size, max_bytes));
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(info.st_size));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::read(fd.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      throw Stop(Errc::kInvalidArgument,
                 fmt::format("{} cannot be read to its end; is it being written?", path));
    }
    done += static_cast<std::size_t>(n);
  }
  return bytes;
}

void check_output(const std::string& path, std::span<const std::string> sources) {
  std::error_code ignored;
  for (const std::string& source : sources) {
    if (source == path || fs::equivalent(source, path, ignored)) {
      throw Stop(Errc::kInvalidArgument,
                 fmt::format("{} would be written over; name another file for the result", source));
    }
  }
  const Target target = target_of(path);
  if (::access(target.special ? path.c_str() : target.folder.c_str(), W_OK) != 0) {
    stop_writing(path, errno);
  }
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  const auto [name, folder, special] = target_of(path);
  if (special) {
    const Fd fd(::open(name.c_str(), O_WRONLY | O_CLOEXEC));
    if (fd.get() < 0) stop_writing(path, errno);
    return write_all(fd.get(), bytes, path);
  }
  Temporary temporary(name);
  const Fd nameless(::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644));
  if (nameless.get() >= 0) {
    write_all(nameless.get(), bytes, path);
    const std::string link = fmt::format("/proc/self/fd/{}", nameless.get());
    if (::linkat(AT_FDCWD, link.c_str(), AT_FDCWD, temporary.name().c_str(), AT_SYMLINK_FOLLOW) ==
        0) {
      temporary.rename_to(name);
      return;
    }
  } else if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) {
    stop_writing(path, errno);
  }
  // A file system without nameless files: a named one, removed if anything goes wrong.
  const Fd named(::open(temporary.name().c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
  if (named.get() < 0) stop_writing(path, errno);
  write_all(named.get(), bytes, path);
  temporary.rename_to(name);
}

std::vector<std::string> files_in(const std::string& folder,
                                  std::span<const std::string> suffixes) {
  std::error_code error;
  std::vector<std::string> files;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const bool wanted = std::any_of(suffixes.begin(), suffixes.end(),
                                    [&](const std::string& s) { return name.ends_with(s); });
    if (wanted && it->is_regular_file(error)) files.push_back(it->path().string());
  }
  if (error) {
    throw Stop(
        Errc::kInvalidArgument,
        fmt::format("the folder {} cannot be read ({}); check the name", folder, error.message()));
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string temporary_folder(const std::string& purpose) {
  std::error_code error;
  std::string name = (fs::temp_directory_path(error) / "slalom-XXXXXX").string();
  if (error || ::mkdtemp(name.data()) == nullptr) {
    throw Stop(Errc::kUnavailable,
               fmt::format("no temporary folder for {} can be made; set TMPDIR", purpose));
  }
  return name;
}

}  // namespace slalom::cli
