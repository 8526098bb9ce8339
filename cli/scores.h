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

// scores are what a person wants to see of an output: probabilities where the network ends in a
// softmax (or its logarithm), else the real values themselves.
std::vector<double> scores(const model::Plan& plan, std::size_t output,
                           std::span<const std::int32_t> codes);
// is_probability says which of the two.
bool is_probability(const model::Plan& plan, std::size_t output) noexcept;

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
