// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/checked.h"
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
  FreshChallenge out;
  std::size_t degree = 1;
  std::size_t middle = 0;
  for (const CheckedLayer& layer : layers) {
    const Transpose& t = out.layers_.emplace_back(*layer.linear, kernels);
    degree = std::max(degree, challenge_degree(*layer.linear, batched));
    middle = std::max(middle, t.middle_words());
    out.a_stride_ = std::max(out.a_stride_, base::round_up(t.out_channels(), kChannelPad));
    out.c_stride_ = std::max(out.c_stride_, t.out_positions());
    out.folded_stride_ = std::max(out.folded_stride_, t.folded_words());
    out.row_words_ = std::max(out.row_words_, t.row_words());
  }
  const Result<std::size_t> repetitions = repetitions_for(options, degree);
  if (!repetitions.ok()) return repetitions.error();
  const std::size_t k = *repetitions;
  out.asked_.assign(layers.begin(), layers.end());
  out.kernels_ = &kernels;
  out.max_batch_ = max_batch;
  out.repetitions_ = k;
  out.range_ = options.range;
  out.bits_ = soundness_bits(k, degree, options.range);
  out.batched_ = batched;
  const std::array<std::size_t, 5> words = {k * out.a_stride_, k * out.c_stride_, k * max_batch,
                                            k * out.folded_stride_, middle};
  std::size_t bytes = SecretArena::bytes_for<Residues>(1);
  for (const std::size_t n : words) bytes += SecretArena::bytes_for<std::uint32_t>(n);
  Result<SecretArena> arena = SecretArena::create(bytes, base::Lock::kWhereAllowed);
  if (!arena.ok()) return arena.error();
  out.arena_ = std::move(*arena);
  out.constant_ = out.arena_.take<Residues>(1);
  const std::array<std::span<std::uint32_t>*, 5> pieces = {&out.a_, &out.c_, &out.rho_,
                                                           &out.folded_, &out.middle_};
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    *pieces[i] = out.arena_.take<std::uint32_t>(words[i]);
  }
  return out;
}

void FreshChallenge::draw(std::size_t index, std::size_t batch, Random& random) noexcept {
  SLALOM_ASSERT(index < layers_.size() && batch >= 1 && batch <= max_batch_);
  SLALOM_ASSERT(batched_ || batch == 1);
  current_ = index;
  batch_ = batch;
  const Transpose& t = layers_[index];
  for (std::size_t i = 0; i < repetitions_; ++i) {
    const std::span<std::uint32_t> a = a_.subspan(i * a_stride_, a_stride_);
    const std::span<std::uint32_t> c = c_.subspan(i * c_stride_, t.out_positions());
    const std::span<std::uint32_t> folded = folded_.subspan(i * folded_stride_, t.folded_words());
    const std::span<std::uint32_t> rho = rho_.subspan(i * max_batch_, batch);
    draw_challenge(random, range_, a.first(t.out_channels()), c);
    std::fill(a.begin() + static_cast<std::ptrdiff_t>(t.out_channels()), a.end(), 0U);
    if (batched_) {
      draw_below(random, range_, rho);
    } else {
      rho[0] = 1;
    }
    t.fold(a.first(t.out_channels()), middle_, folded);
    std::uint32_t weight = 0;
    for (const std::uint32_t r : rho) weight = add(weight, r, t.field());
    constant_[0].value[i] =
        mul(challenge_constant(asked_[index], t.sums(folded, c)), weight, t.field());
  }
}

OutputChallenge FreshChallenge::output() const noexcept {
  return {repetitions_, a_.data(), a_stride_, c_.data(), c_stride_};
}

void FreshChallenge::input_rows(std::size_t first, std::size_t count,
                                std::span<const std::uint8_t* const> images,
                                std::span<std::uint32_t> scratch, Residues& sum) const noexcept {
  SLALOM_ASSERT(images.size() == batch_ && scratch.size() >= scratch_words());
  const Transpose& t = layers_[current_];
  const Field f = t.field();
  const std::size_t n = t.row_words();
  const std::span<std::uint32_t> s = scratch.first(n);
  const std::span<std::uint32_t> mixed = scratch.subspan(row_words_, n);
  for (std::size_t iy = first; iy < first + count; ++iy) {
    for (std::size_t i = 0; i < repetitions_; ++i) {
      t.row(folded_.subspan(i * folded_stride_, t.folded_words()),
            c_.subspan(i * c_stride_, t.out_positions()), iy, s);
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
  kernels_->combine_codes(layers_[current_].field(), rho_.data() + i * max_batch_, rows,
                          images.size(), out.size(), out.data());
}

Residues FreshChallenge::difference(std::span<const OutputSum> outputs,
                                    const Residues& input_sum) const noexcept {
  SLALOM_ASSERT(outputs.size() == batch_);
  const Field f = layers_[current_].field();
  Residues out;
  for (std::size_t i = 0; i < repetitions_; ++i) {
    std::uint32_t left = 0;
    for (std::size_t b = 0; b < batch_; ++b) {
      left = add(left, mul(outputs[b].residues.value[i], rho_[i * max_batch_ + b], f), f);
    }
    out.value[i] = sub(left, add(input_sum.value[i], constant_[0].value[i], f), f);
  }
  return out;
}

}  // namespace slalom::field
