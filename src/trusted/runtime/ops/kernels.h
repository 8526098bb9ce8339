// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/cpu.h"
#include "runtime/ops/rounding.h"

namespace slalom::runtime {

// Constants of the row kernels; names follow model/plan.h.
struct AddRow {
  std::int32_t zero_a = 0, zero_b = 0;
  float multiplier_a = 1.0F, multiplier_b = 1.0F;
  Requantise to;
};
struct MulRow {
  std::int32_t zero_a = 0, zero_b = 0;
  float multiplier = 1.0F;
  Requantise to;
};
struct ScaleRow {
  std::int32_t zero = 0;
  float multiplier = 1.0F;
  Requantise to;
};

// Taps is a rectangle of rows x columns pixels that lie wholly inside one image; strides in bytes.
struct Taps {
  const std::uint8_t* first = nullptr;
  std::size_t rows = 0, columns = 0;
  std::size_t row_stride = 0, column_stride = 0;
};

// OpKernels is one implementation of the loops of the non-linear operators over n consecutive
// elements (for Taps: n channels). All implementations return the same bytes; they differ in speed
// only. Their time and their addresses depend on sizes, never on values. Nothing is read or written
// beyond n elements; out may be an operand (same first element), or else must not overlap one.
// Roundings write int32 where row.to.wide (the last layer of a network, at most), else codes.
// REQUIRES: the rounding mode of FloatEnvironment; codes' zero points and clamps in 0..255.
struct OpKernels {
  std::string_view name;

  // add: out = requantise(f32(a - za)*ma + f32(b - zb)*mb)
  void (*add)(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const AddRow& row,
              std::byte* out) noexcept;
  // mul: out = requantise(f32((a - za)*(b - zb)) * m)
  void (*mul)(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const MulRow& row,
              std::byte* out) noexcept;
  // scale: out = requantise(f32(a - za) * m)
  void (*scale)(const std::uint8_t* a, std::size_t n, const ScaleRow& row, std::byte* out) noexcept;
  // prelu: out = requantise(f32(a - za) * (a >= za ? m : negative[i]))
  void (*prelu)(const std::uint8_t* a, const float* negative, std::size_t n, const ScaleRow& row,
                std::byte* out) noexcept;
  // max_taps: out = the largest code over the taps. REQUIRES: at least one tap.
  void (*max_taps)(const Taps& taps, std::size_t n, std::uint8_t* out) noexcept;
  // sum_taps: sums = the sum of the codes over the taps, below 2^31 for fewer than 2^23 taps.
  void (*sum_taps)(const Taps& taps, std::size_t n, std::int32_t* sums) noexcept;
  // scale_sums: out = requantise(f32(sum - zero) * m)
  void (*scale_sums)(const std::int32_t* sums, std::size_t n, const ScaleRow& row,
                     std::byte* out) noexcept;
};

// choose_op_kernels returns the fastest that the processor supports; every x86-64 supports the
// slowest.
[[nodiscard]] const OpKernels& choose_op_kernels(const base::CpuFeatures& cpu) noexcept;

}  // namespace slalom::runtime
