// SPDX-License-Identifier: Apache-2.0
#include "importer/ops/gemm.h"

namespace slalom::importer {
namespace {

constexpr std::size_t kRows = 4;
constexpr std::size_t kCols = 8;

bool supported() noexcept { return true; }

void tile(std::size_t kc, const float* a, const float* b, float* c, std::size_t ldc,
          bool accumulate) noexcept {
  float sum[kRows][kCols] = {};
  if (accumulate) {
    for (std::size_t i = 0; i < kRows; ++i) {
      for (std::size_t j = 0; j < kCols; ++j) sum[i][j] = c[i * ldc + j];
    }
  }
  for (std::size_t k = 0; k < kc; ++k) {
    for (std::size_t i = 0; i < kRows; ++i) {
      for (std::size_t j = 0; j < kCols; ++j) sum[i][j] += a[k * kRows + i] * b[k * kCols + j];
    }
  }
  for (std::size_t i = 0; i < kRows; ++i) {
    for (std::size_t j = 0; j < kCols; ++j) c[i * ldc + j] = sum[i][j];
  }
}

}  // namespace

const GemmKernel kGemmPortable = {
    .name = "portable", .supported = supported, .rows = kRows, .cols = kCols, .tile = tile};

}  // namespace slalom::importer
