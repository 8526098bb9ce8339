// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "importer/fold.h"
#include "importer/interpreter.h"
#include "importer/model_builder.h"
#include "importer/onnx_reader.h"

// What the tests of folding share: each folds a small network, looks at what is left of it, and
// compares what it computes with what it computed before. The interpreter itself is tested against
// ONNX's own expectations.

namespace slalom::importer {

using testing::ModelBuilder;
using testing::set_float;
using testing::set_int;
using testing::set_ints;
using testing::set_string;

inline std::vector<float> random_floats(std::size_t count, unsigned seed, float low = -1.0F) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(low, 1.0F);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(generator);
  return values;
}

inline Graph parsed(const ModelBuilder& builder) {
  auto graph = parse_onnx(builder.bytes());
  if (!graph) ADD_FAILURE() << graph.error().message();
  return graph ? std::move(graph).value() : Graph{};
}

inline Graph folded(const ModelBuilder& builder, const FoldOptions& options = {}) {
  auto graph = fold(parsed(builder), options);
  if (!graph) ADD_FAILURE() << graph.error().message();
  return graph ? std::move(graph).value() : Graph{};
}

inline std::string fold_error(const ModelBuilder& builder, const FoldOptions& options = {}) {
  const auto graph = fold(parsed(builder), options);
  return graph ? "no error" : graph.error().message();
}

inline std::vector<std::string> ops(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) names.push_back(node.op);
  return names;
}

using Ops = std::vector<std::string>;

inline std::vector<Tensor> outputs_of(const Graph& graph, const Tensor& x) {
  const auto result = run(graph, std::span(&x, 1));
  if (!result) ADD_FAILURE() << result.error().message();
  return result ? result.value() : std::vector<Tensor>{};
}

// expect_same compares the first outputs within float rounding, relative to the largest element.
inline void expect_close(const Tensor& found, const Tensor& expected) {
  ASSERT_EQ(found.shape(), expected.shape());
  const auto x = found.view<float>();
  const auto y = expected.view<float>();
  float largest = 1e-6F;
  for (const float value : y) largest = std::max(largest, std::fabs(value));
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 2e-6F * largest) << i;
}

// check_equivalent runs a network whose input is [batch, dims...] before and after folding. A
// network that fixes its batch at 1 is run image by image before.
inline void check_equivalent(const ModelBuilder& builder, const Graph& after, Shape dims) {
  const Graph before = parsed(builder);
  dims.insert(dims.begin(), 3);
  const Tensor x =
      Tensor::of(dims, random_floats(static_cast<std::size_t>(element_count(dims)), 99, -4.0F));
  const auto found = outputs_of(after, x);
  ASSERT_FALSE(found.empty());
  if (before.value(before.inputs[0]).shape[0] < 0) {
    const auto expected = outputs_of(before, x);
    ASSERT_FALSE(expected.empty());
    return expect_close(found[0], expected[0]);
  }
  std::vector<float> all;
  Shape shape;
  const std::size_t image = x.size() / 3;
  dims[0] = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    const Tensor one = Tensor::of(dims, x.view<float>().subspan(i * image, image));
    const auto part = outputs_of(before, one);
    ASSERT_FALSE(part.empty());
    const auto view = part[0].view<float>();
    all.insert(all.end(), view.begin(), view.end());
    shape = part[0].shape();
  }
  shape[0] *= 3;
  expect_close(found[0], Tensor::of(shape, all));
}

}  // namespace slalom::importer
