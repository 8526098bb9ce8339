// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/round_up.h"
#include "linear/kernels.h"

// The matrix product of linear/kernels.h on AMX: registers that hold tiles of 16 rows of 64 bytes.
// A tile of inputs is up to 16 positions that lie evenly apart, read where they are; a tile of
// weights 16 steps of 16 columns, as they are packed. Tiles of inputs never cross the end of a row
// of positions: a row is cut into tiles of one height and a lower one for what is left.

namespace slalom::linear {

inline constexpr std::size_t kTileSteps = 16;
inline constexpr std::size_t kTileColumns = 16;
inline constexpr std::size_t kTileBytes = 64;  // of a row
// Columns whose sums become codes together: of two tiles of positions they take 8 KiB.
inline constexpr std::size_t kPanel = 64;

// TileRegisters are the processor's, by inline assembly: g++ 12's and clang 14's intrinsics take
// register numbers as tokens only. Sums are 0 to 3, inputs 4 and 5, weights 6 and 7. A thread calls
// configure first and release last; release also wipes them.
struct TileRegisters {
  static constexpr std::string_view kName = "amx";
  static void configure(std::size_t rows) noexcept {
    struct alignas(64) Configuration {
      std::uint8_t palette = 1;
      std::uint8_t start_row = 0;
      std::array<std::uint8_t, 14> reserved{};
      std::array<std::uint16_t, 16> row_bytes{};
      std::array<std::uint8_t, 16> rows{};
    } c;
    for (std::size_t i = 0; i < 8; ++i) {
      c.row_bytes[i] = kTileBytes;
      c.rows[i] = static_cast<std::uint8_t>(i < 6 ? rows : kTileSteps);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(c));
  }
  static void release() noexcept { __asm__ volatile("tilerelease"); }
  template <int Register>
  static void load(const void* rows, std::size_t stride) noexcept {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"
                     :
                     : "r"(rows), "r"(stride), "i"(Register)
                     : "memory");
  }
  template <int Register>
  static void store(void* rows, std::size_t stride) noexcept {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"
                     :
                     : "r"(rows), "r"(stride), "i"(Register)
                     : "memory");
  }
  // dot adds to each of the sums 64 products of unsigned inputs and signed weights, mod 2^32.
  template <int Sums, int Inputs, int Weights>
  static void dot() noexcept {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0"
                     :
                     : "i"(Sums), "i"(Inputs), "i"(Weights));
  }
};

// TileGemm is the product on some Registers (tests bring their own). Two tiles of positions and two
// of columns at a time: their sums fill the registers.
template <class Registers>
class TileGemm {
 public:
  static void run(const GemmTile& t) noexcept {
    const bool even = t.width == 1 || t.row_bytes == t.width * t.column_bytes;
    const std::size_t width = even ? t.positions : t.width;
    const std::size_t rows = base::div_up(width, base::div_up(width, kTileSteps));
    const std::size_t rest = width % rows;
    TileGemm(t, width, {.rows = rows, .first = 0, .in_line = width / rows}).columns();
    if (rest != 0) TileGemm(t, width, {rest, width - rest, 1}).columns();
    Registers::release();
  }

 private:
  // Cut is which positions of a line a sweep takes: tiles of `rows` from position `first` on.
  struct Cut {
    std::size_t rows, first, in_line;
  };
  // Rows are R tiles of positions: their inputs, and where their sums go.
  template <int R>
  struct Rows {
    std::array<const std::byte*, R> src;
    std::array<std::int32_t*, R> dst;
    std::size_t stride;
  };

  TileGemm(const GemmTile& t, std::size_t width, Cut cut) noexcept
      : t_(t), width_(width), step_(t.width == 1 ? t.row_bytes : t.column_bytes), cut_(cut) {}

  void columns() const noexcept {
    Registers::configure(cut_.rows);
    const std::size_t tiles = t_.positions / width_ * cut_.in_line;
    for (std::size_t column = 0; column < t_.columns; column += kPanel) {
      std::size_t tile = 0;
      for (; tile + 2 <= tiles; tile += 2) panel<2>(column, tile);
      if (tile < tiles) panel<1>(column, tile);
    }
  }

  // panel takes R tiles of positions and up to kPanel columns.
  template <int R>
  void panel(std::size_t column, std::size_t tile) const noexcept {
    const std::size_t n = std::min(kPanel, t_.columns - column);
    const bool keep = t_.finish == nullptr;  // else dst serves every panel
    std::array<std::size_t, R> position{};
    Rows<R> rows{.stride = keep ? t_.dst_stride : n};
    for (std::size_t r = 0; r < R; ++r) {
      const std::size_t line = (tile + r) / cut_.in_line;
      const std::size_t x = cut_.first + (tile + r) % cut_.in_line * cut_.rows;
      position[r] = line * width_ + x;
      rows.src[r] = t_.src + line * t_.row_bytes + x * step_;
      rows.dst[r] = t_.dst + (keep ? position[r] * rows.stride + column : r * cut_.rows * n);
    }
    for (std::size_t at = 0; at < n; at += 2 * kTileColumns) {
      at + kTileColumns < n ? block<R, 2>(rows, column, at) : block<R, 1>(rows, column, at);
    }
    for (std::size_t r = 0; r < R && !keep; ++r) {
      t_.finish->block(rows.dst[r], n, position[r], column, cut_.rows, n);
    }
  }

  template <int R, int V>
  void block(const Rows<R>& rows, std::size_t panel, std::size_t at) const noexcept {
    const std::size_t column = panel + at;
    each_sum<R, V>([&]<int Row, int Vector>() {  // a stride of zero: the same for every position
      Registers::template load<Row * 2 + Vector>(t_.init + column + Vector * kTileColumns, 0);
    });
    const std::int8_t* weights = t_.weights + column / kTileColumns * t_.vector_weights +
                                 t_.segments[0].first_step * V * kTileBytes;
    for (const Segment& segment : t_.segments) {
      const std::size_t end = segment.offset + std::size_t{segment.steps} * 4;
      for (std::size_t k = segment.offset; k < end; k += kTileBytes) {
        Registers::template load<6>(weights, V * kTileBytes);
        if constexpr (V == 2) Registers::template load<7>(weights + kTileBytes, V * kTileBytes);
        Registers::template load<4>(rows.src[0] + k, step_);
        if constexpr (R == 2) Registers::template load<5>(rows.src[1] + k, step_);
        each_sum<R, V>([]<int Row, int Vector>() {
          Registers::template dot<Row * 2 + Vector, 4 + Row, 6 + Vector>();
        });
        weights += kTileSteps * V * kTileBytes;
      }
    }
    each_sum<R, V>([&]<int Row, int Vector>() {
      Registers::template store<Row * 2 + Vector>(rows.dst[Row] + at + Vector * kTileColumns,
                                                  rows.stride * sizeof(std::int32_t));
    });
  }

  template <int R, int V, class Body>
  static void each_sum(Body body) noexcept {
    body.template operator()<0, 0>();
    if constexpr (V == 2) body.template operator()<0, 1>();
    if constexpr (R == 2) body.template operator()<1, 0>();
    if constexpr (R == 2 && V == 2) body.template operator()<1, 1>();
  }

  const GemmTile& t_;
  std::size_t width_;  // of a line of positions that lie evenly apart
  std::size_t step_;   // bytes from one of them to the next
  Cut cut_;
};

// with_tiles returns the kernels of a processor with VNNI with this matrix product in place of
// theirs, where runs are long enough for it. `vnni` must outlive them.
template <class Registers>
constexpr Kernels with_tiles(const Kernels& vnni) noexcept {
  Kernels out = vnni;
  out.name = Registers::kName;
  out.step_multiple = kTileSteps;
  out.columns = 2 * kTileColumns;
  out.tile_budget = std::size_t{512} * 1024;  // these processors have 2 MiB
  out.gemm = TileGemm<Registers>::run;
  out.finishes = true;
  out.for_short_runs = &vnni;
  return out;
}

}  // namespace slalom::linear
