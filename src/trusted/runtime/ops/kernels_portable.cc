// SPDX-License-Identifier: Apache-2.0
// The specification of the row kernels: short and obviously right. The vector files call these for
// their tails, so the same bits come out of every length.

#include <algorithm>

#include "runtime/ops/kernels_internal.h"

namespace slalom::runtime {
namespace {

template <class T>
void add_rows(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const AddRow& row,
              T* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const float left = static_cast<float>(a[i] - row.zero_a) * row.multiplier_a;
    const float right = static_cast<float>(b[i] - row.zero_b) * row.multiplier_b;
    out[i] = static_cast<T>(requantise(left + right, row.to));
  }
}

template <class T>
void mul_rows(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const MulRow& row,
              T* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t product = (a[i] - row.zero_a) * (b[i] - row.zero_b);
    out[i] = static_cast<T>(requantise(static_cast<float>(product) * row.multiplier, row.to));
  }
}

template <class T>
void prelu_rows(const std::uint8_t* a, const float* negative, std::size_t n, const PreluRow& row,
                T* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t centred = a[i] - row.zero;
    // Both slopes are read and one is kept by a mask: no branch on the value.
    const auto mask = _mm_castsi128_ps(_mm_set1_epi32(centred >> 31));
    const auto slope = _mm_or_ps(_mm_and_ps(mask, _mm_set_ss(negative[i])),
                                 _mm_andnot_ps(mask, _mm_set_ss(row.positive)));
    out[i] = static_cast<T>(requantise(static_cast<float>(centred) * _mm_cvtss_f32(slope), row.to));
  }
}

template <class T>
void scale_rows(const std::int32_t* sums, std::size_t n, const ScaleRow& row, T* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    out[i] =
        static_cast<T>(requantise(static_cast<float>(sums[i] - row.zero) * row.multiplier, row.to));
  }
}

bool always(const base::CpuFeatures& /*cpu*/) noexcept { return true; }

}  // namespace

namespace portable {

void add(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const AddRow& row,
         std::uint8_t* out) noexcept {
  add_rows(a, b, n, row, out);
}
void mul(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const MulRow& row,
         std::uint8_t* out) noexcept {
  mul_rows(a, b, n, row, out);
}
void scale(const std::uint8_t* a, std::size_t n, const ScaleRow& row, std::uint8_t* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = static_cast<std::uint8_t>(
        requantise(static_cast<float>(a[i] - row.zero) * row.multiplier, row.to));
  }
}
void prelu(const std::uint8_t* a, const float* negative, std::size_t n, const PreluRow& row,
           std::uint8_t* out) noexcept {
  prelu_rows(a, negative, n, row, out);
}
void max_taps(const Taps& taps, std::size_t n, std::uint8_t* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    std::uint8_t most = 0;
    for (std::size_t y = 0; y < taps.rows; ++y) {
      for (std::size_t x = 0; x < taps.columns; ++x) {
        most = larger_code(most, taps.first[y * taps.row_stride + x * taps.column_stride + i]);
      }
    }
    out[i] = most;
  }
}
void sum_taps(const Taps& taps, std::size_t n, std::int32_t* sums) noexcept {
  std::fill_n(sums, n, 0);
  for (std::size_t y = 0; y < taps.rows; ++y) {
    for (std::size_t x = 0; x < taps.columns; ++x) {
      const std::uint8_t* tap = taps.first + y * taps.row_stride + x * taps.column_stride;
      for (std::size_t i = 0; i < n; ++i) sums[i] += tap[i];
    }
  }
}
void scale_sums(const std::int32_t* sums, std::size_t n, const ScaleRow& row,
                std::uint8_t* out) noexcept {
  scale_rows(sums, n, row, out);
}

}  // namespace portable

constexpr OpKernels kPortableOps{
    "portable",          always,          portable::add,      portable::mul,
    portable::scale,     portable::prelu, portable::max_taps, portable::sum_taps,
    portable::scale_sums};

std::span<const OpKernels* const> all_op_kernels() noexcept {
  static constexpr const OpKernels* kAll[] = {&kAvx512Ops, &kAvx2Ops, &kPortableOps};
  return kAll;
}

const OpKernels& choose_op_kernels(const base::CpuFeatures& cpu) noexcept {
  for (const OpKernels* kernels : all_op_kernels()) {
    if (kernels->supported(cpu)) return *kernels;
  }
  return kPortableOps;
}

void add_wide(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const AddRow& row,
              std::int32_t* out) noexcept {
  add_rows(a, b, n, row, out);
}
void mul_wide(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const MulRow& row,
              std::int32_t* out) noexcept {
  mul_rows(a, b, n, row, out);
}
void prelu_wide(const std::uint8_t* a, const float* negative, std::size_t n, const PreluRow& row,
                std::int32_t* out) noexcept {
  prelu_rows(a, negative, n, row, out);
}
void scale_sums_wide(const std::int32_t* sums, std::size_t n, const ScaleRow& row,
                     std::int32_t* out) noexcept {
  scale_rows(sums, n, row, out);
}

}  // namespace slalom::runtime
