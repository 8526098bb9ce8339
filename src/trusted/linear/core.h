// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "linear/kernels.h"
#include "linear/tile.h"
#include "model/plan.h"

namespace slalom::linear {

// ChunkShape is where the sums of one chunk of output channels lie: a position has `stride` int32,
// the first `channels` of which are those of output channels first, first + 1, ...
struct ChunkShape {
  std::size_t first = 0;
  std::size_t channels = 0;
  std::size_t stride = 0;
};

inline constexpr std::size_t kAllParts = ~std::size_t{0};

// TileJob asks for the sums of one tile.
struct TileJob {
  const std::byte* src = nullptr;  // the tile: Tiling::tile_bytes(rows) readable bytes
  std::size_t rows = 0;
  std::size_t chunk = 0;
  std::size_t part = kAllParts;        // then mod 2^32
  const std::int32_t* init = nullptr;  // an addend for each of a position's sums
  std::int32_t* sums = nullptr;        // rows * out.w * stride
  const Finish* finish = nullptr;      // where they go from there, if anywhere
};

// Core computes the raw sums of tiles of one convolution. With format kBytes a sum is of w*(value +
// 128) and correction() undoes it. Thread-safe.
class Core {
 public:
  virtual ~Core() = default;
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  [[nodiscard]] const Tiling& tiling() const noexcept { return tiling_; }
  [[nodiscard]] ChunkShape chunk(std::size_t index) const noexcept {
    const std::size_t columns = columns_ / tiling_.chunks;
    const std::size_t first = index * columns;
    const std::size_t channels = std::min<std::size_t>(columns, tiling_.conv.out.c - first);
    return {first, channels, columns};
  }
  // Sums longer than an int32 limb allows are made in parts, to be added by the caller mod p.
  [[nodiscard]] std::size_t parts() const noexcept { return corrections_.size(); }
  // correction is an addend (wrapping) for the sums of a part, one for each output channel and
  // zeros up to columns(); the whole one is the sum over the parts.
  [[nodiscard]] const std::vector<std::int32_t>& correction(std::size_t part) const noexcept {
    return corrections_[part];
  }
  // columns is the number of sums of a position, over all chunks.
  [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
  // reads_only_rows says that run() reads no byte beyond the rows of the job: then the image itself
  // can serve as the tile.
  [[nodiscard]] virtual bool reads_only_rows() const noexcept = 0;
  virtual void run(const TileJob& job) noexcept = 0;

 protected:
  [[nodiscard]] SumsTile tile(const TileJob& job, std::size_t stride) const noexcept {
    const std::size_t column = tiling_.conv.window.stride_w * tiling_.column_bytes();
    const std::size_t width = tiling_.conv.out.w;
    return {job.src, job.rows * width, width,    tiling_.row_step(),
            column,  job.init,         job.sums, stride};
  }
  // finish does so for the whole job.
  void finish(const TileJob& job, std::size_t stride) const noexcept {
    if (job.finish == nullptr) return;
    job.finish->block(job.sums, stride, 0, 0, job.rows * tiling_.conv.out.w, stride);
  }
  Core(const Tiling& tiling, std::size_t columns) : tiling_(tiling), columns_(columns) {}
  Tiling tiling_;
  std::size_t columns_;
  std::vector<std::vector<std::int32_t>> corrections_;  // [part][column]
};

// make_kernel_core prepares a convolution for our own kernels: depthwise ones for their direct
// loop, all others for the implicit matrix product.
[[nodiscard]] std::unique_ptr<Core> make_kernel_core(const model::ConvStage& stage,
                                                     const Kernels& kernels,
                                                     const TilingTarget& target);

}  // namespace slalom::linear
