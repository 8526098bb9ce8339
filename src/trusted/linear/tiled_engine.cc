// SPDX-License-Identifier: Apache-2.0
#include "linear/tiled_engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/round_up.h"
#include "field/requant.h"

namespace slalom::linear {
namespace {

using field::Field;

// Place is one tile: rows [first, first + rows) of part `image` of the run, one chunk of channels;
// and the thread that computes it.
struct Place {
  std::size_t image = 0;
  std::size_t first = 0;
  std::size_t rows = 0;
  std::size_t chunk = 0;
  std::size_t positions = 0;
  std::size_t position = 0;  // of the tile's first output position in the whole run
  std::byte* scratch = nullptr;
};

// compact moves the sums of a tile to y, channels side by side; in place too.
void compact(const ChunkShape& shape, std::size_t positions, const std::int32_t* sums,
             std::int32_t* y, std::size_t y_stride) noexcept {
  if (y == sums && shape.stride == y_stride) return;
  for (std::size_t p = 0; p < positions; ++p) {
    std::memmove(y + p * y_stride, sums + p * shape.stride, shape.channels * sizeof(std::int32_t));
  }
}

class TiledEngine final : public Engine {
 public:
  TiledEngine(const model::Linear& layer, const EngineOptions& options, const Kernels& kernels,
              std::vector<std::unique_ptr<Core>> cores)
      : layer_(layer),
        kernels_(kernels),
        field_kernels_(field::choose_kernels(options.cpu)),
        pool_(options.pool),
        max_batch_(options.max_batch),
        cores_(std::move(cores)),
        tiling_(cores_.front()->tiling()),
        rounding_(layer) {
    lay_out_scratch();
    make_addends();
  }

  [[nodiscard]] std::string_view backend_name() const noexcept override { return kernels_.name; }

  void run_codes(std::span<const std::uint8_t> codes, std::uint8_t pad_code, std::size_t batch,
                 std::span<std::int32_t> y) override {
    for_each_tile(batch, codes.size(), y.size(), [&](const Place& at) {
      code_sums(at, codes, pad_code, corrected_, y.data() + output(at), layer_.out().c);
    });
  }

  void run_words(Field f, std::span<const std::uint32_t> words, std::size_t batch,
                 std::span<std::uint32_t> y) override {
    for_each_tile(batch, words.size(), y.size(), [&](const Place& at) {
      const Digits& digits = kernels_.words(f);
      Planes tiles = planes(at.scratch, tile_stride_);
      fill_words(tiling_, digits, words.data() + at.image * layer_.in().elements(), at.first,
                 at.rows, tiles);
      if (pair()) {
        auto* middle = reinterpret_cast<std::uint32_t*>(at.scratch + middle_at_);
        const std::size_t channels = layer_.stages[1].conv.in.c;
        word_sums(*cores_.front(), digits, tiles, at, middle, channels);
        tiles = planes(at.scratch + middle_tile_at_, middle_stride_);
        digits.cut(middle, at.positions * channels, last().tiling().format, tiles);
      }
      word_sums(last(), digits, tiles, at, y.data() + output(at), layer_.out().c);
    });
  }

  void run_requant(std::span<const std::uint8_t> codes, std::uint8_t pad_code, std::size_t batch,
                   std::span<std::uint8_t> out) override {
    for_each_tile(batch, codes.size(), out.size(), [&](const Place& at) {
      const ChunkShape shape = last().chunk(at.chunk);
      const Finish finish{field_kernels_,
                          rounding_.requantising(),
                          out.data() + output(at),
                          layer_.out().c,
                          shape.first,
                          shape.channels};
      code_sums(at, codes, pad_code, biased_, sums(at, 0), shape.stride, &finish);
    });
  }

 private:
  void lay_out_scratch() {
    std::size_t end = 0;
    const auto take = [&end](std::size_t bytes) {
      return std::exchange(end, base::round_up(end + bytes, 64));
    };
    const std::size_t positions = tiling_.rows * tiling_.conv.out.w;
    std::size_t widest = 0;
    for (const auto& core : cores_) widest = std::max(widest, core->chunk(0).stride);
    tile_stride_ = tiling_.tile_bytes(tiling_.rows);
    take(kMaxLimbs * tile_stride_);
    sums_stride_ = base::round_up(positions * widest, 16);
    sums_at_ = take(kMaxLimbs * sums_stride_ * sizeof(std::int32_t));
    if (pair()) {
      middle_at_ = take(positions * layer_.stages[1].conv.in.c * sizeof(std::uint32_t));
      middle_stride_ = last().tiling().tile_bytes(positions);
      middle_tile_at_ = take(kMaxLimbs * middle_stride_);
    }
    pool_.reserve_scratch(end);
  }

  void make_addends() {
    std::vector<std::uint32_t> whole(last().columns(), 0);  // unsigned: sums wrap
    for (std::size_t part = 0; part < last().parts(); ++part) {
      for (std::size_t o = 0; o < whole.size(); ++o) {
        whole[o] += static_cast<std::uint32_t>(last().correction(part)[o]);
      }
    }
    corrected_.assign(whole.begin(), whole.end());
    for (std::size_t o = 0; o < layer_.bias.size(); ++o) {
      whole[o] += static_cast<std::uint32_t>(layer_.bias[o]);
    }
    biased_.assign(whole.begin(), whole.end());
  }

  // for_each_tile calls body(place) for every tile of a run over `in` elements that has `out`.
  template <class Body>
  void for_each_tile(std::size_t batch, std::size_t in, std::size_t out, Body body) {
    SLALOM_ASSERT(batch >= 1 && batch <= max_batch_ && in == batch * layer_.in().elements() &&
                  out == batch * layer_.out().elements());
    const std::size_t units = tiling_.row_units(batch);
    const std::size_t tiles = base::div_up(units, tiling_.rows);
    const std::size_t chunks = last().tiling().chunks;
    const std::size_t width = tiling_.conv.out.w;
    const std::size_t places = tiling_.images(batch) * tiles * chunks;
    pool_.parallel_for(places, [&](std::size_t index, std::size_t worker) {
      Place at;
      at.chunk = index % chunks;
      at.first = index / chunks % tiles * tiling_.rows;
      at.image = index / chunks / tiles;
      at.rows = std::min(tiling_.rows, units - at.first);
      at.positions = at.rows * width;
      at.position = (at.image * units + at.first) * width;
      at.scratch = pool_.scratch(worker).data();
      body(at);
    });
  }

  [[nodiscard]] Core& last() const noexcept { return *cores_.back(); }
  [[nodiscard]] bool pair() const noexcept { return cores_.size() == 2; }
  // output is where a tile's first output lies.
  [[nodiscard]] std::size_t output(const Place& at) const noexcept {
    return at.position * layer_.out().c + last().chunk(at.chunk).first;
  }
  [[nodiscard]] static Planes planes(std::byte* base, std::size_t stride) noexcept {
    return {base, base + stride, base + 2 * stride, base + 3 * stride};
  }
  [[nodiscard]] std::int32_t* sums(const Place& at, std::size_t plane) const noexcept {
    return reinterpret_cast<std::int32_t*>(at.scratch + sums_at_) + plane * sums_stride_;
  }
  // limb_sums describes the sums of a core's limbs.
  [[nodiscard]] LimbSums limb_sums(const Core& core, const Place& at,
                                   std::size_t y_stride) const noexcept {
    const ChunkShape shape = core.chunk(at.chunk);
    return {.raw = sums(at, 0),
            .plane_stride = sums_stride_,
            .stride = shape.stride,
            .positions = at.positions,
            .channels = shape.channels,
            .y_stride = y_stride};
  }

  // run makes a core's sums of a tile. addends: one for each of its columns.
  void run(Core& core, const Place& at, const std::byte* src, std::size_t part,
           const std::vector<std::int32_t>& addends, std::int32_t* to,
           const Finish* finish = nullptr) const noexcept {
    core.run({.src = src,
              .rows = &core == cores_.front().get() ? at.rows : at.positions,
              .chunk = at.chunk,
              .part = part,
              .init = addends.data() + core.chunk(at.chunk).first,
              .sums = to,
              .finish = finish});
  }

  // code_tile returns a tile of codes: part of the image itself, or written out.
  [[nodiscard]] const std::byte* code_tile(const Place& at, std::span<const std::uint8_t> codes,
                                           std::uint8_t pad_code) const noexcept {
    const std::uint8_t* image = codes.data() + at.image * layer_.in().elements();
    const bool whole_rows = tiling_.format == Format::kBytes && !tiling_.padded();
    if (whole_rows && cores_.front()->reads_only_rows()) {
      return reinterpret_cast<const std::byte*>(image) + at.first * tiling_.row_step();
    }
    fill_codes(tiling_, kernels_, image, pad_code, at.first, at.rows, at.scratch);
    return at.scratch;
  }

  // code_sums writes Y plus what `addends` holds beside the corrections to y, or finishes it. y may
  // be plane 0.
  void code_sums(const Place& at, std::span<const std::uint8_t> codes, std::uint8_t pad_code,
                 const std::vector<std::int32_t>& addends, std::int32_t* y, std::size_t y_stride,
                 const Finish* finish = nullptr) const noexcept {
    Core& core = *cores_.front();
    const ChunkShape shape = core.chunk(at.chunk);
    const std::byte* tile = code_tile(at, codes, pad_code);
    if (!pair()) {
      std::int32_t* to = shape.stride == y_stride ? y : sums(at, 0);
      run(core, at, tile, kAllParts, addends, to, finish);
      compact(shape, at.positions, to, y, y_stride);
      return;
    }
    // The exact sums between the stages, cut into digits, through the second stage.
    run(core, at, tile, kAllParts, core.correction(0), sums(at, 0));
    std::byte* middle = at.scratch + middle_at_;
    compact(shape, at.positions, sums(at, 0), reinterpret_cast<std::int32_t*>(middle),
            shape.channels);
    const Planes tiles = planes(at.scratch + middle_tile_at_, middle_stride_);
    kernels_.sums.cut(reinterpret_cast<const std::uint32_t*>(middle), at.positions * shape.channels,
                      last().tiling().format, tiles);
    for (std::size_t l = 0; l < kernels_.sums.limbs; ++l) {
      run(last(), at, tiles[l], kAllParts, l == 0 ? addends : corrected_, sums(at, l));
    }
    kernels_.sums.join(limb_sums(last(), at, y_stride), reinterpret_cast<std::uint32_t*>(y));
    if (finish != nullptr) finish->block(y, y_stride, 0, 0, at.positions, y_stride);
  }

  // word_sums writes the residues of a core's outputs for a tile's limb planes.
  void word_sums(Core& core, const Digits& digits, const Planes& tiles, const Place& at,
                 std::uint32_t* y, std::size_t y_stride) const noexcept {
    for (std::size_t part = 0; part < core.parts(); ++part) {
      for (std::size_t l = 0; l < digits.limbs; ++l) {
        run(core, at, tiles[l], part, core.correction(part), sums(at, l));
      }
      (part == 0 ? digits.join : digits.join_onto)(limb_sums(core, at, y_stride), y);
    }
  }

  const model::Linear& layer_;
  const Kernels& kernels_;
  const field::Kernels& field_kernels_;
  base::ThreadPool& pool_;
  std::size_t max_batch_;
  std::vector<std::unique_ptr<Core>> cores_;
  const Tiling& tiling_;  // of the first core; a pair's second works on the same positions
  field::EpilogueTables rounding_;

  std::vector<std::int32_t> corrected_;  // the last core's corrections over all parts
  std::vector<std::int32_t> biased_;     // the same and the layer's bias

  // Scratch of a worker, byte offsets: input planes; sums, one plane for each limb; for a pair the
  // values between the stages and their planes.
  std::size_t tile_stride_ = 0;
  std::size_t sums_at_ = 0;
  std::size_t sums_stride_ = 0;  // in int32
  std::size_t middle_at_ = 0;
  std::size_t middle_tile_at_ = 0;
  std::size_t middle_stride_ = 0;
};

}  // namespace

std::unique_ptr<Engine> make_tiled_engine(const model::Linear& layer, const EngineOptions& options,
                                          const Kernels& kernels,
                                          std::vector<std::unique_ptr<Core>> cores) {
  return std::make_unique<TiledEngine>(layer, options, kernels, std::move(cores));
}

}  // namespace slalom::linear
