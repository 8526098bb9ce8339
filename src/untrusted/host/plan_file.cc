// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/plan_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "outside.h"
#include "session/control.h"

namespace slalom::host {
namespace {

Failure unreadable(const std::string& path, const std::string& why) {
  return {Errc::kInvalidArgument, "cannot read the plan '" + path + "': " + why};
}

}  // namespace

Outcome<PlanFile> read_plan_file(const std::string& path) {
  const outside::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return unreadable(path, std::generic_category().message(errno));
  struct stat status {};
  if (fstat(file.get(), &status) != 0)
    return unreadable(path, std::generic_category().message(errno));
  if (!S_ISREG(status.st_mode)) return unreadable(path, "it is not a regular file");
  if (status.st_size <= 0 || static_cast<std::uint64_t>(status.st_size) > session::kMaxPlanBytes) {
    return Failure{Errc::kMalformed, "'" + path + "' is not a plan: its size is impossible"};
  }
  PlanFile out;
  out.bytes.resize(static_cast<std::size_t>(status.st_size));
  for (std::size_t at = 0; at < out.bytes.size();) {
    const ssize_t got = read(file.get(), out.bytes.data() + at, out.bytes.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return unreadable(path, std::generic_category().message(errno));
    if (got == 0) return unreadable(path, "it became shorter meanwhile");
    at += static_cast<std::size_t>(got);
  }
  auto plan = model::decode_plan(out.bytes);
  const auto digest = model::plan_digest(out.bytes);
  if (!plan || !digest) {
    const Error error = plan ? digest.error() : plan.error();
    return Failure{error.code, "'" + path + "' is not a valid plan: " + error.message};
  }
  out.plan = std::make_shared<const model::Plan>(std::move(*plan));
  out.digest = *digest;
  return out;
}

}  // namespace slalom::host
