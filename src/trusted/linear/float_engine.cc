// SPDX-License-Identifier: Apache-2.0
#include "linear/float_engine.h"

#include <algorithm>

#include "base/assert.h"
#include "base/checked.h"

namespace slalom::linear {
namespace {

bool direct_depthwise(const model::Conv& c) noexcept { return c.depthwise() && c.out.c == c.in.c; }

const FloatKernels* choose_float_kernels(const base::CpuFeatures& cpu) noexcept {
  for (const FloatKernels* kernels : all_float_kernels()) {
    if (kernels->supported(cpu)) return kernels;
  }
  return nullptr;
}

Tiling float_tiling(const model::Conv& conv, const FloatKernels& kernels, std::size_t threads,
                    std::size_t max_batch) {
  const bool direct = direct_depthwise(conv);
  return make_tiling(conv, {.format = Format::kFloats,
                            .channel_step = direct ? kernels.depthwise_step : 1,
                            .column_step = direct ? kernels.depthwise_step : kernels.lanes,
                            .chunk_step = kernels.columns,
                            .threads = threads,
                            .max_batch = max_batch});
}

}  // namespace

Result<std::unique_ptr<FloatEngine>> FloatEngine::make(const model::Conv& conv,
                                                       std::span<const float> weights,
                                                       std::span<const float> bias,
                                                       const FloatOptions& options) {
  if (weights.size() != conv.weights() || bias.size() != conv.out.c || options.max_batch == 0) {
    return Error{Errc::kInvalidArgument, "a float layer has the wrong number of weights"};
  }
  const FloatKernels* kernels = choose_float_kernels(options.cpu);
  if (kernels == nullptr) {
    return Error{Errc::kUnavailable, "the float32 baseline needs a processor with SSE4.1"};
  }
  const std::size_t threads = options.pool == nullptr ? 1 : options.pool->size();
  const Tiling tiling = float_tiling(conv, *kernels, threads, options.max_batch);
  return std::unique_ptr<FloatEngine>(
      new FloatEngine(conv, weights, bias, options, *kernels, tiling));
}

FloatEngine::FloatEngine(const model::Conv& conv, std::span<const float> weights,
                         std::span<const float> bias, const FloatOptions& options,
                         const FloatKernels& kernels, const Tiling& tiling)
    : conv_(conv),
      options_(options),
      kernels_(kernels),
      own_pool_(1),
      pool_(options.pool != nullptr ? *options.pool : own_pool_),
      tiling_(tiling),
      plan_(tiling, kernels.lanes, kernels.columns) {
  const model::Conv& c = tiling_.conv;
  if (direct_depthwise(conv)) {
    stride_ = tiling_.channels;
    taps_ = tiling_.tap_offsets();
    packed_.assign(c.taps() * tiling_.channels, 0.0F);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      packed_[i % c.taps() * tiling_.channels + i / c.taps()] = weights[i];
    }
  } else {
    stride_ = plan_.group_columns() * c.groups / tiling_.chunks;
    packed_ = plan_.pack(weights.data());
  }
  // The bias is what the sums start from, in the order of the packed columns.
  bias_.assign(stride_ * tiling_.chunks, 0.0F);
  for (std::size_t o = 0; o < bias.size(); ++o) {
    const bool grouped = c.groups > 1 && !direct_depthwise(conv);
    bias_[grouped ? o / c.group_out() * plan_.group_columns() + o % c.group_out() : o] = bias[o];
  }
  const std::size_t sums = tiling_.rows * c.out.w * stride_ * sizeof(float);
  pool_.reserve_scratch(tiling_.tile_bytes(tiling_.rows) + sums);
}

void FloatEngine::run(std::span<const float> x, std::size_t batch, std::span<float> y) noexcept {
  SLALOM_ASSERT(batch >= 1 && batch <= options_.max_batch &&
                x.size() == batch * conv_.in.elements() &&
                y.size() == batch * conv_.out.elements());
  const std::size_t units = tiling_.row_units(batch);
  const std::size_t tiles = base::div_up(units, tiling_.rows);
  const std::size_t chunks = tiling_.chunks;
  pool_.parallel_for(
      tiling_.images(batch) * tiles * chunks, [&](std::size_t index, std::size_t worker) {
        const std::size_t first = index / chunks % tiles * tiling_.rows;
        const std::size_t image = index / chunks / tiles;
        const std::size_t rows = std::min(tiling_.rows, units - first);
        run_tile(x.data() + image * conv_.in.elements(), first, rows, index % chunks,
                 pool_.scratch(worker).data(),
                 y.data() + (image * units + first) * tiling_.conv.out.w * conv_.out.c);
      });
}

void FloatEngine::run_tile(const float* image, std::size_t first, std::size_t rows,
                           std::size_t chunk, std::byte* scratch, float* y) const noexcept {
  const model::Conv& c = tiling_.conv;
  const bool direct = direct_depthwise(conv_);
  const std::size_t stride_h = tiling_.images_as_rows ? 1 : c.window.stride_h;
  const std::byte* src = scratch;
  if (!tiling_.padded() && tiling_.channels == c.in.c) {
    src = reinterpret_cast<const std::byte*>(image + first * stride_h * c.in.w * c.in.c);
  } else {
    Filler::floats(tiling_, image, first, rows, scratch);
  }
  auto* sums = reinterpret_cast<float*>(scratch + tiling_.tile_bytes(tiling_.rows));
  const std::size_t positions = rows * c.out.w;
  if (direct) {
    const std::size_t row = tiling_.row_bytes() / sizeof(float);
    kernels_.depthwise({.src = reinterpret_cast<const float*>(src),
                        .positions = positions,
                        .width = c.out.w,
                        .row_step = stride_h * row,
                        .column_step = c.window.stride_w * tiling_.channels,
                        .taps = taps_,
                        .weights = packed_.data(),
                        .channels = tiling_.channels,
                        .init = bias_.data(),
                        .dst = sums,
                        .dst_stride = stride_});
    finish(sums, positions, 0, c.out.c, y);
    return;
  }
  for (std::size_t g = 0; g < c.groups; ++g) {
    const std::size_t column = chunk * stride_ + g * plan_.group_columns();
    auto t = plan_.tile<float, float>(src, rows, g);
    t.weights = packed_.data() + column * plan_.column_weights();
    t.columns = stride_ / c.groups;
    t.init = bias_.data() + column;
    t.dst = sums + g * plan_.group_columns();
    t.dst_stride = stride_;
    kernels_.gemm(t);
    const std::size_t channel = c.groups == 1 ? chunk * stride_ : g * c.group_out();
    finish(t.dst, positions, channel, std::min(stride_ / c.groups, c.group_out()), y);
  }
}

void FloatEngine::finish(const float* sums, std::size_t positions, std::size_t channel,
                         std::size_t n, float* y) const noexcept {
  const std::size_t channels = conv_.out.c;
  n = std::min(n, channels - channel);
  const float low = options_.low;
  const float high = options_.high;
  for (std::size_t p = 0; p < positions; ++p) {
    float* out = y + p * channels + channel;
    for (std::size_t i = 0; i < n; ++i) {
      out[i] = std::min(std::max(sums[i], low), high);
    }
    sums += stride_;
  }
}

}  // namespace slalom::linear
