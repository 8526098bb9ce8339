// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "linear/kernels.h"
#include "linear/tile.h"
#include "model/plan.h"

namespace slalom::linear {

// ChunkShape is where one chunk of output channels lies in the sums that a core writes: a position
// has `stride` int32; group g's `group_channels` channels begin at g * group_stride of it.
struct ChunkShape {
  std::size_t first = 0;     // first output channel
  std::size_t channels = 0;  // groups * group_channels
  std::size_t groups = 1;
  std::size_t group_channels = 0;
  std::size_t group_stride = 0;
  std::size_t stride = 0;
};

// TileJob asks for the sums of one tile.
struct TileJob {
  const std::byte* src = nullptr;  // the tile: Tiling::tile_bytes(rows) readable bytes
  std::size_t rows = 0;
  std::size_t chunk = 0;
  const std::int32_t* init =
      nullptr;                   // addends, `stride` of them in the order of a position's sums
  std::int32_t* sums = nullptr;  // rows * out.w * stride
  std::size_t worker = 0;
};

// Core computes the raw sums of tiles of one convolution. With format kBytes a sum is of w*(value +
// 128) and correction() undoes it. Thread-safe for different workers.
class Core {
 public:
  virtual ~Core() = default;
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  [[nodiscard]] const Tiling& tiling() const noexcept { return tiling_; }
  [[nodiscard]] virtual ChunkShape chunk(std::size_t index) const noexcept = 0;
  // Sums longer than an int32 limb allows are made in parts, to be added by the caller mod p.
  [[nodiscard]] virtual std::size_t parts() const noexcept { return 1; }
  // correction is one int32 for each output channel, to be added (wrapping) to the sums of a part;
  // the whole one is the sum over the parts.
  [[nodiscard]] std::span<const std::int32_t> correction(std::size_t part) const noexcept {
    return std::span(corrections_).subspan(part * tiling_.conv.out.c, tiling_.conv.out.c);
  }
  // reads_only_rows says that run() reads no byte beyond the rows of the job: then the image itself
  // can serve as the tile.
  [[nodiscard]] virtual bool reads_only_rows(std::size_t rows) const noexcept = 0;
  // writes_only_rows says that run() writes no sums beyond the rows of the job; otherwise up to the
  // tiling's number of rows.
  [[nodiscard]] virtual bool writes_only_rows(std::size_t) const noexcept { return true; }
  // run writes the sums of one part. scratch_bytes() are needed at scratch, 64-byte aligned.
  virtual void run(const TileJob& job, std::size_t part, std::byte* scratch) noexcept = 0;
  // run_all writes the sums over all parts, mod 2^32.
  virtual void run_all(const TileJob& job, std::byte* scratch) noexcept { run(job, 0, scratch); }
  [[nodiscard]] virtual std::size_t scratch_bytes() const noexcept { return 0; }

 protected:
  explicit Core(const Tiling& tiling) : tiling_(tiling) {}
  Tiling tiling_;
  std::vector<std::int32_t> corrections_;  // [part][channel]
};

// make_kernel_core prepares a convolution for our own kernels: depthwise ones for their direct
// loop, all others for the implicit matrix product.
[[nodiscard]] std::unique_ptr<Core> make_kernel_core(const model::ConvStage& stage,
                                                     const Kernels& kernels,
                                                     const TilingTarget& target);

}  // namespace slalom::linear
