// SPDX-License-Identifier: Apache-2.0
#include "runtime/checks.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "base/checked.h"

namespace slalom::runtime {
namespace {

constexpr std::size_t kRowElements = 16'384;  // of the input side in one task

}  // namespace

Result<std::unique_ptr<Checks>> Checks::create(const model::Plan& plan, const Program& program,
                                               const Options& options,
                                               const field::Kernels& kernels,
                                               base::ThreadPool& pool, field::Random* random) {
  std::unique_ptr<Checks> checks(new Checks(plan, program, options, kernels, pool));
  if (options.integrity != model::Integrity::kOff && !program.links.empty()) {
    SLALOM_TRY(checks->prepare(random));
  }
  return checks;
}

Status Checks::prepare(field::Random* random) {
  if (random == nullptr) {
    auto made = field::make_system_random(options_.cpu);
    if (!made) return made.error();
    own_random_ = std::move(*made);
  }
  random_ = random != nullptr ? random : own_random_.get();
  std::vector<std::uint32_t> nodes;
  for (const Link& link : program_.links) nodes.push_back(link.node);
  auto layers = field::checked_layers(plan_, nodes, options_.form);
  if (!layers) return layers.error();
  layers_ = std::move(*layers);
  if (input_side_first()) {
    SLALOM_TRY(renew());
    bits_ = set_->bits();
  } else {
    SLALOM_TRY(prepare_fresh());
    bits_ = fresh_.front().bits();
  }
  bits_ -= std::log2(static_cast<double>(options_.challenge.tries));
  return {};
}

Status Checks::renew() {
  if (!input_side_first()) return {};
  auto set = field::ChallengeSet::create(layers_, options_.challenge, kernels_, *random_);
  if (!set) return set.error();
  set_ = std::move(*set);
  return {};
}

Status Checks::prepare_fresh() {
  const std::size_t count = batched() ? 1 : options_.micro_batch;
  const std::size_t images = batched() ? options_.micro_batch : 1;
  std::size_t words = 0;
  for (std::size_t i = 0; i < count; ++i) {
    auto challenge =
        field::FreshChallenge::create(layers_, images, batched(), options_.challenge, kernels_);
    if (!challenge) return challenge.error();
    words = challenge->scratch_words();
    fresh_.push_back(std::move(*challenge));
  }
  using base::SecretArena;
  const std::size_t bytes = pool_.size() * (SecretArena::bytes_for<std::uint32_t>(words) +
                                            SecretArena::bytes_for<field::Residues>(1));
  auto arena = SecretArena::create(bytes, base::Lock::kWhereAllowed);
  if (!arena) return arena.error();
  scratch_ = std::move(*arena);
  for (std::size_t i = 0; i < pool_.size(); ++i) {
    worker_scratch_.push_back(scratch_.take<std::uint32_t>(words));
  }
  worker_sums_ = scratch_.take<field::Residues>(pool_.size());
  return {};
}

void Checks::begin_answer(std::uint32_t link, std::size_t images) noexcept {
  if (!fresh()) return;
  if (batched()) {
    fresh_.front().draw(link, images, *random_);
    return;
  }
  for (std::size_t i = 0; i < images; ++i) fresh_[i].draw(link, 1, *random_);
}

field::OutputChallenge Checks::output(const field::ChallengeSet* set, std::uint32_t link,
                                      std::size_t image) const noexcept {
  if (set != nullptr) return set->layers()[link].output;
  if (!fresh()) return {};
  return fresh_[batched() ? 0 : image].output();
}

field::Residues Checks::input_sum(const field::FreshChallenge& challenge, std::uint32_t link,
                                  std::span<const std::uint8_t* const> codes) noexcept {
  const model::Shape& in = layers_[link].linear->in();
  const std::size_t row = std::size_t{in.w} * in.c;
  const std::size_t rows = std::clamp<std::size_t>(kRowElements / row, 1, in.h);
  std::fill(worker_sums_.begin(), worker_sums_.end(), field::Residues{});
  pool_.parallel_for(base::div_up(in.h, rows), [&](std::size_t task, std::size_t worker) {
    const std::size_t first = task * rows;
    field::Residues sum;
    challenge.input_rows(first, std::min<std::size_t>(rows, in.h - first), codes,
                         worker_scratch_[worker], sum);
    field::merge(program_.links[link].field, worker_sums_[worker], sum);
  });
  field::Residues total;
  for (const field::Residues& sum : worker_sums_) {
    field::merge(program_.links[link].field, total, sum);
  }
  return total;
}

void Checks::finish_answer(const field::ChallengeSet* set, std::uint32_t link,
                           std::span<const field::OutputSum> outputs,
                           std::span<const field::Residues> inputs,
                           std::span<const std::uint8_t* const> codes,
                           field::Verdict& verdict) noexcept {
  if (fresh() && batched()) {
    std::uint32_t bad = 0;
    for (const field::OutputSum& sum : outputs) bad |= sum.bad;
    const field::FreshChallenge& challenge = fresh_.front();
    verdict.add(challenge.difference(outputs, input_sum(challenge, link, codes)), bad);
    return;
  }
  for (std::size_t b = 0; b < outputs.size(); ++b) {
    field::Residues difference;
    if (set != nullptr) {
      difference = set->layers()[link].difference(outputs[b], inputs[b]);
    } else if (fresh()) {
      difference = fresh_[b].difference(outputs.subspan(b, 1),
                                        input_sum(fresh_[b], link, codes.subspan(b, 1)));
    }
    verdict.add(difference, outputs[b].bad);
  }
}

std::uint64_t Checks::expected(std::size_t images) const noexcept {
  return program_.links.size() * (fresh() && batched() ? 1 : images);
}

}  // namespace slalom::runtime
