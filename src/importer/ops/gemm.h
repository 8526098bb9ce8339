// SPDX-License-Identifier: Apache-2.0
// Single precision matrix products with a fixed order of summation: every element of C is
// ((0 + a_0 b_0) + a_1 b_1) + ..., each product and each sum rounded to nearest even. So all
// kernels and all numbers of threads give the same bits. Blocking and packing follow Goto and
// van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (ACM TOMS 34(3), 2008,
// section 4): panels of B stay in the second level cache, strips of A in the first.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace slalom::importer {

// GemmKernel computes one tile of C for one instruction set.
struct GemmKernel {
  std::string_view name;
  bool (*supported)() noexcept;
  std::size_t rows;  // of the tile
  std::size_t cols;
  // tile adds a (kc x rows, stored row by row) transposed times b (kc x cols) to the tile at c,
  // or sets the tile if not `accumulate`. The tile's rows are ldc floats apart.
  void (*tile)(std::size_t kc, const float* a, const float* b, float* c, std::size_t ldc,
               bool accumulate) noexcept;
};

// gemm_kernels lists the kernels, fastest first, portable last.
std::span<const GemmKernel* const> gemm_kernels() noexcept;
// best_gemm_kernel is the first that this CPU supports.
const GemmKernel& best_gemm_kernel() noexcept;

extern const GemmKernel kGemmPortable;
extern const GemmKernel kGemmAvx2;
extern const GemmKernel kGemmAvx512;

// MatrixView points at element (0, 0); steps are in elements.
struct MatrixView {
  const float* data = nullptr;
  std::ptrdiff_t row_step = 0;
  std::ptrdiff_t col_step = 0;
};

// PackedA is the left matrix laid out for one kernel; it can serve many products.
class PackedA {
 public:
  PackedA(const GemmKernel& kernel, std::size_t m, std::size_t k, MatrixView a);

  [[nodiscard]] const GemmKernel& kernel() const noexcept { return *kernel_; }
  [[nodiscard]] std::size_t m() const noexcept { return m_; }
  [[nodiscard]] std::size_t k() const noexcept { return k_; }
  // strip returns row `k0` of the strip that begins at row `m0` of A, a multiple of the tile's
  // rows; rows of the strip follow each other.
  [[nodiscard]] const float* strip(std::size_t m0, std::size_t k0) const noexcept {
    return data_.data() + m0 * k_ + k0 * kernel_->rows;
  }

 private:
  const GemmKernel* kernel_;
  std::size_t m_;
  std::size_t k_;
  std::vector<float> data_;
};

// FillRow writes B[k][n0 .. n0 + count) to dst: B need not exist in memory.
using FillRow = std::function<void(std::size_t k, std::size_t n0, std::size_t count, float* dst)>;

// GemmBlock is a part of C that one thread computes.
struct GemmBlock {
  std::size_t m0;
  std::size_t m1;
  std::size_t n0;
  std::size_t n1;
};

// split_gemm cuts an m x n product into blocks of useful size, at least `wanted` if it can.
std::vector<GemmBlock> split_gemm(const GemmKernel& kernel, std::size_t m, std::size_t n,
                                  std::size_t wanted);

// gemm_block computes one block of C = A * B in the calling thread. C is row-major.
// REQUIRES: block.m0 is a multiple of the kernel's rows. A block with k = 0 is set to zero.
void gemm_block(const PackedA& a, const FillRow& b, const GemmBlock& block, float* c,
                std::size_t ldc);

// gemm computes C = A * B.
void gemm(const PackedA& a, std::size_t n, MatrixView b, float* c, std::size_t ldc,
          unsigned threads);

}  // namespace slalom::importer
