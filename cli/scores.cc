// SPDX-License-Identifier: Apache-2.0
#include "cli/scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <variant>

namespace slalom::cli {

std::vector<float> real_values(const model::TensorInfo& tensor,
                               std::span<const std::int32_t> codes) {
  std::vector<float> out(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    // The difference is exact in binary32 for 8-bit codes; wide integers are rounded once more.
    out[i] = tensor.scale * static_cast<float>(codes[i] - tensor.zero_point);
  }
  return out;
}

std::vector<double> softmax(std::span<const float> values) {
  if (values.empty()) return {};
  const double largest = *std::max_element(values.begin(), values.end());
  std::vector<double> out(values.size());
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    out[i] = std::exp(static_cast<double>(values[i]) - largest);
    sum += out[i];
  }
  for (double& v : out) v /= sum;
  return out;
}

Scoring scoring_of(const model::Plan& plan, bool want_softmax) noexcept {
  if (plan.outputs[0].function != model::Final::kNone) return Scoring::kSoftmax;
  const auto made = std::find_if(plan.nodes.begin(), plan.nodes.end(), [&](const auto& node) {
    return node.output == plan.outputs[0].tensor;
  });
  if (made != plan.nodes.end() && std::holds_alternative<model::Softmax>(made->op)) {
    return Scoring::kAsTheyAre;
  }
  return want_softmax ? Scoring::kSoftmax : Scoring::kRaw;
}

std::vector<double> scores(const model::Plan& plan, Scoring scoring,
                           std::span<const std::int32_t> codes) {
  const std::vector<float> values = real_values(plan.tensors[plan.outputs[0].tensor], codes);
  if (scoring == Scoring::kSoftmax) return softmax(values);
  return {values.begin(), values.end()};
}

std::vector<Ranked> top(std::span<const double> values, std::size_t k) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  k = std::min(k, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(),
                    [&](std::size_t a, std::size_t b) {
                      return values[a] != values[b] ? values[a] > values[b] : a < b;
                    });
  std::vector<Ranked> out;
  for (std::size_t i = 0; i < k; ++i) out.push_back({order[i], values[order[i]]});
  return out;
}

std::string label_of(const model::Plan& plan, std::size_t index) {
  return index < plan.labels.size() ? plan.labels[index] : fmt::format("class {}", index);
}

bool is_classifier(const model::Plan& plan) noexcept {
  const model::Shape& shape = plan.tensors[plan.outputs[0].tensor].shape;
  return shape.positions() == 1 && shape.c > 1;
}

}  // namespace slalom::cli
