// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "runtime/executor.h"
#include "slalom/result.h"

namespace slalom::runtime {

// make_streaming_executor makes the integer executor: lanes of micro-batches over any number of
// ports.
//
// The order of things. Images go into lanes in the order of the source and leave in the same order.
// A lane does its steps until it waits for an answer; then the next lane gets the processor. When
// all of them wait, so does this thread.
//
// What goes wrong.
//  - A verdict is not good: the images of that lane fail with kRejected, its port is never used
//    again, the challenge set serves no new attempt. Nothing is tried again.
//  - A port closes itself because of what the device sent: the same for the lane that waited
//    longest.
//  - A port is silent for too long, or gone: lanes on it start again from their inputs on another
//    port, as new attempts with new pads and the newest challenge set. Without another port they
//    fail with kUnavailable.
//  - The pads cannot be had: the lane fails; its slot is not used before the device has answered.
//
// Arguments as for Executor::create, which has checked them; pads is null without privacy.
[[nodiscard]] Result<std::unique_ptr<Executor>> make_streaming_executor(
    const model::Plan& plan, const Placement& placement, const Options& options,
    std::span<channel::Port* const> ports, vault::Pads* pads, field::Random* random);

}  // namespace slalom::runtime
