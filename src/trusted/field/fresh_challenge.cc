// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/round_up.h"
#include "field/arithmetic.h"
#include "field/challenge.h"

namespace slalom::field {

Result<FreshChallenge> FreshChallenge::create(std::span<const CheckedLayer> layers,
                                              std::size_t max_batch, bool batched,
                                              const ChallengeOptions& options,
                                              const Kernels& kernels) {
  using base::SecretArena;
  if (max_batch == 0 || max_batch > (batched ? kMaxBatch : 1)) {
    return Error{Errc::kInvalidArgument, "a checked batch has 1 to 256 images, a plain check one"};
  }
  std::size_t degree = 1;
  for (const CheckedLayer& layer : layers) {
    degree = std::max(degree, challenge_degree(*layer.linear, batched));
  }
  const Result<std::size_t> repetitions = repetitions_for(options, degree);
  if (!repetitions.ok()) return repetitions.error();
  FreshChallenge out;
  out.kernels_ = &kernels;
  out.max_batch_ = max_batch;
  out.range_ = options.range;
  out.bits_ = soundness_bits(*repetitions, degree, options.range);
  out.batched_ = batched;
  std::array<std::size_t, 4> most{};
  for (const CheckedLayer& layer : layers) {
    const Transpose& t = out.layers_.emplace_back(Layer{layer, {*layer.linear, kernels}}).transpose;
    const std::array<std::size_t, 4> sizes = LayerChallenge::sizes(t, *repetitions);
    for (std::size_t i = 0; i < sizes.size(); ++i) most[i] = std::max(most[i], sizes[i]);
    out.row_words_ = std::max(out.row_words_, t.row_words());
  }
  std::size_t bytes = SecretArena::bytes_for<Residues>(1) +
                      SecretArena::bytes_for<std::uint32_t>(*repetitions * max_batch);
  for (const std::size_t n : most) bytes += SecretArena::bytes_for<std::uint32_t>(n);
  Result<SecretArena> arena = SecretArena::create(bytes, base::Lock::kWhereAllowed);
  if (!arena.ok()) return arena.error();
  out.arena_ = std::move(*arena);
  out.constant_ = out.arena_.take<Residues>(1);
  out.rho_ = out.arena_.take<std::uint32_t>(*repetitions * max_batch);
  out.challenge_ = {*repetitions, out.arena_.take<std::uint32_t>(most[0]),
                    out.arena_.take<std::uint32_t>(most[1]),
                    out.arena_.take<std::uint32_t>(most[2]),
                    out.arena_.take<std::uint32_t>(most[3])};
  return out;
}

void FreshChallenge::draw(std::size_t index, std::size_t batch, Random& random) noexcept {
  SLALOM_ASSERT(index < layers_.size() && batch >= 1 && batch <= max_batch_);
  SLALOM_ASSERT(batched_ || batch == 1);
  current_ = index;
  batch_ = batch;
  const auto& [asked, t] = layers_[index];
  Residues& constant = constant_.front();
  output_ = challenge_.draw(asked, t, random, range_, constant);
  for (std::size_t i = 0; i < challenge_.repetitions; ++i) {
    const std::span<std::uint32_t> rho = rho_.subspan(i * max_batch_, batch);
    if (batched_) {
      draw_below(random, range_, rho);
    } else {
      rho[0] = 1;
    }
    std::uint32_t weight = 0;
    for (const std::uint32_t r : rho) weight = add(weight, r, t.field());
    constant.value[i] = mul(constant.value[i], weight, t.field());
  }
}

void FreshChallenge::input_rows(std::size_t first, std::size_t count,
                                std::span<const std::uint8_t* const> images,
                                std::span<std::uint32_t> scratch, Residues& sum) const noexcept {
  SLALOM_ASSERT(images.size() == batch_ && scratch.size() >= scratch_words());
  const Transpose& t = layers_[current_].transpose;
  const Field f = t.field();
  const std::size_t n = t.row_words();
  const std::span<std::uint32_t> s = scratch.first(n);
  const std::span<std::uint32_t> mixed = scratch.subspan(row_words_, n);
  for (std::size_t iy = first; iy < first + count; ++iy) {
    for (std::size_t i = 0; i < challenge_.repetitions; ++i) {
      challenge_.row(t, i, iy, s);
      std::uint32_t part = 0;
      if (batched_) {
        mix(i, iy * n, images, mixed);
        part = kernels_->dot_words(f, mixed.data(), s.data(), n);
      } else {
        part = kernels_->dot_codes(f, images[0] + iy * n, s.data(), n);
      }
      sum.value[i] = add(sum.value[i], part, f);
    }
  }
}

// mix: the images' codes from element `at` on, weighed by repetition i's rho.
void FreshChallenge::mix(std::size_t i, std::size_t at, std::span<const std::uint8_t* const> images,
                         std::span<std::uint32_t> out) const noexcept {
  const std::uint8_t* rows[kMaxBatch];
  for (std::size_t b = 0; b < images.size(); ++b) rows[b] = images[b] + at;
  kernels_->combine_codes(layers_[current_].transpose.field(), rho_.data() + i * max_batch_, rows,
                          images.size(), out.size(), out.data());
}

Residues FreshChallenge::difference(std::span<const OutputSum> outputs,
                                    const Residues& input_sum) const noexcept {
  SLALOM_ASSERT(outputs.size() == batch_);
  const Field f = layers_[current_].transpose.field();
  Residues out;
  for (std::size_t i = 0; i < challenge_.repetitions; ++i) {
    std::uint32_t left = 0;
    for (std::size_t b = 0; b < batch_; ++b) {
      left = add(left, mul(outputs[b].residues.value[i], rho_[i * max_batch_ + b], f), f);
    }
    out.value[i] = sub(left, add(input_sum.value[i], constant_[0].value[i], f), f);
  }
  return out;
}

}  // namespace slalom::field
