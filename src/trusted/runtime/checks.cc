// SPDX-License-Identifier: Apache-2.0
#include "runtime/checks.h"

#include <algorithm>
#include <cmath>

namespace slalom::runtime {
namespace {

constexpr std::size_t kRowElements = 16'384;  // of the input side in one task

}  // namespace

Result<std::unique_ptr<Checks>> Checks::create(Setup& setup, std::size_t tries,
                                               field::Random* random) {
  std::unique_ptr<Checks> checks(new Checks(setup));
  checks->options_ = {.soundness_bits = setup.options.soundness_bits, .tries = tries};
  if (setup.options.integrity != model::Integrity::kOff && !setup.program.links.empty()) {
    SLALOM_TRY(checks->prepare(random));
  }
  return checks;
}

Status Checks::prepare(field::Random* random) {
  if (random == nullptr) {
    auto made = field::make_system_random(setup_.options.cpu);
    if (!made) return made.error();
    own_random_ = std::move(*made);
  }
  random_ = random != nullptr ? random : own_random_.get();
  std::vector<std::uint32_t> nodes;
  for (const Link& link : setup_.program.links) nodes.push_back(link.node);
  auto layers = field::checked_layers(setup_.plan, nodes, setup_.input_form());
  if (!layers) return layers.error();
  layers_ = std::move(*layers);
  SLALOM_TRY(setup_.input_side_first() ? renew() : prepare_fresh());
  bits_ = (set_ != nullptr ? set_->bits() : fresh_.front().bits()) -
          std::log2(static_cast<double>(options_.tries));
  return {};
}

Status Checks::renew() {
  if (!setup_.input_side_first() || set_ != nullptr) return {};
  auto set = field::ChallengeSet::create(layers_, options_, setup_.kernels, *random_);
  if (!set) return set.error();
  set_ = std::move(*set);
  return {};
}

Status Checks::prepare_fresh() {
  const bool batched = setup_.options.integrity == model::Integrity::kBatched;
  if (batched) images_each_ = setup_.options.micro_batch;
  for (std::size_t i = 0; i < setup_.options.micro_batch; i += images_each_) {
    auto challenge =
        field::FreshChallenge::create(layers_, images_each_, batched, options_, setup_.kernels);
    if (!challenge) return challenge.error();
    fresh_.push_back(std::move(*challenge));
  }
  const std::size_t words = fresh_.front().scratch_words();
  const std::size_t workers = setup_.pool.size();
  using base::SecretArena;
  auto arena = SecretArena::create(workers * SecretArena::bytes_for<std::uint32_t>(words) +
                                       SecretArena::bytes_for<field::Residues>(workers),
                                   base::Lock::kWhereAllowed);
  if (!arena) return arena.error();
  scratch_ = std::move(*arena);
  for (std::size_t i = 0; i < workers; ++i) {
    worker_scratch_.push_back(scratch_.take<std::uint32_t>(words));
  }
  worker_sums_ = scratch_.take<field::Residues>(workers);
  return {};
}

void Checks::begin_answer(std::uint32_t link, std::size_t images) noexcept {
  for (std::size_t i = 0; i < fresh_.size() && i * images_each_ < images; ++i) {
    fresh_[i].draw(link, std::min(images_each_, images - i * images_each_), *random_);
  }
}

field::OutputChallenge Checks::output(const field::ChallengeSet* set, std::uint32_t link,
                                      std::size_t image) const noexcept {
  if (set != nullptr) return set->layers()[link].output;
  if (fresh_.empty()) return {};
  return fresh_[image / images_each_].output();
}

field::Residues Checks::input_sum(const field::FreshChallenge& challenge, std::uint32_t link,
                                  std::span<const std::uint8_t* const> codes) noexcept {
  const field::Field f = setup_.program.links[link].field;
  const model::Shape& in = layers_[link].linear->in();
  const std::size_t row = std::size_t{in.w} * in.c;
  const std::size_t rows = std::clamp<std::size_t>(kRowElements / row, 1, in.h);
  std::fill(worker_sums_.begin(), worker_sums_.end(), field::Residues{});
  setup_.pool.parallel_for(base::div_up(in.h, rows), [&](std::size_t task, std::size_t worker) {
    const std::size_t first = task * rows;
    field::Residues sum;
    challenge.input_rows(first, std::min<std::size_t>(rows, in.h - first), codes,
                         worker_scratch_[worker], sum);
    field::merge(f, worker_sums_[worker], sum);
  });
  field::Residues total;
  for (const field::Residues& sum : worker_sums_) field::merge(f, total, sum);
  return total;
}

void Checks::finish_answer(const field::ChallengeSet* set, std::uint32_t link,
                           std::span<const field::OutputSum> outputs,
                           std::span<const field::Residues> inputs,
                           std::span<const std::uint8_t* const> codes,
                           field::Verdict& verdict) noexcept {
  for (std::size_t first = 0; first < outputs.size(); first += images_each_) {
    const auto sums = outputs.subspan(first, std::min(images_each_, outputs.size() - first));
    std::uint32_t bad = 0;
    for (const field::OutputSum& sum : sums) bad |= sum.bad;
    field::Residues difference;
    if (set != nullptr) {
      difference = set->layers()[link].difference(sums.front(), inputs[first]);
    } else if (!fresh_.empty()) {
      const field::FreshChallenge& challenge = fresh_[first / images_each_];
      difference =
          challenge.difference(sums, input_sum(challenge, link, codes.subspan(first, sums.size())));
    }
    verdict.add(difference, bad);
  }
}

}  // namespace slalom::runtime
