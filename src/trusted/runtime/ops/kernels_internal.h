// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "runtime/ops/kernels.h"

namespace slalom::runtime {

// The implementations that all_op_kernels lists, one per file.
extern const OpKernels kAvx512Ops;
extern const OpKernels kAvx2Ops;
extern const OpKernels kPortableOps;

// The portable loops, which the vector files use for their tails.
namespace portable {
void add(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const AddRow& row,
         std::uint8_t* out) noexcept;
void mul(const std::uint8_t* a, const std::uint8_t* b, std::size_t n, const MulRow& row,
         std::uint8_t* out) noexcept;
void scale(const std::uint8_t* a, std::size_t n, const ScaleRow& row, std::uint8_t* out) noexcept;
void prelu(const std::uint8_t* a, const float* negative, std::size_t n, const PreluRow& row,
           std::uint8_t* out) noexcept;
void max_taps(const Taps& taps, std::size_t n, std::uint8_t* out) noexcept;
void sum_taps(const Taps& taps, std::size_t n, std::int32_t* sums) noexcept;
void scale_sums(const std::int32_t* sums, std::size_t n, const ScaleRow& row,
                std::uint8_t* out) noexcept;
}  // namespace portable

}  // namespace slalom::runtime
