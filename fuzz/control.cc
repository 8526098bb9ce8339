// SPDX-License-Identifier: Apache-2.0
// Every decoder of the control protocol: the first byte chooses the message. What is accepted must
// encode to the same bytes.
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "session/control.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file

template <class Message>
void check(std::span<const std::byte> bytes) {
  const auto message = session::decode<Message>(bytes);
  if (!message.ok()) return;
  const std::vector<std::byte> again = session::encode(*message);
  if (again.size() != bytes.size() ||
      (!again.empty() && std::memcmp(again.data(), bytes.data(), again.size()) != 0)) {
    std::abort();
  }
}

void check_header(std::span<const std::byte> bytes) {
  if (bytes.size() != session::kFrameHeaderBytes) return;
  const auto header = session::decode_header(bytes.first<session::kFrameHeaderBytes>());
  if (!header.ok()) return;
  const auto again = session::encode_header(*header);
  if (std::memcmp(again.data(), bytes.data(), again.size()) != 0) std::abort();
}

using Check = void (*)(std::span<const std::byte>);
constexpr Check kChecks[] = {
    check_header,
    check<session::Hello>,
    check<session::Welcome>,
    check<session::PlanSize>,
    check<session::PlanLoaded>,
    check<session::Configure>,
    check<session::DeviceAttached>,
    check<session::Started>,
    check<session::Output>,
    check<session::ErrorText>,
    check<session::Failed>,
    check<session::RunDone>,
    check<session::Prepare>,
    check<session::Progress>,
    check<session::Prepared>,
    check<session::Stock>,
    check<session::Report>,
    check<runtime::Stats>,
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  kChecks[data[0] % std::size(kChecks)](std::as_bytes(std::span(data + 1, size - 1)));
  return 0;
}
