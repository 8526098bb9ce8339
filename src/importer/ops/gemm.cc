// SPDX-License-Identifier: Apache-2.0
#include "importer/ops/gemm.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "importer/ops/parallel.h"

namespace slalom::importer {
namespace {

constexpr std::size_t kDepth = 256;      // rows of B in a panel
constexpr std::size_t kMaxTile = 512;    // elements of the largest tile of any kernel
constexpr std::size_t kPanelCols = 512;  // columns of B in a panel, and most in a block

std::size_t round_up(std::size_t value, std::size_t step) {
  return (value + step - 1) / step * step;
}

// pack_panel lays rows [k0, k0 + kc) and columns [n0, n1) of B out in strips of the tile's
// width, the last one filled up with zeros.
void pack_panel(const GemmKernel& kernel, const FillRow& b, std::size_t k0, std::size_t kc,
                std::size_t n0, std::size_t n1, std::vector<float>& row,
                std::vector<float>& panel) {
  const std::size_t count = n1 - n0;
  const std::size_t padded = round_up(count, kernel.cols);
  row.assign(padded, 0.0F);
  panel.resize(padded * kc);
  for (std::size_t k = 0; k < kc; ++k) {
    b(k0 + k, n0, count, row.data());
    for (std::size_t n = 0; n < padded; n += kernel.cols) {
      std::memcpy(panel.data() + n * kc + k * kernel.cols, row.data() + n,
                  kernel.cols * sizeof(float));
    }
  }
}

// run_tile computes one tile of which m x n elements exist.
void run_tile(const GemmKernel& kernel, std::size_t kc, const float* a, const float* b, float* c,
              std::size_t ldc, std::size_t m, std::size_t n, bool accumulate) {
  if (m == kernel.rows && n == kernel.cols) {
    kernel.tile(kc, a, b, c, ldc, accumulate);
    return;
  }
  std::array<float, kMaxTile> whole{};
  if (accumulate) {
    for (std::size_t i = 0; i < m; ++i) {
      std::memcpy(whole.data() + i * kernel.cols, c + i * ldc, n * sizeof(float));
    }
  }
  kernel.tile(kc, a, b, whole.data(), kernel.cols, accumulate);
  for (std::size_t i = 0; i < m; ++i) {
    std::memcpy(c + i * ldc, whole.data() + i * kernel.cols, n * sizeof(float));
  }
}

}  // namespace

std::span<const GemmKernel* const> gemm_kernels() noexcept {
  static constexpr std::array<const GemmKernel*, 3> kKernels = {&kGemmAvx512, &kGemmAvx2,
                                                                &kGemmPortable};
  return kKernels;
}

const GemmKernel& best_gemm_kernel() noexcept {
  const auto kernels = gemm_kernels();
  return **std::find_if(kernels.begin(), kernels.end(),
                        [](const GemmKernel* kernel) { return kernel->supported(); });
}

PackedA::PackedA(const GemmKernel& kernel, std::size_t m, std::size_t k, MatrixView a)
    : kernel_(&kernel), m_(m), k_(k), data_(round_up(m, kernel.rows) * k) {
  for (std::size_t i = 0; i < m; ++i) {
    const float* src = a.data + static_cast<std::ptrdiff_t>(i) * a.row_step;
    float* dst = data_.data() + (i - i % kernel.rows) * k + i % kernel.rows;
    for (std::size_t j = 0; j < k; ++j) {
      dst[j * kernel.rows] = src[static_cast<std::ptrdiff_t>(j) * a.col_step];
    }
  }
}

std::vector<GemmBlock> split_gemm(const GemmKernel& kernel, std::size_t m, std::size_t n,
                                  std::size_t wanted) {
  const std::size_t n_parts = std::max<std::size_t>(1, (n + kPanelCols - 1) / kPanelCols);
  const std::size_t m_wanted = (wanted + n_parts - 1) / n_parts;
  const std::size_t n_step =
      std::max(kernel.cols, round_up((n + n_parts - 1) / n_parts, kernel.cols));
  const std::size_t m_step = std::max(
      kernel.rows, round_up((m + m_wanted - 1) / std::max<std::size_t>(1, m_wanted), kernel.rows));
  std::vector<GemmBlock> blocks;
  for (std::size_t n0 = 0; n0 < n; n0 += n_step) {
    for (std::size_t m0 = 0; m0 < m; m0 += m_step) {
      blocks.push_back(
          {.m0 = m0, .m1 = std::min(m, m0 + m_step), .n0 = n0, .n1 = std::min(n, n0 + n_step)});
    }
  }
  return blocks;
}

void gemm_block(const PackedA& a, const FillRow& b, const GemmBlock& block, float* c,
                std::size_t ldc) {
  const GemmKernel& kernel = a.kernel();
  if (a.k() == 0) {
    for (std::size_t m = block.m0; m < block.m1; ++m) {
      std::fill(c + m * ldc + block.n0, c + m * ldc + block.n1, 0.0F);
    }
    return;
  }
  std::vector<float> row;
  std::vector<float> panel;
  for (std::size_t k0 = 0; k0 < a.k(); k0 += kDepth) {
    const std::size_t kc = std::min(kDepth, a.k() - k0);
    pack_panel(kernel, b, k0, kc, block.n0, block.n1, row, panel);
    for (std::size_t n = block.n0; n < block.n1; n += kernel.cols) {
      for (std::size_t m = block.m0; m < block.m1; m += kernel.rows) {
        run_tile(kernel, kc, a.strip(m, k0), panel.data() + (n - block.n0) * kc, c + m * ldc + n,
                 ldc, std::min(kernel.rows, block.m1 - m), std::min(kernel.cols, block.n1 - n),
                 k0 > 0);
      }
    }
  }
}

void gemm(const PackedA& a, std::size_t n, MatrixView b, float* c, std::size_t ldc,
          unsigned threads) {
  const FillRow fill = [&b](std::size_t k, std::size_t n0, std::size_t count, float* dst) {
    const float* src = b.data + static_cast<std::ptrdiff_t>(k) * b.row_step +
                       static_cast<std::ptrdiff_t>(n0) * b.col_step;
    for (std::size_t i = 0; i < count; ++i)
      dst[i] = src[static_cast<std::ptrdiff_t>(i) * b.col_step];
  };
  const auto blocks = split_gemm(a.kernel(), a.m(), n, threads);
  parallel_for(threads, blocks.size(),
               [&](std::size_t i) { gemm_block(a, fill, blocks[i], c, ldc); });
}

}  // namespace slalom::importer
