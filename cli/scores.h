// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/plan.h"

namespace slalom::cli {

// real_values decodes an output of a plan: scale * (q - zero_point), in binary32.
std::vector<float> real_values(const model::TensorInfo& tensor,
                               std::span<const std::int32_t> codes);

// softmax in binary64, shifted by the largest value.
std::vector<double> softmax(std::span<const float> values);

// Scoring says how the first output of a network becomes scores.
enum class Scoring : std::uint8_t {
  kRaw,        // its real values
  kSoftmax,    // their softmax
  kAsTheyAre,  // they are probabilities already: the plan itself ends in a softmax
};

// scoring_of follows the plan: kSoftmax where the float original ended in a softmax (or its
// logarithm), or where the user wants one.
Scoring scoring_of(const model::Plan& plan, bool want_softmax) noexcept;

// scores of the codes of the first output.
std::vector<double> scores(const model::Plan& plan, Scoring scoring,
                           std::span<const std::int32_t> codes);

struct Ranked {
  std::size_t index = 0;
  double score = 0;
};
// top returns the k largest scores, largest first; the lower index first where they are equal.
std::vector<Ranked> top(std::span<const double> values, std::size_t k);

// label_of is the plan's label of a class, or "class 17".
std::string label_of(const model::Plan& plan, std::size_t index);

// is_classifier says whether the first output is one score for each of several classes.
bool is_classifier(const model::Plan& plan) noexcept;

}  // namespace slalom::cli
