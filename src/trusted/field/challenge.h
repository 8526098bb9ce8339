// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/arena.h"
#include "field/kernels.h"
#include "field/random.h"
#include "field/requant.h"
#include "field/transpose.h"
#include "model/plan.h"
#include "slalom/result.h"

// Checks of linear layers: Freivalds' algorithm (R. Freivalds, 1977; the paper, section 3.2 and
// lemma 3.1) over F_p with rank-one challenges (DESIGN section 3, "Checks"; proofs in
// docs/mathematics.md).
//
// For one layer, image and repetition k, with v the unblinded answer and x what stands for the
// input,
//     sum over positions, channels of v * a_k[channel] * c_k[position]                  (output
//     side)
//   = sum over input elements of x * s~_k  +  constant_k                     mod p       (input
//   side)
// where s~_k = transpose(layer)(a_k (x) c_k). consume_* adds up the left, check_input the right on
// codes q instead of x; `difference` subtracts one from the other and accounts for the constants:
//     codes form   x = q - 128, padding (pad_code - 128) times the weights that fall outside
//     words form   x = q - pad_code, no padding
// Every difference of every layer of an image goes into one Verdict.

namespace slalom::field {

// ChallengeOptions. range is N; tests use tiny ones, everything else the default.
struct ChallengeOptions {
  std::uint32_t soundness_bits = 40;  // at least this much, for all tries together
  std::uint64_t tries = 1;            // D*F: devices times verdicts in flight
  std::uint32_t range = kChallengeRange;
};

// soundness_bits is -log2((d/N)^k): what k repetitions of a challenge that is a product of d
// independent vectors are worth for one try.
[[nodiscard]] double soundness_bits(std::size_t repetitions, std::size_t d,
                                    std::uint32_t range = kChallengeRange) noexcept;
// repetitions_for is the least k with tries * (d/N)^k <= 2^-bits, to a thousandth of a bit (N is
// not quite 2^24); kInvalidArgument above kMaxRepetitions.
[[nodiscard]] Result<std::size_t> repetitions_for(const ChallengeOptions& options,
                                                  std::size_t d) noexcept;

// challenge_degree is d of one layer: 1 for one position, else 2; one more with a batch.
[[nodiscard]] std::size_t challenge_degree(const model::Linear& layer, bool batched) noexcept;

// CheckedLayer names a remote layer and how it is asked.
struct CheckedLayer {
  const model::Linear* linear = nullptr;
  std::uint8_t pad_code = 0;  // the input's zero point
  InputForm form = InputForm::kCodes;
};

// checked_layers lists the Linear nodes among `nodes` of a validated plan. The plan must outlive
// them. kInvalidArgument if a node is not a Linear with a field.
[[nodiscard]] Result<std::vector<CheckedLayer>> checked_layers(const model::Plan& plan,
                                                               std::span<const std::uint32_t> nodes,
                                                               InputForm form);

// LayerChallenge is what both forms below are made of: k challenges of one layer in room that is
// large enough for it (`sizes` words, in the order of the members).
struct LayerChallenge {
  std::size_t repetitions = 0;
  std::span<std::uint32_t> a;       // [repetition][channels, padded with zeros]
  std::span<std::uint32_t> c;       // [repetition][positions]
  std::span<std::uint32_t> folded;  // [repetition][folded_words]: the weights with a
  std::span<std::uint32_t> middle;  // scratch

  [[nodiscard]] static std::array<std::size_t, 4> sizes(const Transpose& t,
                                                        std::size_t repetitions) noexcept;
  // draw draws a, and c unless it has one entry, which is 1 then: a factor without a choice would
  // only add to d. constant gets constant_k. k multiplications a weight.
  [[nodiscard]] OutputChallenge draw(const CheckedLayer& layer, const Transpose& t, Random& random,
                                     std::uint32_t range, Residues& constant) const noexcept;
  // row computes row iy of s~ of one repetition.
  void row(const Transpose& t, std::size_t repetition, std::size_t iy,
           std::span<std::uint32_t> out) const noexcept;
};

// ChallengeSet is the preprocessed form: challenges and s~ of every remote layer, drawn once, in
// one SecretArena. Immutable, so any number of threads may use it. Retire it (drop it) after a
// rejection.
class ChallengeSet {
 public:
  // create draws a_k, c_k uniform in [0, range) and computes every s~: about
  // k * (weights + taps * input elements) multiplications a layer.
  [[nodiscard]] static Result<std::unique_ptr<const ChallengeSet>> create(
      std::span<const CheckedLayer> layers, const ChallengeOptions& options, const Kernels& kernels,
      Random& random);

  // Layer is the part of one remote layer, in the order given to create.
  struct Layer {
    Field field = Field::kP24;
    OutputChallenge output;  // whole image; output.from(position) for a tile
    CheckVector input;
    const Residues* constant = nullptr;  // in the arena

    // difference is zero in every repetition for a right answer. REQUIRES: output and input sums
    // over the whole image.
    [[nodiscard]] Residues difference(const OutputSum& output_sum,
                                      const Residues& input_sum) const noexcept;
  };

  [[nodiscard]] std::span<const Layer> layers() const noexcept { return layers_; }
  // bits is soundness_bits(k, largest d of the set): for one try.
  [[nodiscard]] double bits() const noexcept { return bits_; }

 private:
  ChallengeSet() = default;
  [[nodiscard]] Status add(const CheckedLayer& layer, const Transpose& t, const Kernels& kernels,
                           Random& random, std::uint32_t range);

  base::SecretArena arena_;
  std::vector<Layer> layers_;
  std::size_t repetitions_ = 0;
  double bits_ = 0;
};

// FreshChallenge is the plain and the batched form: a challenge drawn for one answer to one layer
// (a micro-batch of images; with more than one image each gets a random weight rho_k[b], d + 1) and
// secret until the last word of that answer was loaded. Nothing is stored between answers. One
// object serves one answer at a time: have as many as answers may be consumed at once. No call but
// create allocates.
//
//   draw -> consume_* tiles of every image with output() -> input_rows over all rows -> difference
//
// draw and difference: one thread; output and input_rows are const, for many threads.
class FreshChallenge {
 public:
  static constexpr std::size_t kMaxBatch = 256;

  // create makes room for any one of the layers. They must outlive it. batched: draw rho (use it
  // for Integrity::kBatched even when a batch happens to have one image). kInvalidArgument for
  // max_batch above kMaxBatch, above 1 unless batched, or for soundness out of reach.
  [[nodiscard]] static Result<FreshChallenge> create(std::span<const CheckedLayer> layers,
                                                     std::size_t max_batch, bool batched,
                                                     const ChallengeOptions& options,
                                                     const Kernels& kernels);

  // draw takes a new challenge for `batch` images of layers[index] (1..max_batch; 1 unless batched)
  // and folds the layer's weights with it: k multiplications a weight.
  void draw(std::size_t index, std::size_t batch, Random& random) noexcept;

  [[nodiscard]] OutputChallenge output() const noexcept { return output_; }

  // input_rows adds the input side of rows [first, first + count) of the input tensor (h rows of
  // w*c codes). images[b] is the start of image b's codes (element 0 of the tensor). Rows in any
  // order, each once. scratch: scratch_words() words of trusted memory, one piece a thread.
  void input_rows(std::size_t first, std::size_t count, std::span<const std::uint8_t* const> images,
                  std::span<std::uint32_t> scratch, Residues& sum) const noexcept;
  [[nodiscard]] std::size_t scratch_words() const noexcept { return 2 * row_words_; }

  // difference is zero in every repetition for right answers. outputs: one sum an image.
  [[nodiscard]] Residues difference(std::span<const OutputSum> outputs,
                                    const Residues& input_sum) const noexcept;

  // bits is for the largest d of the layers and one try.
  [[nodiscard]] double bits() const noexcept { return bits_; }

 private:
  FreshChallenge() = default;
  void mix(std::size_t repetition, std::size_t at, std::span<const std::uint8_t* const> images,
           std::span<std::uint32_t> out) const noexcept;

  base::SecretArena arena_;
  LayerChallenge challenge_;
  OutputChallenge output_;
  std::span<std::uint32_t> rho_;  // [repetition][max_batch_]
  std::span<Residues> constant_;  // one: times the sum of all rho
  struct Layer {
    CheckedLayer asked;
    Transpose transpose;
  };
  std::vector<Layer> layers_;
  const Kernels* kernels_ = nullptr;
  std::size_t current_ = 0;
  std::size_t batch_ = 1;
  std::size_t max_batch_ = 1;
  std::size_t row_words_ = 0;
  std::uint32_t range_ = kChallengeRange;
  double bits_ = 0;
  bool batched_ = false;
};

// Verdict is the end of an inference (batched: of a micro-batch): differences of every check go in,
// one bool comes out, once. Nothing else may learn anything of a difference, not even which layer
// or repetition failed. One thread.
class Verdict {
 public:
  // add takes one layer's difference and its `bad` flag (of batched forms: of every image).
  void add(const Residues& difference, std::uint32_t bad) noexcept;
  // checks is how many differences went in: compare it with the number of remote layers before
  // trusting the answer, so that a check that was never made cannot pass.
  [[nodiscard]] std::uint64_t checks() const noexcept { return checks_; }

  // take_verdict declassifies: true if every difference was zero and no word was bad. The only
  // place where anything of a check leaves secrecy. A Verdict with no check is never true.
  [[nodiscard]] bool take_verdict() && noexcept;

 private:
  std::uint32_t wrong_ = 0;
  std::uint64_t checks_ = 0;
};

}  // namespace slalom::field
