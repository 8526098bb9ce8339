// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/cpu.h"
#include "field/kernels.h"
#include "field/prime.h"

// The inner loops of exact convolutions over a tile: an input window in private memory, channels
// last, with its padding written out. Kernels is one implementation for one instruction set. All
// compute the same integers; they differ in speed and in the form of the tile that they read:
//
//   kBytes   one byte an element, holding value + 128: codes q as they are, digits of limbs plus
//   128.
//            Sums over bytes are sum w*(value + 128); the caller subtracts 128 * (sum of w).
//   kWords   one int16 an element, holding the value (-128..127 in every use).
//
// No kernel saturates: bytes are multiplied by vpdpbusd or tdpbusd, which accumulate exactly, never
// by (v)pmaddubsw, whose 16-bit sums clip; int16 pairs by pmaddwd, whose products and sum of two
// fit 32 bits. Accumulators are int32 and wrap mod 2^32, so a final sum that fits is exact whatever
// the partial sums did. Time and addresses do not depend on values. Kernels check nothing.

namespace slalom::linear {

// The value is an element's size.
enum class Format : std::uint8_t { kBytes = 1, kWords = 2 };

inline constexpr std::size_t kMaxLimbs = 4;

// Segment is a run of elements that lie side by side both in the tile and in the packed weights, in
// steps of 4 bytes. What a last step covers beyond the run meets zero weights.
struct Segment {
  std::uint32_t offset = 0;  // bytes from a position's first element
  std::uint32_t steps = 0;
  std::size_t first_step = 0;  // in the packed weights
  std::size_t weight = 0;      // of the run, in one output channel's weights
  std::size_t terms = 0;
};

// Finish turns complete sums (bias included) into codes: `codes` is where those of a tile's first
// position and column go, a position's `stride` after the last one's.
struct Finish {
  const field::Kernels& kernels;
  field::Epilogue epilogue;
  std::uint8_t* codes = nullptr;
  std::size_t stride = 0;
  std::size_t first = 0;     // channel of the first column
  std::size_t channels = 0;  // columns beyond these are dropped

  // block takes the sums of `positions` from `position` on and `columns` from `column` on.
  void block(const std::int32_t* sums, std::size_t sums_stride, std::size_t position,
             std::size_t column, std::size_t positions, std::size_t columns) const noexcept {
    if (column >= channels) return;
    field::Epilogue own = epilogue;
    own.multiplier += first + column;
    kernels.requantise_codes({sums, sums_stride, positions, std::min(columns, channels - column)},
                             own, codes + position * stride + column, stride);
  }
};

// SumsTile is what a kernel reads and writes: position p = (y, x) with x < width starts at src +
// y*row_bytes + x*column_bytes, its sums at dst + p*dst_stride, each with an addend of init.
struct SumsTile {
  const std::byte* src = nullptr;
  std::size_t positions = 0;
  std::size_t width = 1;
  std::size_t row_bytes = 0;
  std::size_t column_bytes = 0;
  const std::int32_t* init = nullptr;  // one for each column or channel
  std::int32_t* dst = nullptr;
  std::size_t dst_stride = 0;
};

// GemmTile is one implicit matrix product: for each position p and column n < columns
//   dst[p*dst_stride + n] = init[n] + sum over segments and their elements of tile element *
//   weight.
// Columns come in blocks of Kernels::columns, a last one of some vectors of Kernels::lanes; the
// packed weights of a block are [step][column of the block][elements in 4 bytes of the tile], a
// vector's share of them vector_weights.
struct GemmTile : SumsTile {
  std::span<const Segment> segments;
  const std::int8_t* weights = nullptr;
  std::size_t vector_weights = 0;
  std::size_t columns = 0;  // a multiple of lanes
  // Kernels::finishes: where the sums go, block by block; then dst is room for as many sums, and
  // what is left there is no one's.
  const Finish* finish = nullptr;
};

// DepthwiseTile multiplies each channel by its own taps, two taps at a time:
//   dst[p*dst_stride + c] = init[c] + sum over pairs j of tile[p + taps[2j]][c]*w[j][c][0]
//                                                       + tile[p + taps[2j+1]][c]*w[j][c][1]
// of int16, with an even number of taps and the weights of a pair as [channel][2], channels in the
// order in which the kernel meets them: see depthwise_channel.
struct DepthwiseTile : SumsTile {
  std::span<const std::uint32_t> taps;  // bytes from a position's first element
  const std::int16_t* weights = nullptr;
  std::size_t channels = 0;  // a multiple of the kernel's depthwise_step; also the tile's
};

// depthwise_channel is the channel at place i of a pair's weights, for a kernel that takes `step`
// channels at a time: unpacking instructions interleave the low and the high halves of each 8
// int16.
[[nodiscard]] constexpr std::size_t depthwise_channel(std::size_t i, std::size_t step) noexcept {
  const std::size_t half = step / 2;
  const std::size_t j = i % half;
  return i / step * step + j / 4 * 8 + i % step / half * 4 + j % 4;
}

// Planes are where the limbs of a run of values go: digit l of value i is element i of plane l.
using Planes = std::array<std::byte*, kMaxLimbs>;

// LimbSums are the sums of limbs to be joined: limb l's of position p < positions and channel c <
// channels at raw[l*plane_stride + p*stride + c].
struct LimbSums {
  const std::int32_t* raw = nullptr;
  std::size_t plane_stride = 0;
  std::size_t stride = 0;
  std::size_t positions = 0;
  std::size_t channels = 0;
  std::size_t y_stride = 0;
};

// Digits is how values of one ring are cut into limbs, balanced base-256 digits, and the sums of
// limbs joined to values again. The rings: canonical words of a field (field/prime.h), and any
// int32 (mod 2^32).
struct Digits {
  std::size_t limbs = 0;
  // cut writes digits so that the sum of 256^l * digit_l is the value.
  void (*cut)(const std::uint32_t* values, std::size_t n, Format format,
              const Planes& planes) noexcept;
  // join writes y[p*y_stride + c] = sum of 256^l * (limb l's sum), canonical for any int32. y may
  // be plane 0 if y_stride <= stride.
  void (*join)(const LimbSums& sums, std::uint32_t* y) noexcept;
  // join_onto adds that to the values at y. No overlap.
  void (*join_onto)(const LimbSums& sums, std::uint32_t* y) noexcept;
};

struct Kernels {
  std::string_view name;
  Format format = Format::kWords;  // that gemm reads
  std::size_t step_multiple = 1;   // a segment's steps are padded to a multiple of this
  std::size_t lanes = 0;           // columns are padded to a multiple of this
  std::size_t columns = 0;         // of a full block of columns
  // What a tile and its sums should take of the second-level cache, beside the weights that stream
  // through it: of 1 MiB and up, in bytes.
  std::size_t tile_budget = std::size_t{192} * 1024;
  std::size_t depthwise_step = 0;  // channels are padded to a multiple of this
  Digits p24, p31, sums;
  [[nodiscard]] const Digits& words(field::Field f) const noexcept {
    return f == field::Field::kP24 ? p24 : p31;
  }

  void (*gemm)(const GemmTile& tile) noexcept;
  bool finishes = false;  // gemm heeds GemmTile::finish
  void (*depthwise)(const DepthwiseTile& tile) noexcept;

  // widen writes q - 128 for n codes q.
  void (*widen)(const std::uint8_t* codes, std::size_t n, std::int16_t* out) noexcept;
  // These serve layers whose runs are too short for step_multiple.
  const Kernels* for_short_runs = nullptr;
};

// choose_kernels returns the fastest that the processor supports; every x86-64 supports the
// slowest.
[[nodiscard]] const Kernels& choose_kernels(const base::CpuFeatures& cpu) noexcept;

}  // namespace slalom::linear
