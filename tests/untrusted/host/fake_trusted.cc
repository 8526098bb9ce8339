// SPDX-License-Identifier: Apache-2.0
// A process that speaks the control protocol like slalom-trusted, with stand-ins inside. How it
// misbehaves is in its own file name: fake_trusted-dies-at-start and so on.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

#include "outside.h"
#include "session/server.h"
#include "support/session_fakes.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file

// Crasher kills this process in the middle of a run, on an image whose first code is 77.
class CrashingMakers final : public session::Makers {
 public:
  Result<std::unique_ptr<runtime::Executor>> executor(const model::Plan& plan,
                                                      const runtime::Placement& placement,
                                                      const runtime::Options& options,
                                                      std::span<channel::Port* const> ports,
                                                      vault::Pads* pads) override {
    auto made = inner_.executor(plan, placement, options, ports, pads);
    if (!made) return made.error();
    return std::unique_ptr<runtime::Executor>(std::make_unique<Crasher>(std::move(*made), ports));
  }
  Result<std::unique_ptr<vault::Pads>> pads(const model::Plan& plan, const model::Digest& digest,
                                            const runtime::Placement& placement,
                                            const runtime::Options& options, vault::WhenDry dry,
                                            outside::Descriptor store) override {
    return inner_.pads(plan, digest, placement, options, dry, std::move(store));
  }

 private:
  class Crasher final : public runtime::Executor {
   public:
    Crasher(std::unique_ptr<Executor> inner, std::span<channel::Port* const> ports)
        : inner_(std::move(inner)), ports_(ports.begin(), ports.end()) {}
    Status run(runtime::Source& source, runtime::Sink& sink) override {
      Watch watch(source);
      const Status done = inner_->run(watch, sink);
      if (!watch.waits) return done;
      // Waits for an answer that does not come: the worker's end must be noticed at once.
      const auto slot = ports_[0]->allocate(64);
      if (!slot) return slot.error();
      const auto got = ports_[0]->wait(std::chrono::seconds(60));
      return got.ok() ? Error{Errc::kInternal, "no end came"} : got.error();
    }
    [[nodiscard]] runtime::Stats stats() const noexcept override { return inner_->stats(); }

   private:
    class Watch final : public runtime::Source {
     public:
      explicit Watch(runtime::Source& inner) : inner_(inner) {}
      bool next(std::span<std::uint8_t> codes) override {
        if (!inner_.next(codes)) return false;
        if (codes[0] == 77) raise(SIGKILL);
        waits = waits || codes[0] == 78;
        return !waits;
      }
      bool waits = false;

     private:
      runtime::Source& inner_;
    };
    std::unique_ptr<Executor> inner_;
    std::vector<channel::Port*> ports_;
  };

  testing::FakeMakers inner_;
};

}  // namespace

int main(int count, char** values) {
  if (count < 3 || std::strcmp(values[1], "--control-fd") != 0) return 1;
  const std::string_view name = values[0];
  if (name.ends_with("-dies-at-start")) return 7;
  if (name.ends_with("-has-no-keys")) return 4;
  // Everything that it should not have been given.
  if (name.ends_with("-sees-the-environment")) {
    if (environ[0] != nullptr) return 8;
    const int first_stray = 3 + (count - 1) / 2;
    for (int fd = first_stray; fd < 1024; ++fd) {
      if (fcntl(fd, F_GETFD) >= 0) return 9;
    }
    if (getpgid(0) != getpid()) return 10;
    return 11;
  }
  if (name.ends_with("-speaks-nonsense")) {
    const std::string_view text = "HTTP/1.1 400 Bad Request\r\n\r\n";
    (void)!write(std::atoi(values[2]), text.data(), text.size());
    return 0;
  }
  CrashingMakers makers;
  session::Service service(makers, base::detect_cpu());
  outside::Descriptor listener;
  if (count == 5) listener = outside::Descriptor(std::atoi(values[4]));
  session::serve_process(service, outside::Descriptor(std::atoi(values[2])), std::move(listener));
  _exit(0);
}
