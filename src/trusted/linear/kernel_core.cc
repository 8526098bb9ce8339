// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/checked.h"
#include "linear/core.h"

namespace slalom::linear {
namespace {

using model::Conv;
using model::ConvStage;

// The longest sum whose limb product fits an int32: 132,104 terms of 127 * 128 (DESIGN section 3).
// Parts end on a step's boundary.
constexpr std::size_t kPartTerms = 131'072;

bool direct_depthwise(const Conv& c) noexcept { return c.depthwise() && c.out.c == c.in.c; }

class GemmCore final : public Core {
 public:
  GemmCore(const ConvStage& stage, const Kernels& kernels, const Tiling& tiling)
      : Core(tiling), kernels_(kernels), per_step_(4 / static_cast<std::size_t>(kernels.format)) {
    const Conv& c = tiling_.conv;
    group_columns_ = base::round_up(c.group_out(), kernels.columns);
    make_segments();
    pack(stage);
    correct(stage);
  }

  [[nodiscard]] ChunkShape chunk(std::size_t index) const noexcept override {
    const Conv& c = tiling_.conv;
    const std::size_t columns = group_columns_ * c.groups / tiling_.chunks;
    ChunkShape shape{.first = index * columns,
                     .groups = c.groups,
                     .group_stride = group_columns_,
                     .stride = columns};
    shape.group_channels = c.groups == 1 ? std::min(columns, c.out.c - shape.first) : c.group_out();
    shape.channels = shape.groups * shape.group_channels;
    return shape;
  }
  [[nodiscard]] std::size_t parts() const noexcept override { return part_ends_.size(); }
  [[nodiscard]] bool reads_only_rows(std::size_t) const noexcept override { return tight_; }

  void run(const TileJob& job, std::size_t part, std::byte*) noexcept override {
    const std::size_t first = part == 0 ? 0 : part_ends_[part - 1];
    multiply(job, first, part_ends_[part]);
  }
  void run_all(const TileJob& job, std::byte*) noexcept override {
    multiply(job, 0, segments_.size());
  }

 private:
  // A run is what lies side by side in the input and in a channel's weights.
  struct Run {
    std::size_t weight = 0;  // index into one output channel's weights
    std::size_t terms = 0;
  };

  void add_run(std::size_t offset, std::size_t weight, std::size_t terms) {
    const std::size_t element = tiling_.element_bytes();
    while (terms != 0) {
      const std::size_t room = kPartTerms - part_terms_;
      const std::size_t n = std::min(terms, room / per_step_ * per_step_);
      if (n == 0) {
        part_ends_.push_back(segments_.size());
        part_terms_ = 0;
        continue;
      }
      segments_.push_back({static_cast<std::uint32_t>(offset),
                           static_cast<std::uint32_t>(base::div_up(n, per_step_))});
      runs_.push_back({weight, n});
      steps_ += segments_.back().steps;
      tight_ = tight_ && n % per_step_ == 0;
      part_terms_ += base::round_up(n, per_step_);
      offset += n * element;
      weight += n;
      terms -= n;
    }
  }

  void make_segments() {
    const Conv& c = tiling_.conv;
    const model::Window& w = c.window;
    const bool joined = w.dilation_w == 1 && c.groups == 1;  // a kernel row is one run
    for (std::size_t ky = 0; ky < w.kernel_h; ++ky) {
      const std::size_t row = ky * w.dilation_h * tiling_.row_bytes();
      if (joined) {
        add_run(row, ky * w.kernel_w * c.in.c, w.kernel_w * std::size_t{c.in.c});
        continue;
      }
      for (std::size_t kx = 0; kx < w.kernel_w; ++kx) {
        add_run(row + kx * w.dilation_w * tiling_.column_bytes(),
                (ky * w.kernel_w + kx) * c.group_in(), c.group_in());
      }
    }
    part_ends_.push_back(segments_.size());
  }

  void pack(const ConvStage& stage) {
    const Conv& c = tiling_.conv;
    const std::size_t columns = kernels_.columns;
    block_bytes_ = steps_ * columns * per_step_;
    packed_.assign(c.groups * group_columns_ / columns * block_bytes_, 0);
    for (std::size_t o = 0; o < c.out.c; ++o) {
      const std::size_t column = o / c.group_out() * group_columns_ + o % c.group_out();
      std::int8_t* block = packed_.data() + column / columns * block_bytes_;
      std::int8_t* to = block + column % columns * per_step_;
      for (std::size_t s = 0; s < segments_.size(); ++s) {
        const std::int8_t* from = stage.weights.data() + o * c.terms() + runs_[s].weight;
        for (std::size_t i = 0; i < runs_[s].terms; ++i) {
          to[i / per_step_ * columns * per_step_ + i % per_step_] = from[i];
        }
        to += segments_[s].steps * columns * per_step_;
      }
    }
  }

  void correct(const ConvStage& stage) {
    const Conv& c = tiling_.conv;
    corrections_.assign(parts() * c.out.c, 0);
    if (tiling_.format != Format::kBytes) return;
    std::size_t part = 0;
    for (std::size_t s = 0; s < segments_.size(); ++s) {
      while (s == part_ends_[part]) ++part;
      for (std::size_t o = 0; o < c.out.c; ++o) {
        const std::int8_t* w = stage.weights.data() + o * c.terms() + runs_[s].weight;
        std::int64_t sum = corrections_[part * c.out.c + o];
        for (std::size_t i = 0; i < runs_[s].terms; ++i) sum -= 128 * std::int64_t{w[i]};
        corrections_[part * c.out.c + o] = static_cast<std::int32_t>(sum);
      }
    }
  }

  void multiply(const TileJob& job, std::size_t first, std::size_t last) noexcept {
    const Conv& c = tiling_.conv;
    const ChunkShape shape = chunk(job.chunk);
    std::size_t skipped = 0;
    for (std::size_t s = 0; s < first; ++s) skipped += segments_[s].steps;
    GemmTile t{.positions = job.rows * c.out.w,
               .width = c.out.w,
               .row_bytes = (tiling_.images_as_rows ? 1 : c.window.stride_h) * tiling_.row_bytes(),
               .column_bytes = c.window.stride_w * tiling_.column_bytes(),
               .segments = std::span(segments_).subspan(first, last - first),
               .block_bytes = block_bytes_,
               .blocks = shape.group_stride / kernels_.columns / tiling_.chunks,
               .dst_stride = shape.stride};
    for (std::size_t g = 0; g < c.groups; ++g) {
      const std::size_t column = shape.first + g * group_columns_;
      t.src = job.src + g * c.group_in() * tiling_.element_bytes();
      t.weights = packed_.data() + column / kernels_.columns * block_bytes_ +
                  skipped * kernels_.columns * per_step_;
      t.dst = job.sums + g * group_columns_;
      kernels_.gemm(t);
    }
  }

  const Kernels& kernels_;
  std::size_t per_step_;  // elements in 4 bytes of the tile
  std::size_t group_columns_ = 0;
  std::vector<Segment> segments_;
  std::vector<Run> runs_;
  std::vector<std::size_t> part_ends_;
  std::size_t part_terms_ = 0;
  std::size_t steps_ = 0;
  bool tight_ = true;
  std::size_t block_bytes_ = 0;
  std::vector<std::int8_t> packed_;
};

class DepthwiseCore final : public Core {
 public:
  DepthwiseCore(const ConvStage& stage, const Kernels& kernels, const Tiling& tiling)
      : Core(tiling), kernels_(kernels) {
    const Conv& c = tiling_.conv;
    const model::Window& w = c.window;
    corrections_.assign(c.out.c, 0);
    const std::size_t row = tiling_.row_bytes() / tiling_.element_bytes();
    for (std::size_t ky = 0; ky < w.kernel_h; ++ky) {
      for (std::size_t kx = 0; kx < w.kernel_w; ++kx) {
        taps_.push_back(static_cast<std::uint32_t>(ky * w.dilation_h * row +
                                                   kx * w.dilation_w * tiling_.channels));
      }
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

  [[nodiscard]] ChunkShape chunk(std::size_t) const noexcept override {
    const std::size_t n = tiling_.conv.out.c;
    return {.channels = n, .group_channels = n, .group_stride = n, .stride = tiling_.channels};
  }
  [[nodiscard]] bool reads_only_rows(std::size_t) const noexcept override { return false; }

  void run(const TileJob& job, std::size_t, std::byte*) noexcept override {
    const Conv& c = tiling_.conv;
    const std::size_t row = tiling_.row_bytes() / tiling_.element_bytes();
    kernels_.depthwise({.src = reinterpret_cast<const std::int16_t*>(job.src),
                        .positions = job.rows * c.out.w,
                        .width = c.out.w,
                        .row_step = (tiling_.images_as_rows ? 1 : c.window.stride_h) * row,
                        .column_step = c.window.stride_w * tiling_.channels,
                        .taps = taps_,
                        .weights = packed_.data(),
                        .channels = tiling_.channels,
                        .dst = job.sums,
                        .dst_stride = tiling_.channels});
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
  if (direct_depthwise(stage.conv)) {
    own.format = Format::kWords;
    own.channel_step = own.column_step = kernels.depthwise_step;
    Tiling tiling = make_tiling(stage.conv, own);
    return std::make_unique<DepthwiseCore>(stage, kernels, tiling);
  }
  own.format = kernels.format;
  own.channel_step = 1;
  own.column_step = kernels.columns;
  return std::make_unique<GemmCore>(stage, kernels, make_tiling(stage.conv, own));
}

}  // namespace slalom::linear
