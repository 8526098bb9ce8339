// SPDX-License-Identifier: Apache-2.0
#include "session/control.h"

#include <bit>

namespace slalom::session {
namespace {

bool known(std::uint16_t kind) noexcept {
  const auto between = [kind](Kind first, Kind last) {
    return kind >= static_cast<std::uint16_t>(first) && kind <= static_cast<std::uint16_t>(last);
  };
  return between(Kind::kHello, Kind::kShutdown) || between(Kind::kWelcome, Kind::kReportIs);
}

}  // namespace

std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header) {
  return std::bit_cast<std::array<std::byte, kFrameHeaderBytes>>(
      header.bytes | std::uint64_t{static_cast<std::uint16_t>(header.kind)} << 32);
}

Result<FrameHeader> decode_header(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  base::ByteReader in(bytes);
  const auto size = in.read<std::uint32_t>();
  const auto kind = in.read<std::uint16_t>();
  if (in.read<std::uint16_t>() != 0 || !known(kind)) {
    return Error{Errc::kMalformed, "a control frame of no known kind"};
  }
  return FrameHeader{size, static_cast<Kind>(kind)};
}

}  // namespace slalom::session
