// SPDX-License-Identifier: Apache-2.0
// A hostile host against the trusted end of the control protocol: the input is everything that a
// client sends on a fresh connection, after a greeting. The service has a plan and stand-ins for
// executor and pads. It must end the connection by itself and stay usable.
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <span>
#include <thread>

#include "session/server.h"
#include "support/session_fakes.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file

struct Target {
  Target() : service(makers, base::detect_cpu()) {
    if (!service.load(model::encode_plan(testing::session_plan())).ok()) std::abort();
  }
  testing::FakeMakers makers;
  session::Service service;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Target target;
  auto [ours, theirs] = testing::socket_pair();
  std::thread server([&service = target.service, socket = std::move(theirs)]() mutable {
    session::Wire wire(std::move(socket));
    static_cast<void>(session::serve_connection(service, wire));
  });
  std::thread reader([fd = ours.get()] {
    std::array<char, 4096> sink{};
    while (recv(fd, sink.data(), sink.size(), 0) > 0) {
    }
  });
  session::Wire hello(outside::duplicate(ours.get()));
  static_cast<void>(hello.send(session::Kind::kHello, session::encode(session::Hello{})));
  static_cast<void>(outside::send(ours.get(), std::as_bytes(std::span(data, size))));
  shutdown(ours.get(), SHUT_WR);
  server.join();
  outside::hang_up(ours.get());
  reader.join();
  // The next client finds a service that works.
  target.service.reset();
  if (!target.service.configure({}, {}).ok() || !target.service.start().ok()) std::abort();
  target.service.reset();
  return 0;
}
