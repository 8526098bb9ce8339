// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "base/round_up.h"
#include "linear/core.h"

namespace slalom::linear {
namespace {

using model::Conv;
using model::ConvStage;

// 132,104 terms of 127 * 128 fit an int32 (DESIGN section 3); parts end on a step's boundary.
constexpr std::size_t kPartTerms = 131'072;
// Weights of one segment (64 columns of 4 bytes a step): 64 KiB of the second-level cache.
constexpr std::size_t kSegmentSteps = 256;

// run_terms is how many terms lie side by side in the input: a kernel row's or a single tap's.
std::size_t run_terms(const Conv& c) noexcept {
  const bool joined = c.window.dilation_w == 1 && c.groups == 1;
  return joined ? c.window.kernel_w * c.group_in() : c.group_in();
}

// fills says whether a layer's runs fill at least a quarter of the steps that kernels take.
bool fills(const Conv& c, const Kernels& kernels) noexcept {
  const std::size_t run = run_terms(c);
  return kernels.step_multiple == 1 || 4 * run >= base::round_up(run, 4 * kernels.step_multiple);
}

// GemmCore turns a convolution over a tile into the segments of one matrix product for each group.
// Weights are packed as [group][block of columns][step][column of the block][element of the step].
// A group's columns are padded to whole vectors; what they write beyond its channels the next group
// overwrites.
class GemmCore final : public Core {
 public:
  GemmCore(const ConvStage& stage, const Kernels& kernels, const Tiling& tiling)
      : Core(tiling, (tiling.conv.groups - 1) * tiling.conv.group_out() +
                         base::round_up(tiling.conv.group_out(), kernels.lanes)),
        kernels_(kernels),
        per_step_(4 / tiling.element_bytes()),
        group_columns_(base::round_up(tiling.conv.group_out(), kernels.lanes)) {
    cut_into_segments();
    pack(stage.weights.data());
  }

  [[nodiscard]] bool reads_only_rows() const noexcept override { return tight_; }

  void run(const TileJob& job) noexcept override {
    const Conv& c = tiling_.conv;
    const bool all = job.part == kAllParts;
    const std::size_t first = all ? 0 : parts_[job.part];
    const std::size_t last = all ? segments_.size() : parts_[job.part + 1];
    const ChunkShape shape = chunk(job.chunk);
    GemmTile t{tile(job, shape.stride),
               std::span(segments_).subspan(first, last - first),
               nullptr,
               kernels_.lanes * column_weights(),
               c.groups == 1 ? shape.stride : group_columns_,
               c.groups == 1 && kernels_.finishes ? job.finish : nullptr};
    for (std::size_t g = 0; g < c.groups; ++g) {
      t.src = job.src + g * c.group_in() * tiling_.element_bytes();
      t.weights = weights() + (shape.first + g * group_columns_) * column_weights();
      t.init = job.init + g * c.group_out();
      t.dst = job.sums + g * c.group_out();
      kernels_.gemm(t);
    }
    if (t.finish == nullptr) finish(job, shape.stride);
  }

 private:
  // column_weights is what one column takes of the packed weights; a block begins at its first
  // column's share.
  [[nodiscard]] std::size_t column_weights() const noexcept { return steps_ * per_step_; }

  void cut_into_segments() {
    const Conv& c = tiling_.conv;
    const model::Window& w = c.window;
    const std::size_t terms = run_terms(c);
    const std::size_t columns = w.kernel_w * c.group_in() / terms;
    for (std::size_t run = 0; run < w.kernel_h * columns; ++run) {
      add_run(run / columns * w.dilation_h * tiling_.row_bytes() +
                  run % columns * w.dilation_w * tiling_.column_bytes(),
              run * terms, terms);
    }
    parts_.push_back(segments_.size());
  }

  // add_run adds what lies side by side in the input and in a channel's weights.
  void add_run(std::size_t offset, std::size_t weight, std::size_t terms) {
    while (terms != 0) {
      if (part_terms_ == kPartTerms) {
        parts_.push_back(segments_.size());
        part_terms_ = 0;
      }
      const std::size_t n = std::min({terms, kPartTerms - part_terms_, kSegmentSteps * per_step_});
      const std::size_t steps = base::round_up(base::div_up(n, per_step_), kernels_.step_multiple);
      segments_.push_back({static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(steps),
                           steps_, weight, n});
      steps_ += steps;
      part_terms_ += steps * per_step_;
      tight_ = tight_ && n == steps * per_step_;
      offset += n * tiling_.element_bytes();
      weight += n;
      terms -= n;
    }
  }

  [[nodiscard]] std::int8_t* weights() noexcept { return packed_[0].bytes.data(); }

  void pack(const std::int8_t* from_plan) {
    const Conv& c = tiling_.conv;
    packed_.resize(base::div_up(c.groups * group_columns_ * column_weights(), sizeof(Line)));
    corrections_.assign(parts_.size() - 1, std::vector<std::int32_t>(columns_, 0));
    for (std::size_t o = 0; o < c.out.c; ++o) {
      const std::size_t column = o % c.group_out();
      const std::size_t block = column / kernels_.columns * kernels_.columns;
      const std::size_t step = std::min(kernels_.columns, group_columns_ - block) * per_step_;
      std::int8_t* to = weights() +
                        (o / c.group_out() * group_columns_ + block) * column_weights() +
                        (column - block) * per_step_;
      std::size_t part = 0;
      for (std::size_t s = 0; s < segments_.size(); ++s) {
        const Segment& segment = segments_[s];
        const std::int8_t* from = from_plan + o * c.terms() + segment.weight;
        std::int8_t* at = to + segment.first_step * step;
        if (s == parts_[part + 1]) ++part;
        for (std::size_t i = 0; i < segment.terms; ++i) {
          at[i / per_step_ * step + i % per_step_] = from[i];
          if (tiling_.format == Format::kBytes) corrections_[part][o] -= 128 * from[i];
        }
      }
    }
  }

  const Kernels& kernels_;
  std::size_t per_step_;  // elements in 4 bytes of the tile
  std::size_t group_columns_;
  std::vector<Segment> segments_;
  std::vector<std::size_t> parts_ = {0};  // their first segments, and the end
  std::size_t part_terms_ = 0;
  std::size_t steps_ = 0;
  bool tight_ = true;  // no step reads beyond its run
  // Whole cache lines: kernels load 64 bytes at a time.
  struct alignas(64) Line {
    std::array<std::int8_t, 64> bytes;
  };
  std::vector<Line> packed_;
};

class DepthwiseCore final : public Core {
 public:
  DepthwiseCore(const ConvStage& stage, const Kernels& kernels, const Tiling& tiling)
      : Core(tiling, tiling.channels), kernels_(kernels) {
    const Conv& c = tiling_.conv;
    const model::Window& w = c.window;
    corrections_.assign(1, std::vector<std::int32_t>(columns_, 0));
    for (std::size_t tap = 0; tap < c.taps(); ++tap) {
      taps_.push_back(
          static_cast<std::uint32_t>(tap / w.kernel_w * w.dilation_h * tiling_.row_bytes() +
                                     tap % w.kernel_w * w.dilation_w * tiling_.column_bytes()));
    }
    if (taps_.size() % 2 != 0) taps_.push_back(taps_.back());  // with weight zero
    packed_.assign(taps_.size() * tiling_.channels, 0);
    for (std::size_t tap = 0; tap < c.taps(); ++tap) {
      for (std::size_t i = 0; i < tiling_.channels; ++i) {
        const std::size_t channel = depthwise_channel(i, kernels.depthwise_step);
        if (channel >= c.out.c) continue;
        packed_[(tap / 2 * tiling_.channels + i) * 2 + tap % 2] =
            stage.weights[channel * c.taps() + tap];
      }
    }
  }

  [[nodiscard]] bool reads_only_rows() const noexcept override { return false; }

  void run(const TileJob& job) noexcept override {
    kernels_.depthwise({tile(job, tiling_.channels), taps_, packed_.data(), tiling_.channels});
    finish(job, tiling_.channels);
  }

 private:
  const Kernels& kernels_;
  std::vector<std::uint32_t> taps_;
  std::vector<std::int16_t> packed_;
};

}  // namespace

std::unique_ptr<Core> make_kernel_core(const ConvStage& stage, const Kernels& kernels,
                                       const TilingTarget& target) {
  TilingTarget own = target;
  own.tile_budget = kernels.tile_budget;
  if (stage.conv.depthwise() && stage.conv.out.c == stage.conv.in.c) {
    own.format = Format::kWords;
    own.channel_step = own.column_step = own.chunk_step = kernels.depthwise_step;
    return std::make_unique<DepthwiseCore>(stage, kernels, make_tiling(stage.conv, own));
  }
  const Kernels& fitting =
      fills(make_tiling(stage.conv, own).conv, kernels) ? kernels : *kernels.for_short_runs;
  own.format = fitting.format;
  own.channel_step = 1;
  own.column_step = fitting.lanes;
  own.chunk_step = fitting.columns;
  return std::make_unique<GemmCore>(stage, fitting, make_tiling(stage.conv, own));
}

}  // namespace slalom::linear
