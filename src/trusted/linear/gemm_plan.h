// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/checked.h"
#include "linear/kernels.h"
#include "linear/tile.h"

namespace slalom::linear {

// GemmPlan is how a convolution over a tile becomes the segments of one matrix product, and how
// weights are packed for it: [group][block of columns][step][column of the block][element of the
// step].
class GemmPlan {
 public:
  // lanes and columns are those of the kernels.
  GemmPlan(const Tiling& tiling, std::size_t lanes, std::size_t columns);

  [[nodiscard]] std::span<const Segment> segments() const noexcept { return segments_; }
  // part_end is the number of segments of parts 0..part; each part has at most 131,072 terms, so
  // that the product of one limb (at most 127 * 128 a term) fits an int32.
  [[nodiscard]] std::size_t part_end(std::size_t part) const noexcept { return part_ends_[part]; }
  [[nodiscard]] std::size_t parts() const noexcept { return part_ends_.size(); }
  // tight: no step reads beyond its run.
  [[nodiscard]] bool tight() const noexcept { return tight_; }
  [[nodiscard]] std::size_t group_columns() const noexcept { return group_columns_; }
  // column_weights is what one column takes of the packed weights; a block begins at its first
  // column's share.
  [[nodiscard]] std::size_t column_weights() const noexcept { return steps_ * per_step_; }
  [[nodiscard]] std::size_t first_step(std::size_t segment) const noexcept {
    return steps_before_[segment];
  }

  // tile describes the product of one tile for one group, without weights and destination.
  [[nodiscard]] GemmTile tile(const std::byte* src, std::size_t rows,
                              std::size_t group) const noexcept {
    const model::Conv& c = tiling_.conv;
    const std::size_t stride_h = tiling_.images_as_rows ? 1 : c.window.stride_h;
    return {.src = src + group * c.group_in() * tiling_.element_bytes(),
            .positions = rows * c.out.w,
            .width = c.out.w,
            .row_bytes = stride_h * tiling_.row_bytes(),
            .column_bytes = c.window.stride_w * tiling_.column_bytes(),
            .segments = segments_,
            .vector_weights = lanes_ * column_weights()};
  }

  [[nodiscard]] std::vector<std::int8_t> pack(const std::int8_t* weights) const {
    const model::Conv& c = tiling_.conv;
    std::vector<std::int8_t> packed(c.groups * group_columns_ * column_weights(), std::int8_t{0});
    for (std::size_t o = 0; o < c.out.c; ++o) {
      const std::size_t column = o % c.group_out();
      const std::size_t block = column / columns_ * columns_;
      const std::size_t step = std::min(columns_, group_columns_ - block) * per_step_;
      std::int8_t* to = packed.data() +
                        (o / c.group_out() * group_columns_ + block) * column_weights() +
                        (column - block) * per_step_;
      for (std::size_t s = 0; s < segments_.size(); ++s) {
        const std::int8_t* from = weights + o * c.terms() + runs_[s].weight;
        std::int8_t* at = to + steps_before_[s] * step;
        for (std::size_t i = 0; i < runs_[s].terms; ++i) {
          at[i / per_step_ * step + i % per_step_] = from[i];
        }
      }
    }
    return packed;
  }

  // sum_of_weights adds up the weights of one part of an output channel.
  [[nodiscard]] std::int64_t sum_of_weights(const std::int8_t* weights, std::size_t channel,
                                            std::size_t part) const noexcept;

 private:
  // A run is what lies side by side in the input and in a channel's weights.
  struct Run {
    std::size_t weight = 0;  // index into one output channel's weights
    std::size_t terms = 0;
  };
  void add_run(std::size_t offset, std::size_t weight, std::size_t terms);

  Tiling tiling_;
  std::size_t lanes_;
  std::size_t columns_;
  std::size_t per_step_;  // elements in 4 bytes of the tile
  std::size_t group_columns_;
  std::vector<Segment> segments_;
  std::vector<Run> runs_;
  std::vector<std::size_t> steps_before_;
  std::vector<std::size_t> part_ends_;
  std::size_t part_terms_ = 0;
  std::size_t steps_ = 0;
  bool tight_ = true;
};

}  // namespace slalom::linear
