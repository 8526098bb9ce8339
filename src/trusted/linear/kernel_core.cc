// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/checked.h"
#include "linear/core.h"
#include "linear/gemm_plan.h"

namespace slalom::linear {
namespace {

using model::Conv;
using model::ConvStage;

bool direct_depthwise(const Conv& c) noexcept { return c.depthwise() && c.out.c == c.in.c; }

class GemmCore final : public Core {
 public:
  GemmCore(const ConvStage& stage, const Kernels& kernels, const Tiling& tiling)
      : Core(tiling),
        kernels_(kernels),
        plan_(tiling, kernels.lanes, kernels.columns),
        packed_(plan_.pack(stage.weights.data())) {
    const std::size_t channels = tiling_.conv.out.c;
    corrections_.assign(plan_.parts() * channels, 0);
    if (tiling_.format != Format::kBytes) return;
    for (std::size_t i = 0; i < corrections_.size(); ++i) {
      const std::int64_t sum =
          plan_.sum_of_weights(stage.weights.data(), i % channels, i / channels);
      corrections_[i] = static_cast<std::int32_t>(-128 * sum);
    }
  }

  [[nodiscard]] ChunkShape chunk(std::size_t index) const noexcept override {
    const Conv& c = tiling_.conv;
    const std::size_t columns = plan_.group_columns() * c.groups / tiling_.chunks;
    ChunkShape shape{.first = index * columns,
                     .groups = c.groups,
                     .group_stride = plan_.group_columns(),
                     .stride = columns};
    shape.group_channels = c.groups == 1 ? std::min(columns, c.out.c - shape.first) : c.group_out();
    shape.channels = shape.groups * shape.group_channels;
    return shape;
  }
  [[nodiscard]] std::size_t parts() const noexcept override { return plan_.parts(); }
  [[nodiscard]] bool reads_only_rows(std::size_t) const noexcept override { return plan_.tight(); }

  void run(const TileJob& job, std::size_t part, std::byte*) noexcept override {
    multiply(job, part == 0 ? 0 : plan_.part_end(part - 1), plan_.part_end(part));
  }
  void run_all(const TileJob& job, std::byte*) noexcept override {
    multiply(job, 0, plan_.segments().size());
  }

 private:
  void multiply(const TileJob& job, std::size_t first, std::size_t last) noexcept {
    const ChunkShape shape = chunk(job.chunk);
    for (std::size_t g = 0; g < shape.groups; ++g) {
      const std::size_t column = shape.first + g * shape.group_stride;
      auto t = plan_.tile(job.src, job.rows, g);
      t.segments = t.segments.subspan(first, last - first);
      t.first_step = plan_.first_step(first);
      t.weights = packed_.data() + column * plan_.column_weights();
      t.columns = shape.stride / shape.groups;
      t.init = job.init + g * shape.group_stride;
      t.dst = job.sums + g * shape.group_stride;
      t.dst_stride = shape.stride;
      kernels_.gemm(t);
    }
  }

  const Kernels& kernels_;
  GemmPlan plan_;
  std::vector<std::int8_t> packed_;
};

class DepthwiseCore final : public Core {
 public:
  DepthwiseCore(const ConvStage& stage, const Kernels& kernels, const Tiling& tiling)
      : Core(tiling), kernels_(kernels) {
    const Conv& c = tiling_.conv;
    corrections_.assign(c.out.c, 0);
    taps_ = tiling_.tap_offsets();
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
    kernels_.depthwise(
        {.src = job.src,
         .positions = job.rows * c.out.w,
         .width = c.out.w,
         .row_bytes = (tiling_.images_as_rows ? 1 : c.window.stride_h) * tiling_.row_bytes(),
         .column_bytes = c.window.stride_w * tiling_.column_bytes(),
         .taps = taps_,
         .weights = packed_.data(),
         .channels = tiling_.channels,
         .init = job.init,
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
    own.channel_step = own.column_step = own.chunk_step = kernels.depthwise_step;
    Tiling tiling = make_tiling(stage.conv, own);
    return std::make_unique<DepthwiseCore>(stage, kernels, tiling);
  }
  own.format = kernels.format;
  own.channel_step = 1;
  own.column_step = kernels.lanes;
  own.chunk_step = kernels.columns;
  return std::make_unique<GemmCore>(stage, kernels, make_tiling(stage.conv, own));
}

}  // namespace slalom::linear
