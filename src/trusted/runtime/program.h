// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "field/prime.h"
#include "model/mode.h"
#include "model/plan.h"
#include "runtime/executor.h"
#include "runtime/ops/operator.h"

namespace slalom::runtime {

// Upload is one tensor as it is sent to a device: once for all remote layers that read it.
struct Upload {
  model::TensorId tensor = 0;
  field::Field field = field::Field::kP24;
  std::size_t image_bytes = 0;  // on the wire: one byte a code, or word_bytes(field) a word
  std::size_t slot_offset = 0;  // within the micro-batch's slot
  std::vector<std::uint32_t>
      links;  // the remote layers that read it, in the order of their requests
};

// Link is one remote layer.
struct Link {
  std::uint32_t node = 0;
  std::uint32_t upload = 0;
  field::Field field = field::Field::kP24;
  std::size_t positions = 0, channels = 0;
  std::size_t image_bytes = 0;  // of an answer on the wire
  std::size_t slot_offset = 0;
  std::uint32_t step = 0;  // that takes its answer

  [[nodiscard]] std::size_t words() const noexcept { return positions * channels; }
};

enum class StepKind : std::uint8_t { kInput, kOperator, kLocalLinear, kRemoteLinear };

// Part says which share of something a tile covers: the step's units [first, last) are its elements
// (or operator's units) [first*per_unit, last*per_unit); the last unit also takes what is left
// over.
struct Part {
  std::uint32_t index = 0;  // of a node or an upload
  std::size_t per_unit = 0;
  std::size_t total = 0;

  [[nodiscard]] std::size_t at(std::size_t unit, std::size_t units) const noexcept {
    return unit == units ? total : std::min(unit * per_unit, total);
  }
};

// Step computes one node (its head) and then, tile by tile while the tile is hot, the operators
// that need nothing else (its tail) and the uploads of every tensor that this makes.
struct Step {
  StepKind kind = StepKind::kOperator;
  std::uint32_t link = 0;         // of a remote Linear
  std::size_t units = 1;          // tiles are cut between units
  std::size_t unit_elements = 1;  // of the head's output, per unit: decides the size of tiles
  std::size_t tile_units = 1;
  std::size_t task_units = 1;  // a thread's task is a run of tiles
  bool whole = false;          // the head is computed as a whole before the tiles
  Part head;                // index: the node; in operator units, or positions of a remote Linear
  std::vector<Part> tail;   // index: the node; in operator units
  std::vector<Part> sends;  // index: the upload; in elements

  // largest_tile is the most of a part that one tile covers: only the last tile can be longer than
  // the others, by what the last unit takes over.
  [[nodiscard]] std::size_t largest_tile(const Part& part) const noexcept {
    const std::size_t most = std::min(tile_units, units);
    return std::max(part.at(most, units), part.total - part.at(units - most, units));
  }
};

// Place says where a tensor lies: in the lane's arena, or, if it passes, in a thread's own memory.
// A tensor passes that is made and used up within the tiles of one step: only a tile of it exists
// at a time.
struct Place {
  bool passing = false;
  std::size_t offset = 0;       // of the first image
  std::size_t image_bytes = 0;  // from one image to the next
  Part elements;                // of the step that makes it
};

// Program is a plan compiled for one placement: the order of steps and the place of every byte. It
// is fixed at load; a micro-batch walks through it. The first step is kInput.
struct Program {
  std::vector<Step> steps;
  std::vector<Upload> uploads;
  std::vector<Link> links;
  std::vector<Place> places;      // by tensor; Reshape gives its output the input's
  std::size_t arena_bytes = 0;    // of one micro-batch
  std::size_t passing_bytes = 0;  // of one thread, for the tensors that pass
  std::size_t slot_bytes = 0;     // of one micro-batch in a port's data area
};

struct ProgramOptions {
  std::size_t micro_batch = 1;
  bool blinded = false;      // words go out, not codes
  bool keep_inputs = false;  // each layer's input stays until its answer was checked
  std::size_t threads = 1;
};

// Operators holds the prepared operator of each node, or null (make_operator).
using Operators = std::vector<std::unique_ptr<Operator>>;

// make_program orders the nodes by the number of remote layers before them, then as in the plan, so
// that answers are taken in the order in which they can arrive, and joins operators to the step
// that makes their last operand. REQUIRES: a validated plan; remote only for Linear nodes with a
// field.
[[nodiscard]] Program make_program(const model::Plan& plan, const Placement& placement,
                                   const Operators& operators, const ProgramOptions& options);

// element_bytes is the size of one element of a tensor in trusted memory.
[[nodiscard]] constexpr std::size_t element_bytes(model::Dtype dtype) noexcept {
  return dtype == model::Dtype::kU8 ? 1 : sizeof(std::int32_t);
}

}  // namespace slalom::runtime
