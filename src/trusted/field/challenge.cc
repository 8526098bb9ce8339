// SPDX-License-Identifier: Apache-2.0
#include "field/challenge.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <variant>

#include "base/round_up.h"
#include "field/arithmetic.h"

namespace slalom::field {
namespace {

std::size_t largest_degree(std::span<const CheckedLayer> layers, bool batched) noexcept {
  std::size_t d = 1;
  for (const CheckedLayer& layer : layers) {
    d = std::max(d, challenge_degree(*layer.linear, batched));
  }
  return d;
}

constexpr std::size_t kBlock = 64;  // elements that pack_check takes at a time

// pack_rows computes s~ row by row and hands on whole blocks, keeping the rest for the next row.
// rows: for each repetition room for a row and a block.
void pack_rows(const Kernels& kernels, const Transpose& t, const LayerChallenge& challenge,
               const CheckVector& shape, std::span<std::uint32_t> rows,
               std::span<std::byte> packed) noexcept {
  const std::size_t stride = rows.size() / shape.repetitions;
  std::array<const std::uint32_t*, kMaxRepetitions> words{};
  std::size_t done = 0;
  std::size_t kept = 0;
  for (std::size_t iy = 0; iy < t.rows(); ++iy) {
    for (std::size_t i = 0; i < shape.repetitions; ++i) {
      words[i] = rows.data() + i * stride;
      challenge.row(t, i, iy, rows.subspan(i * stride + kept, t.row_words()));
    }
    const std::size_t held = kept + t.row_words();
    const std::size_t n = iy + 1 == t.rows() ? held : held / kBlock * kBlock;
    kernels.pack_check(shape, done, n, words.data(), packed.data());
    done += n;
    kept = held - n;
    for (std::size_t i = 0; i < shape.repetitions; ++i) {
      std::uint32_t* const row = rows.data() + i * stride;
      std::copy_n(row + n, kept, row);
    }
  }
}

}  // namespace

double soundness_bits(std::size_t repetitions, std::size_t d, std::uint32_t range) noexcept {
  return static_cast<double>(repetitions) * (std::log2(range) - std::log2(d));
}

Result<std::size_t> repetitions_for(const ChallengeOptions& options, std::size_t d) noexcept {
  const double wanted = options.soundness_bits + std::log2(options.tries) - 0.001;
  for (std::size_t k = 1; k <= kMaxRepetitions; ++k) {
    if (soundness_bits(k, d, options.range) >= wanted) return k;
  }
  return Error{Errc::kInvalidArgument, "more soundness is asked for than six repetitions give"};
}

std::size_t challenge_degree(const model::Linear& layer, bool batched) noexcept {
  return (layer.out().positions() > 1 ? 2U : 1U) + (batched ? 1U : 0U);
}

std::array<std::size_t, 4> LayerChallenge::sizes(const Transpose& t, std::size_t k) noexcept {
  return {k * base::round_up(t.out_channels(), kChannelPad), k * t.out_positions(),
          k * t.folded_words(), t.middle_words()};
}

OutputChallenge LayerChallenge::draw(const CheckedLayer& layer, const Transpose& t, Random& random,
                                     std::uint32_t range, Residues& constant) const noexcept {
  const Field f = t.field();
  const std::size_t stride = base::round_up(t.out_channels(), kChannelPad);
  const std::size_t positions = t.out_positions();
  const int zero = layer.form == InputForm::kCodes ? 128 : layer.pad_code;
  const int outside = layer.form == InputForm::kCodes ? layer.pad_code - 128 : 0;
  std::fill(a.begin(), a.end(), 0U);
  for (std::size_t i = 0; i < repetitions; ++i) {
    const std::span<std::uint32_t> a_i = a.subspan(i * stride, t.out_channels());
    const std::span<std::uint32_t> c_i = c.subspan(i * positions, positions);
    const std::span<std::uint32_t> folded_i =
        folded.subspan(i * t.folded_words(), t.folded_words());
    draw_below(random, range, a_i);
    if (positions == 1) {
      c_i[0] = 1;
    } else {
      draw_below(random, range, c_i);
    }
    t.fold(a_i, middle, folded_i);
    const Transpose::Sums sums = t.sums(folded_i, c_i);
    constant.value[i] = field::add(mul(sums.inside, to_word(-zero, f), f),
                                   mul(sums.outside, to_word(outside, f), f), f);
  }
  return {repetitions, a.data(), stride, c.data(), positions};
}

void LayerChallenge::row(const Transpose& t, std::size_t i, std::size_t iy,
                         std::span<std::uint32_t> out) const noexcept {
  t.row(folded.subspan(i * t.folded_words(), t.folded_words()),
        c.subspan(i * t.out_positions(), t.out_positions()), iy, out);
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
    out.push_back({linear, static_cast<std::uint8_t>(zero), form});
  }
  return out;
}

Status ChallengeSet::add(const CheckedLayer& layer, const Transpose& t, const Kernels& kernels,
                         Random& random, std::uint32_t range) {
  using base::SecretArena;
  const std::array<std::size_t, 4> sizes = LayerChallenge::sizes(t, repetitions_);
  const std::size_t rows = repetitions_ * (t.row_words() + kBlock);
  Result<SecretArena> scratch =
      SecretArena::create(SecretArena::bytes_for<std::uint32_t>(sizes[2]) +
                              SecretArena::bytes_for<std::uint32_t>(sizes[3]) +
                              SecretArena::bytes_for<std::uint32_t>(rows),
                          base::Lock::kWhereAllowed);
  if (!scratch.ok()) return scratch.error();
  const LayerChallenge challenge{
      repetitions_, arena_.take<std::uint32_t>(sizes[0]), arena_.take<std::uint32_t>(sizes[1]),
      scratch->take<std::uint32_t>(sizes[2]), scratch->take<std::uint32_t>(sizes[3])};
  Residues& constant = arena_.take<Residues>(1).front();
  CheckVector input{t.field(), repetitions_, t.rows() * t.row_words(), nullptr};
  const std::span<std::byte> packed =
      arena_.take<std::byte>(kernels.check_bytes(input.field, repetitions_, input.elements));
  input.packed = packed.data();
  layers_.push_back(
      {input.field, challenge.draw(layer, t, random, range, constant), input, &constant});
  pack_rows(kernels, t, challenge, input, scratch->take<std::uint32_t>(rows), packed);
  return {};
}

Result<std::unique_ptr<const ChallengeSet>> ChallengeSet::create(
    std::span<const CheckedLayer> layers, const ChallengeOptions& options, const Kernels& kernels,
    Random& random) {
  using base::SecretArena;
  const std::size_t degree = largest_degree(layers, false);
  const Result<std::size_t> repetitions = repetitions_for(options, degree);
  if (!repetitions.ok()) return repetitions.error();
  std::unique_ptr<ChallengeSet> set(new ChallengeSet);
  set->repetitions_ = *repetitions;
  set->bits_ = soundness_bits(*repetitions, degree, options.range);
  std::vector<Transpose> transposes;
  std::size_t bytes = 0;
  for (const CheckedLayer& layer : layers) {
    const Transpose& t = transposes.emplace_back(*layer.linear, kernels);
    const std::array<std::size_t, 4> sizes = LayerChallenge::sizes(t, *repetitions);
    bytes += SecretArena::bytes_for<std::uint32_t>(sizes[0]) +
             SecretArena::bytes_for<std::uint32_t>(sizes[1]) + SecretArena::bytes_for<Residues>(1) +
             SecretArena::bytes_for<std::byte>(
                 kernels.check_bytes(t.field(), *repetitions, t.rows() * t.row_words()));
  }
  Result<SecretArena> arena = SecretArena::create(bytes, base::Lock::kWhereAllowed);
  if (!arena.ok()) return arena.error();
  set->arena_ = std::move(*arena);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    SLALOM_TRY(set->add(layers[i], transposes[i], kernels, random, options.range));
  }
  return std::unique_ptr<const ChallengeSet>(std::move(set));
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
