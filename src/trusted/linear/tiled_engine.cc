// SPDX-License-Identifier: Apache-2.0
#include "linear/tiled_engine.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"

namespace slalom::linear {
namespace {

using field::Field;

using Addends = std::vector<std::int32_t>;  // in the order of a core's sums, chunk after chunk

// Place is one tile: rows [first, first + rows) of part `image` of the run, one chunk of channels.
struct Place {
  std::size_t image = 0;
  std::size_t first = 0;
  std::size_t rows = 0;
  std::size_t chunk = 0;
  std::size_t positions = 0;
  std::size_t position = 0;  // of the tile's first output position in the whole run
  std::size_t worker = 0;
};

class TiledEngine final : public Engine {
 public:
  TiledEngine(const model::Linear& layer, const EngineOptions& options, std::string_view name,
              const Kernels& kernels, std::vector<std::unique_ptr<Core>> cores)
      : layer_(layer),
        name_(name),
        kernels_(kernels),
        field_kernels_(field::choose_kernels(options.cpu)),
        own_pool_(1),
        pool_(options.pool != nullptr ? *options.pool : own_pool_),
        max_batch_(options.max_batch),
        cores_(std::move(cores)),
        tiling_(cores_.front()->tiling()),
        filler_(tiling_, kernels) {
    lay_out_scratch();
    make_addends();
  }

  void run_codes(std::span<const std::uint8_t> codes, std::uint8_t pad_code, std::size_t batch,
                 std::span<std::int32_t> y) override;
  void run_words(Field f, std::span<const std::uint32_t> words, std::size_t batch,
                 std::span<std::uint32_t> y) override;
  void run_requant(std::span<const std::uint8_t> codes, std::uint8_t pad_code, std::size_t batch,
                   std::span<std::uint8_t> out) override;
  [[nodiscard]] std::string_view backend_name() const noexcept override { return name_; }

 private:
  void lay_out_scratch();
  void make_addends();
  void check(std::size_t batch, std::size_t in, std::size_t out) const {
    SLALOM_ASSERT(batch >= 1 && batch <= max_batch_ && in == batch * layer_.in().elements() &&
                  out == batch * layer_.out().elements());
  }

  // for_each_tile calls body(place, scratch of this worker) for every tile of a run.
  template <class Body>
  void for_each_tile(std::size_t batch, Body body);

  [[nodiscard]] Core& last() const noexcept { return *cores_.back(); }
  [[nodiscard]] bool pair() const noexcept { return cores_.size() == 2; }
  [[nodiscard]] Planes planes(std::byte* base, std::size_t stride) const noexcept {
    Planes out{};
    for (std::size_t l = 0; l < kMaxLimbs; ++l) out[l] = base + l * stride;
    return out;
  }
  [[nodiscard]] std::int32_t* sums(std::byte* scratch, std::size_t plane) const noexcept {
    return reinterpret_cast<std::int32_t*>(scratch + sums_at_) + plane * sums_stride_;
  }

  // arrange puts one value for each output channel into the order of a core's sums.
  [[nodiscard]] static Addends arrange(const Core& core, std::span<const std::int32_t> values);

  // job describes one core's work on a tile.
  [[nodiscard]] TileJob job(const Core& core, const Place& at, const std::byte* src,
                            const Addends& addends, std::int32_t* to) const noexcept {
    const bool is_last = &core == &last();
    const std::size_t chunk = is_last ? at.chunk : 0;
    return {.src = src,
            .rows = pair() && is_last ? at.positions : at.rows,
            .chunk = chunk,
            .init = addends.data() + chunk * core.chunk(0).stride,
            .sums = to,
            .worker = at.worker};
  }
  // code_sums writes Y plus what `addends` holds beside the corrections to y. y may be plane 0.
  void code_sums(const Place& at, std::span<const std::uint8_t> codes, std::uint8_t pad_code,
                 std::byte* scratch, const Addends& addends, std::int32_t* y,
                 std::size_t y_stride) const noexcept;
  // word_sums writes the residues of a core's outputs for a tile's limb planes.
  void word_sums(std::size_t core_index, Field f, const Planes& tiles, const Place& at,
                 std::byte* scratch, std::uint32_t* y, std::size_t y_stride) const noexcept;

  const model::Linear& layer_;
  std::string_view name_;
  const Kernels& kernels_;
  const field::Kernels& field_kernels_;
  base::ThreadPool own_pool_;
  base::ThreadPool& pool_;
  std::size_t max_batch_;
  std::vector<std::unique_ptr<Core>> cores_;
  const Tiling& tiling_;  // of the first core; a pair's second works on the same positions
  Filler filler_;

  std::array<std::vector<Addends>, 2> corrections_;  // [core][part]
  Addends corrected_;                                // the last core's, over all parts
  Addends biased_;                                   // the same and the layer's bias
  std::vector<float> multiplier_;  // one for each channel, padded as field::Epilogue wants

  // Scratch of a worker, byte offsets: input planes; sums, one plane for each limb; for a pair the
  // values between the stages and their planes; a core's own.
  std::size_t tile_stride_ = 0;
  std::size_t sums_at_ = 0;
  std::size_t sums_stride_ = 0;  // in int32
  std::size_t middle_at_ = 0;
  std::size_t middle_tile_at_ = 0;
  std::size_t middle_stride_ = 0;
  std::size_t core_at_ = 0;
};

void TiledEngine::lay_out_scratch() {
  const std::size_t positions = tiling_.rows * tiling_.conv.out.w;
  std::size_t widest = 0;
  std::size_t core_scratch = 0;
  for (const auto& core : cores_) {
    widest = std::max(widest, core->chunk(0).stride);
    core_scratch = std::max(core_scratch, core->scratch_bytes());
  }
  tile_stride_ = tiling_.tile_bytes(tiling_.rows);
  sums_at_ = kMaxLimbs * tile_stride_;
  sums_stride_ = base::round_up(positions * widest, 16);
  middle_at_ = sums_at_ + kMaxLimbs * sums_stride_ * sizeof(std::int32_t);
  core_at_ = middle_at_;
  if (pair()) {
    const std::size_t elements = positions * layer_.stages[1].conv.in.c;
    middle_tile_at_ = base::round_up(middle_at_ + elements * sizeof(std::uint32_t), 64);
    middle_stride_ = last().tiling().tile_bytes(positions);
    core_at_ = middle_tile_at_ + kMaxLimbs * middle_stride_;
  }
  core_at_ = base::round_up(core_at_, 64);
  pool_.reserve_scratch(core_at_ + core_scratch);
}

Addends TiledEngine::arrange(const Core& core, std::span<const std::int32_t> values) {
  Addends out(core.tiling().chunks * core.chunk(0).stride, 0);
  for (std::size_t i = 0; i < core.tiling().chunks; ++i) {
    const ChunkShape shape = core.chunk(i);
    for (std::size_t c = 0; c < shape.channels; ++c) {
      const std::size_t at =
          c / shape.group_channels * shape.group_stride + c % shape.group_channels;
      out[i * core.chunk(0).stride + at] = values[shape.first + c];
    }
  }
  return out;
}

void TiledEngine::make_addends() {
  std::vector<std::uint32_t> whole(layer_.out().c, 0);  // unsigned: sums wrap
  for (std::size_t i = 0; i < cores_.size(); ++i) {
    for (std::size_t part = 0; part < cores_[i]->parts(); ++part) {
      const auto values = cores_[i]->correction(part);
      corrections_[i].push_back(arrange(*cores_[i], values));
      if (i + 1 != cores_.size()) continue;
      for (std::size_t o = 0; o < whole.size(); ++o) {
        whole[o] += static_cast<std::uint32_t>(values[o]);
      }
    }
  }
  std::vector<std::int32_t> values(whole.begin(), whole.end());
  corrected_ = arrange(last(), values);
  for (std::size_t o = 0; o < whole.size(); ++o) {
    values[o] = static_cast<std::int32_t>(whole[o] + static_cast<std::uint32_t>(layer_.bias[o]));
  }
  biased_ = arrange(last(), values);
  const std::vector<float>& m = layer_.requant.multiplier;
  multiplier_.assign(base::round_up(whole.size(), field::kChannelPad), 1.0F);
  for (std::size_t o = 0; o < whole.size(); ++o) multiplier_[o] = m[m.size() == 1 ? 0 : o];
}

template <class Body>
void TiledEngine::for_each_tile(std::size_t batch, Body body) {
  const std::size_t units = tiling_.row_units(batch);
  const std::size_t tiles = base::div_up(units, tiling_.rows);
  const std::size_t chunks = last().tiling().chunks;
  const std::size_t width = tiling_.conv.out.w;
  pool_.parallel_for(tiling_.images(batch) * tiles * chunks,
                     [&](std::size_t index, std::size_t worker) {
                       Place at;
                       at.chunk = index % chunks;
                       at.first = index / chunks % tiles * tiling_.rows;
                       at.image = index / chunks / tiles;
                       at.rows = std::min(tiling_.rows, units - at.first);
                       at.positions = at.rows * width;
                       at.worker = worker;
                       at.position = (at.image * units + at.first) * width;
                       body(at, pool_.scratch(worker).data());
                     });
}

// compact moves the sums of a tile to y, channels side by side; in place too.
void compact(const ChunkShape& shape, std::size_t positions, const std::int32_t* sums,
             std::int32_t* y, std::size_t y_stride) noexcept {
  if (y == sums && shape.groups == 1 && shape.stride == y_stride) return;
  for (std::size_t p = 0; p < positions; ++p) {
    for (std::size_t g = 0; g < shape.groups; ++g) {
      std::memmove(y + p * y_stride + g * shape.group_channels,
                   sums + p * shape.stride + g * shape.group_stride,
                   shape.group_channels * sizeof(std::int32_t));
    }
  }
}

void TiledEngine::code_sums(const Place& at, std::span<const std::uint8_t> codes,
                            std::uint8_t pad_code, std::byte* scratch, const Addends& addends,
                            std::int32_t* y, std::size_t y_stride) const noexcept {
  Core& core = *cores_.front();
  const std::size_t row_elements = std::size_t{tiling_.conv.in.w} * tiling_.conv.in.c;
  const std::uint8_t* image = codes.data() + at.image * layer_.in().elements();
  const std::byte* src = scratch;
  if (tiling_.format == Format::kBytes && !tiling_.padded() && core.reads_only_rows(at.rows)) {
    const std::size_t first =
        at.first * (tiling_.images_as_rows ? 1 : tiling_.conv.window.stride_h);
    src = reinterpret_cast<const std::byte*>(image + first * row_elements);
  } else {
    filler_.codes(image, pad_code, at.first, at.rows, scratch);
  }
  std::byte* const core_scratch = scratch + core_at_;
  if (!pair()) {
    const ChunkShape shape = core.chunk(at.chunk);
    const bool direct =
        shape.groups == 1 && shape.stride == y_stride && core.writes_only_rows(at.rows);
    std::int32_t* to = direct ? y : sums(scratch, 0);
    core.run_all(job(core, at, src, addends, to), core_scratch);
    compact(shape, at.positions, to, y, y_stride);
    return;
  }
  // The exact sums between the stages, cut into digits, through the second stage.
  core.run_all(job(core, at, src, corrections_[0][0], sums(scratch, 0)), core_scratch);
  const ChunkShape inner = core.chunk(0);
  auto* middle = reinterpret_cast<std::int32_t*>(scratch + middle_at_);
  compact(inner, at.positions, sums(scratch, 0), middle, inner.channels);
  const Planes tiles = planes(scratch + middle_tile_at_, middle_stride_);
  kernels_.cut_sums(middle, at.positions * inner.channels, last().tiling().format, tiles);
  for (std::size_t l = 0; l < kMaxLimbs; ++l) {
    last().run_all(job(last(), at, tiles[l], l == 0 ? addends : corrected_, sums(scratch, l)),
                   core_scratch);
  }
  const ChunkShape outer = last().chunk(at.chunk);
  kernels_.join_sums({.raw = sums(scratch, 0),
                      .plane_stride = sums_stride_,
                      .stride = outer.stride,
                      .positions = at.positions,
                      .channels = outer.channels,
                      .y_stride = y_stride},
                     y);
}

void TiledEngine::word_sums(std::size_t core_index, Field f, const Planes& tiles, const Place& at,
                            std::byte* scratch, std::uint32_t* y,
                            std::size_t y_stride) const noexcept {
  Core& core = *cores_[core_index];
  const ChunkShape shape = core.chunk(&core == &last() ? at.chunk : 0);
  const std::size_t n = shape.group_channels;
  for (std::size_t part = 0; part < core.parts(); ++part) {
    const Addends& addends = corrections_[core_index][part];
    for (std::size_t l = 0; l < field::num_limbs(f); ++l) {
      core.run(job(core, at, tiles[l], addends, sums(scratch, l)), part, scratch + core_at_);
    }
    for (std::size_t g = 0; g < shape.groups; ++g) {
      kernels_.join_words(f,
                          {.raw = sums(scratch, 0) + g * shape.group_stride,
                           .plane_stride = sums_stride_,
                           .stride = shape.stride,
                           .positions = at.positions,
                           .channels = n,
                           .y_stride = y_stride},
                          part != 0, y + g * n);
    }
  }
}

void TiledEngine::run_codes(std::span<const std::uint8_t> codes, std::uint8_t pad_code,
                            std::size_t batch, std::span<std::int32_t> y) {
  check(batch, codes.size(), y.size());
  const std::size_t out_c = layer_.out().c;
  for_each_tile(batch, [&](const Place& at, std::byte* scratch) {
    std::int32_t* to = y.data() + at.position * out_c + last().chunk(at.chunk).first;
    code_sums(at, codes, pad_code, scratch, corrected_, to, out_c);
  });
}

void TiledEngine::run_requant(std::span<const std::uint8_t> codes, std::uint8_t pad_code,
                              std::size_t batch, std::span<std::uint8_t> out) {
  check(batch, codes.size(), out.size());
  const std::size_t out_c = layer_.out().c;
  const model::Requant& rule = layer_.requant;
  for_each_tile(batch, [&](const Place& at, std::byte* scratch) {
    const ChunkShape shape = last().chunk(at.chunk);
    std::int32_t* y = sums(scratch, 0);
    code_sums(at, codes, pad_code, scratch, biased_, y, shape.channels);
    const field::Epilogue epilogue{.multiplier = multiplier_.data() + shape.first,
                                   .zero_point = rule.zero_point,
                                   .lo = rule.lo,
                                   .hi = rule.hi,
                                   .table = rule.table.empty() ? nullptr : rule.table.data()};
    std::uint8_t* to = out.data() + at.position * out_c + shape.first;
    if (shape.channels == out_c) {
      field_kernels_.requantise_codes(y, at.positions, out_c, epilogue, to);
      return;
    }
    for (std::size_t p = 0; p < at.positions; ++p) {
      field_kernels_.requantise_codes(y + p * shape.channels, 1, shape.channels, epilogue,
                                      to + p * out_c);
    }
  });
}

void TiledEngine::run_words(Field f, std::span<const std::uint32_t> words, std::size_t batch,
                            std::span<std::uint32_t> y) {
  check(batch, words.size(), y.size());
  const std::size_t out_c = layer_.out().c;
  for_each_tile(batch, [&](const Place& at, std::byte* scratch) {
    Planes tiles = planes(scratch, tile_stride_);
    filler_.words(f, words.data() + at.image * layer_.in().elements(), at.first, at.rows, tiles);
    if (pair()) {
      auto* middle = reinterpret_cast<std::uint32_t*>(scratch + middle_at_);
      const std::size_t channels = layer_.stages[1].conv.in.c;
      word_sums(0, f, tiles, at, scratch, middle, channels);
      tiles = planes(scratch + middle_tile_at_, middle_stride_);
      kernels_.cut_words(f, middle, at.positions * channels, last().tiling().format, tiles);
    }
    word_sums(cores_.size() - 1, f, tiles, at, scratch,
              y.data() + at.position * out_c + last().chunk(at.chunk).first, out_c);
  });
}

}  // namespace

std::unique_ptr<Engine> make_tiled_engine(const model::Linear& layer, const EngineOptions& options,
                                          std::string_view name, const Kernels& kernels,
                                          std::vector<std::unique_ptr<Core>> cores) {
  return std::make_unique<TiledEngine>(layer, options, name, kernels, std::move(cores));
}

}  // namespace slalom::linear
