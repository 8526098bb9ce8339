// SPDX-License-Identifier: Apache-2.0
#include "linear/tiled_engine.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"

namespace slalom::linear {
namespace {

using field::Field;

constexpr std::size_t kAllParts = ~std::size_t{0};

// Bias is an addend for each output channel, alone and with the last core's correction.
struct Bias {
  std::vector<std::int32_t> alone;
  std::vector<std::int32_t> corrected;
};

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
    make_additions();
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
  void make_additions();
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

  // settle turns one plane of raw sums into [position][channel] ones with `add` (of the chunk's
  // channels) added; in place if y == raw and y_stride is the number of channels.
  void settle(const ChunkShape& shape, std::size_t positions, const std::int32_t* add,
              const std::int32_t* raw, std::int32_t* y, std::size_t y_stride) const noexcept {
    const std::size_t n = shape.group_channels;
    if (shape.groups == 1) {
      kernels_.settle(raw, shape.stride, add, positions, n, y, y_stride);
      return;
    }
    for (std::size_t p = 0; p < positions;
         ++p) {  // positions outside: nothing unread is overwritten
      for (std::size_t g = 0; g < shape.groups; ++g) {
        kernels_.settle(raw + p * shape.stride + g * shape.group_stride, 0, add + g * n, 1, n,
                        y + p * y_stride + g * n, 0);
      }
    }
  }

  // code_sums writes Y plus `bias` (one for each output channel) of a tile to y, contiguous in the
  // chunk's channels or with the stride of the whole output. y may be plane 0 of the sums.
  void code_sums(const Place& at, std::span<const std::uint8_t> codes, std::uint8_t pad_code,
                 std::byte* scratch, const Bias& bias, std::int32_t* y,
                 std::size_t y_stride) const noexcept;
  // run_limbs makes the raw sums of each limb plane: of one part, or, for the last core, of all of
  // them mod 2^32 (kAllParts).
  void run_limbs(Core& core, const Planes& tiles, std::size_t limbs, const Place& at,
                 std::size_t part, std::byte* scratch) const noexcept;
  // word_sums writes the residues of a core's outputs for a tile's limb planes.
  void word_sums(Core& core, Field f, const Planes& tiles, const Place& at, std::byte* scratch,
                 std::uint32_t* y, std::size_t y_stride) const noexcept;

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

  std::vector<std::int32_t> correction_;  // of the last core, over all parts
  Bias no_bias_;
  Bias bias_;
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

void TiledEngine::make_additions() {
  const std::size_t channels = layer_.out().c;
  const auto sum = [&](const std::vector<std::int32_t>& a, std::span<const std::int32_t> b) {
    std::vector<std::int32_t> out(channels);
    kernels_.settle(a.data(), channels, b.data(), 1, channels, out.data(), channels);
    return out;
  };
  correction_.assign(channels, 0);
  for (std::size_t part = 0; part < last().parts(); ++part) {
    correction_ = sum(correction_, last().correction(part));
  }
  no_bias_ = {std::vector<std::int32_t>(channels, 0), correction_};
  bias_ = {layer_.bias, sum(layer_.bias, correction_)};
  const std::vector<float>& m = layer_.requant.multiplier;
  multiplier_.assign(base::round_up(channels, field::kChannelPad), 1.0F);
  for (std::size_t o = 0; o < channels; ++o) multiplier_[o] = m[m.size() == 1 ? 0 : o];
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

void TiledEngine::code_sums(const Place& at, std::span<const std::uint8_t> codes,
                            std::uint8_t pad_code, std::byte* scratch, const Bias& bias,
                            std::int32_t* y, std::size_t y_stride) const noexcept {
  Core& core = *cores_.front();
  const std::size_t row_elements = std::size_t{tiling_.conv.in.w} * tiling_.conv.in.c;
  const std::uint8_t* image = codes.data() + at.image * layer_.in().elements();
  TileJob job{.src = scratch,
              .rows = at.rows,
              .chunk = pair() ? 0 : at.chunk,
              .sums = sums(scratch, 0),
              .worker = at.worker};
  if (tiling_.format == Format::kBytes && !tiling_.padded() && core.reads_only_rows(at.rows)) {
    const std::size_t first =
        at.first * (tiling_.images_as_rows ? 1 : tiling_.conv.window.stride_h);
    job.src = reinterpret_cast<const std::byte*>(image + first * row_elements);
  } else {
    filler_.codes(image, pad_code, at.first, at.rows, scratch);
  }
  core.run_all(job, scratch + core_at_);
  const ChunkShape shape = core.chunk(job.chunk);
  if (!pair()) {
    settle(shape, at.positions, bias.corrected.data() + shape.first, job.sums, y, y_stride);
    return;
  }
  // The exact sums between the stages, cut into digits, through the second stage.
  auto* middle = reinterpret_cast<std::int32_t*>(scratch + middle_at_);
  settle(shape, at.positions, core.correction(0).data(), job.sums, middle, shape.channels);
  const Planes tiles = planes(scratch + middle_tile_at_, middle_stride_);
  kernels_.cut_sums(middle, at.positions * shape.channels, last().tiling().format, tiles);
  run_limbs(last(), tiles, kMaxLimbs, at, kAllParts, scratch);
  const ChunkShape outer = last().chunk(at.chunk);
  kernels_.join_sums(sums(scratch, 0), sums_stride_, outer.stride, correction_.data() + outer.first,
                     bias.alone.data() + outer.first, at.positions, outer.channels, y, y_stride);
}

void TiledEngine::run_limbs(Core& core, const Planes& tiles, std::size_t limbs, const Place& at,
                            std::size_t part, std::byte* scratch) const noexcept {
  const bool second = pair() && &core == &last();
  for (std::size_t l = 0; l < limbs; ++l) {
    const TileJob job{.src = tiles[l],
                      .rows = second ? at.positions : at.rows,
                      .chunk = &core == &last() ? at.chunk : 0,
                      .sums = sums(scratch, l),
                      .worker = at.worker};
    if (part == kAllParts) {
      core.run_all(job, scratch + core_at_);
    } else {
      core.run(job, part, scratch + core_at_);
    }
  }
}

void TiledEngine::word_sums(Core& core, Field f, const Planes& tiles, const Place& at,
                            std::byte* scratch, std::uint32_t* y,
                            std::size_t y_stride) const noexcept {
  const ChunkShape shape = core.chunk(&core == &last() ? at.chunk : 0);
  const std::size_t n = shape.group_channels;
  for (std::size_t part = 0; part < core.parts(); ++part) {
    run_limbs(core, tiles, field::num_limbs(f), at, part, scratch);
    const std::int32_t* add = core.correction(part).data() + shape.first;
    for (std::size_t g = 0; g < shape.groups; ++g) {
      kernels_.join_words(f, sums(scratch, 0) + g * shape.group_stride, sums_stride_, shape.stride,
                          add + g * n, at.positions, n, part != 0, y + g * n, y_stride);
    }
  }
}

void TiledEngine::run_codes(std::span<const std::uint8_t> codes, std::uint8_t pad_code,
                            std::size_t batch, std::span<std::int32_t> y) {
  check(batch, codes.size(), y.size());
  const std::size_t out_c = layer_.out().c;
  for_each_tile(batch, [&](const Place& at, std::byte* scratch) {
    std::int32_t* to = y.data() + at.position * out_c + last().chunk(at.chunk).first;
    code_sums(at, codes, pad_code, scratch, no_bias_, to, out_c);
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
    code_sums(at, codes, pad_code, scratch, bias_, y, shape.channels);
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
      word_sums(*cores_.front(), f, tiles, at, scratch, middle, channels);
      tiles = planes(scratch + middle_tile_at_, middle_stride_);
      kernels_.cut_words(f, middle, at.positions * channels, last().tiling().format, tiles);
    }
    word_sums(last(), f, tiles, at, scratch,
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
