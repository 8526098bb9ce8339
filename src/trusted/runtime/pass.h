// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "runtime/checks.h"
#include "runtime/lane.h"
#include "runtime/setup.h"
#include "slalom/result.h"

namespace slalom::runtime {

// Pass runs one step of a program for the images of one lane: everything that touches every word
// (DESIGN section 4). A step is cut into tiles that stay in the second-level cache; a tile does,
// for all images of the micro-batch,
//   load the answer's words once -> range test -> unblind -> output side -> bias, requantise, table
//   -> the operators of the tail -> input side of the next layers -> next pad -> store to the slot
// and the threads of the pool take tiles as they come. One call at a time.
class Pass {
 public:
  // create prepares engines for the local layers, tables for the remote ones, and scratch memory.
  // setup and checks must outlive the pass.
  [[nodiscard]] static Result<std::unique_ptr<Pass>> create(Setup& setup, Checks& checks);
  virtual ~Pass() = default;

  // run computes lane.step. For a remote Linear its answer must have arrived. On success the lane's
  // uploads of this step lie in its slot (fenced), and every check that can be made was added to
  // the lane's verdict. An error (of the pads) leaves the lane's results meaningless.
  [[nodiscard]] virtual Status run(Lane& lane) = 0;

  // pad_seconds is the time spent on pads and factors so far, summed over threads.
  [[nodiscard]] virtual double pad_seconds() const noexcept = 0;
};

}  // namespace slalom::runtime
