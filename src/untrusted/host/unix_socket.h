// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "outside.h"
#include "untrusted/host/outcome.h"

namespace slalom::host {

// listen_at makes a listening Unix stream socket at a path, with mode 0600. A socket file there
// that nobody listens on any more is replaced. kInvalidArgument: a path that cannot be used;
// kUnavailable: somebody listens there.
[[nodiscard]] Outcome<outside::Descriptor> listen_at(const std::string& path);

// connect_to connects to a listening Unix stream socket. kUnavailable: nobody listens there.
[[nodiscard]] Outcome<outside::Descriptor> connect_to(const std::string& path);

// hung_up says whether the peer of a stream socket is gone. Does not block.
[[nodiscard]] bool hung_up(int socket) noexcept;

}  // namespace slalom::host
