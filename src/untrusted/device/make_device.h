// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "device/device.h"
#include "slalom/result.h"

namespace slalom::device {

// make_device makes the device that a worker serves: "cpu", with this many threads, "cuda:N"
// ("cuda" is "cuda:0"), NVIDIA GPU N of this machine, or "tcp:HOST:PORT", a worker that listens
// there, over this many connections. kInvalidArgument: another name; kUnavailable: it cannot be
// had, and the text says why.
[[nodiscard]] Result<std::unique_ptr<Device>> make_device(std::string_view name,
                                                          std::size_t threads,
                                                          std::size_t streams = 4);

}  // namespace slalom::device
