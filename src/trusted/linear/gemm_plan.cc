// SPDX-License-Identifier: Apache-2.0
#include "linear/gemm_plan.h"

namespace slalom::linear {
namespace {

// 132,104 terms of 127 * 128 fit an int32 (DESIGN section 3); parts end on a step's boundary.
constexpr std::size_t kPartTerms = 131'072;
// Weights of one segment (64 columns of 4 bytes a step): 64 KiB of the second-level cache.
constexpr std::size_t kSegmentSteps = 256;

}  // namespace

GemmPlan::GemmPlan(const Tiling& tiling, std::size_t lanes, std::size_t columns)
    : tiling_(tiling),
      lanes_(lanes),
      columns_(columns),
      per_step_(4 / tiling.element_bytes()),
      group_columns_(base::round_up(tiling.conv.group_out(), lanes)) {
  const model::Conv& c = tiling_.conv;
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

void GemmPlan::add_run(std::size_t offset, std::size_t weight, std::size_t terms) {
  while (terms != 0) {
    if (part_terms_ == kPartTerms) {
      part_ends_.push_back(segments_.size());
      part_terms_ = 0;
    }
    const std::size_t n = std::min({terms, kPartTerms - part_terms_, kSegmentSteps * per_step_});
    const std::size_t steps = base::div_up(n, per_step_);
    segments_.push_back({static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(steps)});
    runs_.push_back({weight, n});
    steps_before_.push_back(steps_);
    steps_ += steps;
    part_terms_ += steps * per_step_;
    tight_ = tight_ && n % per_step_ == 0;
    offset += n * tiling_.element_bytes();
    weight += n;
    terms -= n;
  }
}

std::int64_t GemmPlan::sum_of_weights(const std::int8_t* weights, std::size_t channel,
                                      std::size_t part) const noexcept {
  std::int64_t sum = 0;
  for (std::size_t s = part == 0 ? 0 : part_ends_[part - 1]; s < part_ends_[part]; ++s) {
    const std::int8_t* w = weights + channel * tiling_.conv.terms() + runs_[s].weight;
    for (std::size_t i = 0; i < runs_[s].terms; ++i) sum += w[i];
  }
  return sum;
}

}  // namespace slalom::linear
