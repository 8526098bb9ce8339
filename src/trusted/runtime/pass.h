// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/arena.h"
#include "base/thread_pool.h"
#include "field/kernels.h"
#include "field/pad_stream.h"
#include "field/requant.h"
#include "linear/engine.h"
#include "model/plan.h"
#include "runtime/checks.h"
#include "runtime/executor.h"
#include "runtime/lane.h"
#include "runtime/program.h"
#include "slalom/result.h"
#include "vault/pads.h"

namespace slalom::runtime {

// Pass runs one step of a program for the images of one lane: everything that touches every word
// (DESIGN section 4). A step is cut into tiles that stay in the second-level cache; a tile does,
// for all images of the micro-batch,
//   load the answer's words once -> range test -> unblind -> output side -> bias, requantise, table
//   -> the operators of the tail -> input side of the next layers -> next pad -> store to the slot
// and the threads of the pool take tiles as they come. One call at a time.
class Pass {
 public:
  struct Parts {
    const model::Plan& plan;
    const Program& program;
    const Operators& operators;
    const field::Kernels& kernels;
    base::ThreadPool& pool;
    Checks& checks;
    vault::Pads* pads;  // null: codes go out unmasked
    std::size_t micro_batch;
    base::CpuFeatures cpu;
  };
  // create prepares engines for the local layers, tables for the remote ones, and scratch memory.
  [[nodiscard]] static Result<std::unique_ptr<Pass>> create(const Parts& parts);

  // run computes lane.step. For a remote Linear its answer must have arrived. On success the lane's
  // uploads of this step lie in its slot (fenced), and every check that can be made was added to
  // the lane's verdict. An error (of the pads) leaves the lane's results meaningless.
  [[nodiscard]] Status run(Lane& lane);

  // tensor is where one image's tensor lies in a lane.
  [[nodiscard]] std::byte* tensor(const Lane& lane, model::TensorId id, std::size_t image) const {
    const model::TensorInfo& info = parts_.plan.tensors[id];
    return lane.arena + parts_.program.arena_offset[id] +
           image * info.shape.elements() * element_bytes(info.dtype);
  }
  [[nodiscard]] const std::uint8_t* codes(const Lane& lane, model::TensorId id,
                                          std::size_t image) const {
    return reinterpret_cast<const std::uint8_t*>(tensor(lane, id, image));
  }

  // pad_seconds is the time spent on pads and factors so far, summed over threads.
  [[nodiscard]] double pad_seconds() const noexcept {
    return static_cast<double>(pad_ns_.load(std::memory_order_relaxed)) * 1e-9;
  }

 private:
  // Window is the part of one image's unblinding factors that one worker has open.
  struct Window {
    std::span<std::uint32_t> words;
    std::size_t first = 0, last = 0;  // words [first, last) of the layer lie at words[0...]
  };
  // Worker is the memory of one thread of the pool. What it adds up is joined after each step.
  struct Worker {
    std::vector<Window> windows;  // by image
    std::span<std::uint32_t> pad;
    std::span<std::byte> scratch;
    std::span<std::byte> passing;         // tiles of the tensors that pass through a step
    std::span<field::OutputSum> outputs;  // by image
    std::span<field::Residues> inputs;    // by link of the step's uploads, then image
  };
  // Cut is how a step is divided: tasks of task_units, done in tiles of tile_units.
  struct Cut {
    std::size_t tile_units = 1;
    std::size_t task_units = 1;
  };
  // Tile is what one call of run_tile works on: units [first, last) of a step.
  struct Tile {
    const Lane& lane;
    const Step& step;
    Worker& worker;
    std::size_t first = 0, last = 0;

    [[nodiscard]] std::size_t begin(const Part& part) const noexcept {
      return part.at(first, step.units);
    }
    [[nodiscard]] std::size_t end(const Part& part) const noexcept {
      return part.at(last, step.units);
    }
  };

  explicit Pass(const Parts& parts) : parts_(parts) {}
  Status prepare_layers();
  std::size_t place_passing();
  Status prepare_workers();
  void prepare_cuts();
  [[nodiscard]] std::size_t largest_tile(const Step& step, const Cut& cut,
                                         const Part& part) const noexcept;

  void compute_whole(Lane& lane, const Step& step) noexcept;
  void compute_local(Lane& lane, std::uint32_t node) noexcept;
  Status run_tiles(Lane& lane, const Step& step, const Cut& cut);
  [[nodiscard]] Status open_pads(const Lane& lane, const Step& step);
  void close_pads() noexcept;
  [[nodiscard]] Status run_tile(const Tile& tile);
  [[nodiscard]] Status consume(const Tile& tile);
  void run_operator(const Tile& tile, std::uint32_t node, std::size_t first,
                    std::size_t last) const noexcept;
  // place is where element 0 of one image's tensor is or would be: only the tile's elements of a
  // passing tensor exist.
  [[nodiscard]] std::byte* place(const Tile& tile, model::TensorId id, std::size_t image) const;
  [[nodiscard]] field::PadStream* streams() noexcept {
    return reinterpret_cast<field::PadStream*>(stream_memory_.data());
  }
  void send(const Tile& tile) noexcept;
  [[nodiscard]] Result<const std::uint32_t*> factors(const Lane& lane, const Link& link,
                                                     std::size_t image, std::size_t first,
                                                     std::size_t last, Window& window);
  void mask(const Upload& upload, const field::PadStream& stream, const std::uint8_t* codes,
            std::size_t first, std::size_t n, std::byte* dst, Worker& worker) noexcept;
  void join_sums(Lane& lane, const Step& step) noexcept;

  Parts parts_;
  std::vector<std::unique_ptr<linear::Engine>> engines_;      // by node; local layers
  std::vector<std::optional<field::EpilogueTables>> tables_;  // by link
  std::vector<Cut> cuts_;                                     // by step
  struct Room {  // of a passing tensor in Worker::passing
    std::size_t offset = 0;
    std::size_t image_bytes = 0;
  };
  std::vector<Room> rooms_;  // by tensor
  base::SecretArena memory_;
  std::vector<Worker> workers_;
  std::span<std::byte>
      stream_memory_;        // pad streams of the step: by upload of the step, then image
  std::size_t streams_ = 0;  // how many of them live
  std::vector<const std::uint8_t*> inputs_;  // of the layer that is being checked
  std::vector<field::OutputSum> outputs_;
  std::atomic<std::uint64_t> pad_ns_{0};
};

}  // namespace slalom::runtime
