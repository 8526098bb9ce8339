// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "untrusted/host/engine.h"

namespace slalom::baseline {

// start_float_engine runs options.plan_file in float32 (float_network.h) in this very process: no
// device, no check, no privacy. It stands where host::Engine::start does, so that the same
// benchmark measures both. Of the modes it takes options.threads and options.micro_batch (the first
// images of the first run say how many are computed at a time, at most that many); stats() counts
// images and time. pad_stock, prepare and report are kInvalidArgument.
//
// kUnavailable: this build has no oneDNN (SLALOM_WITH_ONEDNN=OFF), or no memory.
[[nodiscard]] host::Outcome<std::unique_ptr<host::Engine>> start_float_engine(
    const host::EngineOptions& options);

}  // namespace slalom::baseline
