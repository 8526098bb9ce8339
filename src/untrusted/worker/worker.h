// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>

#include "device/device.h"
#include "slalom/result.h"
#include "worker/endpoint.h"
#include "worker/trace.h"

namespace slalom::worker {

// serve answers the requests of one segment, in order, with `device`, which has loaded its plan. A
// request that cannot be computed is answered kFailed and counted by nobody: the trusted side
// decides. Returns when the trusted side closes the channel or stop() returns true; stop is asked
// about fifty times a second while there is nothing to do, and after each answer. kMalformed: the
// protocol was broken. trace, if there is one, gets every job.
[[nodiscard]] Status serve(ShmEndpoint& endpoint, device::Device& device,
                           const std::function<bool()>& stop, Trace* trace = nullptr);

// job_of resolves a request's slots; nothing when they are not inside the data area.
[[nodiscard]] std::optional<device::Job> job_of(const ShmEndpoint& endpoint,
                                                const channel::Request& request) noexcept;

}  // namespace slalom::worker
