// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/arena.h"
#include "base/round_up.h"
#include "field/challenge.h"
#include "field/random.h"
#include "runtime/setup.h"
#include "slalom/result.h"

namespace slalom::runtime {

// Checks holds the challenges of one executor in the form that it was made for (model::Integrity)
// and turns sums into differences. Links are numbered as in Program::links.
//
//   preprocessed  one immutable set; each micro-batch keeps the set that it began with
//   plain         a fresh challenge for each answer: one for each image of the micro-batch at hand
//   batched       one fresh challenge for the micro-batch at hand
//
// In the fresh forms a challenge lives from begin_answer to finish_answer, on one answer at a time.
// One thread, except where it says otherwise.
class Checks {
 public:
  // tries: devices times verdicts in flight. random: null for the system's generator. setup and
  // random must outlive the checks.
  [[nodiscard]] static Result<std::unique_ptr<Checks>> create(Setup& setup, std::size_t tries,
                                                              field::Random* random);

  using Set = std::shared_ptr<const field::ChallengeSet>;
  // set is what new work begins with; null in the other forms, and after retire until renew.
  [[nodiscard]] const Set& set() const noexcept { return set_; }
  // retire drops the set after a rejection; renew makes a fresh one if there is none.
  void retire() noexcept { set_.reset(); }
  [[nodiscard]] Status renew();

  // begin_answer draws what the answer to one link over `images` images will be checked with.
  void begin_answer(std::uint32_t link, std::size_t images) noexcept;
  // output is the challenge for one image's answer. Any thread.
  [[nodiscard]] field::OutputChallenge output(const field::ChallengeSet* set, std::uint32_t link,
                                              std::size_t image) const noexcept;
  // finish_answer adds every check of one link to the verdict. outputs: one sum an image; inputs:
  // one sum an image (preprocessed); codes: one pointer an image to the layer's input (fresh
  // forms).
  void finish_answer(const field::ChallengeSet* set, std::uint32_t link,
                     std::span<const field::OutputSum> outputs,
                     std::span<const field::Residues> inputs,
                     std::span<const std::uint8_t* const> codes, field::Verdict& verdict) noexcept;

  // expected is how many checks a verdict over `images` images must hold.
  [[nodiscard]] std::uint64_t expected(std::size_t images) const noexcept {
    return setup_.program.links.size() * base::div_up(images, images_each_);
  }
  // bits is what a verdict is worth: -log2 of the probability that a wrong answer leaves, over all
  // tries; 0 with integrity off.
  [[nodiscard]] double bits() const noexcept { return bits_; }

 private:
  explicit Checks(Setup& setup) : setup_(setup) {}
  Status prepare(field::Random* random);
  Status prepare_fresh();
  // input_sum is the input side of one fresh challenge over the images that it covers.
  [[nodiscard]] field::Residues input_sum(const field::FreshChallenge& challenge,
                                          std::uint32_t link,
                                          std::span<const std::uint8_t* const> codes) noexcept;

  Setup& setup_;
  field::ChallengeOptions options_;
  std::unique_ptr<field::Random> own_random_;
  field::Random* random_ = nullptr;
  std::vector<field::CheckedLayer> layers_;
  Set set_;
  std::size_t images_each_ = 1;               // images that one challenge covers
  std::vector<field::FreshChallenge> fresh_;  // plain: one an image; batched: one
  base::SecretArena scratch_;
  std::vector<std::span<std::uint32_t>> worker_scratch_;
  std::span<field::Residues> worker_sums_;
  double bits_ = 0;
};

}  // namespace slalom::runtime
