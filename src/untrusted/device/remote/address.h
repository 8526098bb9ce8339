// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "outside.h"
#include "slalom/result.h"

// TCP addresses and sockets of remote workers. All functions may be called from any thread.

namespace slalom::device::remote {

struct Address {
  std::string host;  // a name, an IPv4 address, or an IPv6 address without brackets
  std::string port;  // decimal, 0 to 65535
};

// parse_address reads HOST:PORT, with an IPv6 address in brackets: [::1]:7000. Nothing if the text
// is anything else.
[[nodiscard]] std::optional<Address> parse_address(std::string_view text);

// connect_to connects within `time` (looking up the name is not counted), to the first address of
// the name that answers. kUnavailable: why nobody can be reached.
[[nodiscard]] Result<outside::Descriptor> connect_to(const Address& address,
                                                     std::chrono::milliseconds time);

// listen_at makes a listening socket at an address of this machine; port 0 takes a free one.
// kInvalidArgument: it is no address of this machine; kUnavailable: somebody listens there.
[[nodiscard]] Result<outside::Descriptor> listen_at(const Address& address);

// bound_address writes the address at which a socket is bound, as parse_address reads it.
[[nodiscard]] std::string bound_address(int socket);

// A peer that says nothing is taken for dead after about this long.
inline constexpr std::chrono::milliseconds kDeadPeer{4'000};

// prepare sets what both ends want of a connection: small messages leave at once, and a peer that
// is gone without a word (a cut cable, a machine that lost its power) is noticed within kDeadPeer,
// whether there is something to send or not. Does nothing to a socket that is not TCP.
void prepare(int socket) noexcept;

// limit bounds how long one send or receive may make no progress; 0: no limit.
void limit(int socket, std::chrono::milliseconds time) noexcept;

}  // namespace slalom::device::remote
