// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "linear/gemm_plan.h"
#include "linear/kernels.h"
#include "linear/tile.h"
#include "model/plan.h"
#include "slalom/result.h"

namespace slalom::linear {

struct FloatOptions {
  base::CpuFeatures cpu;
  base::ThreadPool* pool = nullptr;  // as in EngineOptions
  std::size_t max_batch = 1;
  // Every output is clamped, so that a ReLU or ReLU6 costs nothing extra.
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();
};

// FloatEngine is one float32 convolution (or dense layer), for the baseline that the integer
// engines are compared with; nothing that is checked or blinded uses it. Data are channels last as
// everywhere (model/plan.h, Conv), weights [out.c][kernel_h][kernel_w][in.c / groups], bias one for
// each output channel, taps outside the input read 0:  y = clamp(sum w*x + bias, low, high).
// Results differ in their last bits between processors. One thread at a time per engine and per
// pool; no call allocates.
class FloatEngine {
 public:
  // make packs the weights. kUnavailable on a CPU without SSE4.1.
  [[nodiscard]] static Result<std::unique_ptr<FloatEngine>> make(const model::Conv& conv,
                                                                 std::span<const float> weights,
                                                                 std::span<const float> bias,
                                                                 const FloatOptions& options);

  // run computes 1 <= batch <= max_batch images: x has batch * in.elements() values, y batch *
  // out.elements().
  void run(std::span<const float> x, std::size_t batch, std::span<float> y) noexcept;

 private:
  FloatEngine(const model::Conv& conv, std::span<const float> weights, std::span<const float> bias,
              const FloatOptions& options, const FloatKernels& kernels, const Tiling& tiling);

  void run_tile(const float* image, std::size_t first, std::size_t rows, std::size_t chunk,
                std::byte* scratch, float* y) const noexcept;
  // finish adds the bias of channels [channel, channel + n), clamps, and stores into rows of
  // outputs.
  void finish(const float* sums, std::size_t positions, std::size_t channel, std::size_t n,
              float* y) const noexcept;

  model::Conv conv_;
  FloatOptions options_;
  const FloatKernels& kernels_;
  base::ThreadPool own_pool_;
  base::ThreadPool& pool_;
  Tiling tiling_;
  GemmPlan plan_;
  std::size_t stride_ = 0;           // floats from one position's sums to the next one's
  std::vector<std::uint32_t> taps_;  // of a depthwise layer: elements from a position's first one
  std::vector<float> packed_;
  std::vector<float> bias_;
};

}  // namespace slalom::linear
