// SPDX-License-Identifier: Apache-2.0
#include "field/challenge.h"

#include <algorithm>
#include <bit>
#include <variant>

#include "base/assert.h"
#include "base/checked.h"
#include "field/arithmetic.h"

namespace slalom::field {
namespace {

// log2 of a positive integer below 2^53, to 2^-50 or so, by squaring: each square of m in [1, 2)
// gives one more bit.
double log2_of(std::uint64_t n) noexcept {
  SLALOM_ASSERT(n > 0);
  const int whole = static_cast<int>(std::bit_width(n)) - 1;
  double m = static_cast<double>(n) / static_cast<double>(std::uint64_t{1} << whole);
  double out = whole;
  double bit = 1;
  for (int i = 0; i < 50; ++i) {
    bit /= 2;
    m *= m;
    if (m >= 2) {
      m /= 2;
      out += bit;
    }
  }
  return out;
}

std::size_t largest_degree(std::span<const CheckedLayer> layers, bool batched) noexcept {
  std::size_t d = 1;
  for (const CheckedLayer& layer : layers) {
    d = std::max(d, challenge_degree(*layer.linear, batched));
  }
  return d;
}

std::size_t padded_channels(const CheckedLayer& layer) noexcept {
  return base::round_up(layer.linear->out().c, kChannelPad);
}

// Room is a piece of scratch for making one layer's s~.
struct Room {
  std::span<std::uint32_t> middle, folded;
  std::array<std::span<std::uint32_t>, kMaxRepetitions> rows;
};

}  // namespace

double soundness_bits(std::size_t repetitions, std::size_t d, std::uint32_t range) noexcept {
  return static_cast<double>(repetitions) * (log2_of(range) - log2_of(d));
}

Result<std::size_t> repetitions_for(const ChallengeOptions& options, std::size_t d) noexcept {
  const double wanted = options.soundness_bits + log2_of(options.tries) - 0.001;
  for (std::size_t k = 1; k <= kMaxRepetitions; ++k) {
    if (soundness_bits(k, d, options.range) >= wanted) return k;
  }
  return Error{Errc::kInvalidArgument, "more soundness is asked for than six repetitions give"};
}

std::size_t challenge_degree(const model::Linear& layer, bool batched) noexcept {
  return (layer.out().positions() > 1 ? 2U : 1U) + (batched ? 1U : 0U);
}

void draw_challenge(Random& random, std::uint32_t range, std::span<std::uint32_t> a,
                    std::span<std::uint32_t> c) noexcept {
  draw_below(random, range, a);
  if (c.size() == 1) {
    c[0] = 1;  // a second factor would only add to d
  } else {
    draw_below(random, range, c);
  }
}

std::uint32_t challenge_constant(const CheckedLayer& layer, const Transpose::Sums& sums) noexcept {
  const Field f = *layer.linear->field;
  const int zero = layer.form == InputForm::kCodes ? 128 : layer.pad_code;
  std::uint32_t constant = mul(sums.inside, to_word(-zero, f), f);
  if (layer.form == InputForm::kCodes) {
    constant = add(constant, mul(sums.outside, to_word(layer.pad_code - 128, f), f), f);
  }
  return constant;
}

Result<std::vector<CheckedLayer>> checked_layers(const model::Plan& plan,
                                                 std::span<const std::uint32_t> nodes,
                                                 InputForm form) {
  std::vector<CheckedLayer> out;
  out.reserve(nodes.size());
  for (const std::uint32_t node : nodes) {
    const auto* linear =
        node < plan.nodes.size() ? std::get_if<model::Linear>(&plan.nodes[node].op) : nullptr;
    if (linear == nullptr || !linear->field.has_value()) {
      return Error{Errc::kInvalidArgument, "only a linear layer with a field can be checked"};
    }
    const std::int32_t zero = plan.tensors[plan.nodes[node].inputs.front()].zero_point;
    out.push_back({node, linear, static_cast<std::uint8_t>(zero), form});
  }
  return out;
}

// SetBuilder fills the arena of a set layer by layer.
class SetBuilder {
 public:
  SetBuilder(ChallengeSet& set, const Kernels& kernels, Random& random, std::uint32_t range)
      : set_(set), kernels_(kernels), random_(random), range_(range) {}

  [[nodiscard]] Status reserve(std::span<const CheckedLayer> layers) {
    using base::SecretArena;
    const std::size_t k = set_.repetitions_;
    std::size_t bytes = SecretArena::bytes_for<Residues>(layers.size());
    std::size_t middle = 0;
    std::size_t folded = 0;
    std::size_t row = 0;
    for (const CheckedLayer& layer : layers) {
      const Transpose t(*layer.linear, kernels_);
      bytes += SecretArena::bytes_for<std::uint32_t>(k * padded_channels(layer)) +
               SecretArena::bytes_for<std::uint32_t>(k * t.out_positions()) +
               SecretArena::bytes_for<std::byte>(
                   kernels_.check_bytes(t.field(), k, layer.linear->in().elements()));
      middle = std::max(middle, t.middle_words());
      folded = std::max(folded, t.folded_words());
      row = std::max(row, t.row_words() + kBlock);
    }
    Result<SecretArena> arena = SecretArena::create(bytes, base::Lock::kWhereAllowed);
    if (!arena.ok()) return arena.error();
    set_.arena_ = std::move(*arena);
    constants_ = set_.arena_.take<Residues>(layers.size());
    Result<SecretArena> scratch =
        SecretArena::create(SecretArena::bytes_for<std::uint32_t>(middle) +
                                SecretArena::bytes_for<std::uint32_t>(k * folded) +
                                k * SecretArena::bytes_for<std::uint32_t>(row),
                            base::Lock::kWhereAllowed);
    if (!scratch.ok()) return scratch.error();
    scratch_ = std::move(*scratch);
    middle_ = scratch_.take<std::uint32_t>(middle);
    folded_ = scratch_.take<std::uint32_t>(k * folded);
    for (std::size_t i = 0; i < k; ++i) rows_[i] = scratch_.take<std::uint32_t>(row);
    return {};
  }

  void add(const CheckedLayer& layer) {
    const std::size_t k = set_.repetitions_;
    const Transpose transpose(*layer.linear, kernels_);
    const std::size_t stride = padded_channels(layer);
    const std::size_t positions = transpose.out_positions();
    const std::span<std::uint32_t> a = set_.arena_.take<std::uint32_t>(k * stride);
    const std::span<std::uint32_t> c = set_.arena_.take<std::uint32_t>(k * positions);
    const CheckVector shape{transpose.field(), k, layer.linear->in().elements(), nullptr};
    const std::span<std::byte> packed = set_.arena_.take<std::byte>(
        kernels_.check_bytes(shape.field, shape.repetitions, shape.elements));
    Residues& constant = constants_[set_.layers_.size()];
    for (std::size_t i = 0; i < k; ++i) {
      draw_challenge(random_, range_, a.subspan(i * stride, transpose.out_channels()),
                     c.subspan(i * positions, positions));
      const std::span<std::uint32_t> folded = folded_of(i, transpose);
      transpose.fold(a.subspan(i * stride, transpose.out_channels()), middle_, folded);
      constant.value[i] =
          challenge_constant(layer, transpose.sums(folded, c.subspan(i * positions, positions)));
    }
    pack(transpose, c, shape, packed);
    set_.layers_.push_back({.node = layer.node,
                            .field = shape.field,
                            .degree = challenge_degree(*layer.linear, false),
                            .output = {k, a.data(), stride, c.data(), positions},
                            .input = {shape.field, k, shape.elements, packed.data()},
                            .constant = &constant});
  }

 private:
  static constexpr std::size_t kBlock = 64;  // pack_check takes whole blocks

  [[nodiscard]] std::span<std::uint32_t> folded_of(std::size_t i, const Transpose& t) const {
    return folded_.subspan(i * (folded_.size() / set_.repetitions_), t.folded_words());
  }

  // pack computes s~ row by row and hands on whole blocks, keeping the rest for the next row.
  void pack(const Transpose& transpose, std::span<const std::uint32_t> c, const CheckVector& shape,
            std::span<std::byte> packed) const {
    const std::size_t positions = transpose.out_positions();
    std::size_t done = 0;
    std::size_t kept = 0;
    for (std::size_t iy = 0; iy < transpose.rows(); ++iy) {
      std::array<const std::uint32_t*, kMaxRepetitions> words{};
      for (std::size_t i = 0; i < shape.repetitions; ++i) {
        transpose.row(folded_of(i, transpose), c.subspan(i * positions, positions), iy,
                      rows_[i].subspan(kept, transpose.row_words()));
        words[i] = rows_[i].data();
      }
      const std::size_t held = kept + transpose.row_words();
      const std::size_t n = iy + 1 == transpose.rows() ? held : held / kBlock * kBlock;
      kernels_.pack_check(shape, done, n, words.data(), packed.data());
      done += n;
      kept = held - n;
      for (std::size_t i = 0; i < shape.repetitions; ++i) {
        std::copy_n(rows_[i].begin() + static_cast<std::ptrdiff_t>(n), kept, rows_[i].begin());
      }
    }
  }

  ChallengeSet& set_;
  const Kernels& kernels_;
  Random& random_;
  std::uint32_t range_;
  base::SecretArena scratch_;
  std::span<Residues> constants_;
  std::span<std::uint32_t> middle_, folded_;
  std::array<std::span<std::uint32_t>, kMaxRepetitions> rows_;
};

Result<std::unique_ptr<const ChallengeSet>> ChallengeSet::create(
    std::span<const CheckedLayer> layers, const ChallengeOptions& options, const Kernels& kernels,
    Random& random) {
  const std::size_t degree = largest_degree(layers, false);
  const Result<std::size_t> repetitions = repetitions_for(options, degree);
  if (!repetitions.ok()) return repetitions.error();
  std::unique_ptr<ChallengeSet> set(new ChallengeSet);
  set->repetitions_ = *repetitions;
  set->bits_ = field::soundness_bits(*repetitions, degree, options.range);
  set->layers_.reserve(layers.size());
  SetBuilder builder(*set, kernels, random, options.range);
  SLALOM_TRY(builder.reserve(layers));
  for (const CheckedLayer& layer : layers) builder.add(layer);
  return std::unique_ptr<const ChallengeSet>(std::move(set));
}

const ChallengeSet::Layer* ChallengeSet::find(std::uint32_t node) const noexcept {
  for (const Layer& layer : layers_) {
    if (layer.node == node) return &layer;
  }
  return nullptr;
}

Residues ChallengeSet::Layer::difference(const OutputSum& output_sum,
                                         const Residues& input_sum) const noexcept {
  Residues out;
  for (std::size_t i = 0; i < output.repetitions; ++i) {
    const std::uint32_t right = field::add(input_sum.value[i], constant->value[i], field);
    out.value[i] = sub(output_sum.residues.value[i], right, field);
  }
  return out;
}

}  // namespace slalom::field
