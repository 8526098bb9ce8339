// SPDX-License-Identifier: Apache-2.0
// Every operator that a plan can express, quantised and compared with the float interpreter.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "importer/graph_maker.h"
#include "importer/interpreter.h"
#include "importer/quantise.h"
#include "importer/quantise_op_cases.h"
#include "importer/reference.h"

namespace slalom::importer {
namespace {

using testing::GraphMaker;
using testing::image;
using testing::Ints;
using testing::kOne;
using testing::normal_samples;
using testing::QuantiseCase;

// decoded runs the plan on a sample and returns its first output in the float graph's order.
std::vector<float> decoded(const model::Plan& plan, const Graph& graph, const Sample& sample) {
  const auto channels_last = [](const Shape& s) {
    return s.size() == 4 ? std::array<std::int64_t, 3>{s[1], s[2], s[3]}
                         : std::array<std::int64_t, 3>{0, 0, 0};
  };
  std::vector<Codes> inputs;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const auto values = sample[i].view<float>();
    std::vector<float> reals(values.begin(), values.end());
    const auto [c, h, w] = channels_last(sample[i].shape());
    const model::TensorInfo& info = plan.tensors[plan.inputs[i]];
    if (c != 0 && info.shape.c == c && !(info.shape.h == c && info.shape.w == h)) {
      for (std::size_t j = 0; j < reals.size(); ++j) {
        reals[j % std::size_t(h * w) * std::size_t(c) + j / std::size_t(h * w)] = values[j];
      }
    } else if (sample[i].rank() == 3 && info.shape.w == sample[i].shape()[2] &&
               info.shape.c == sample[i].shape()[1] && c == 0) {
      ADD_FAILURE() << "inputs of rank 3 keep their order";
    }
    inputs.push_back(encode_reals(info, reals));
  }
  const model::TensorInfo& info = plan.tensors[plan.outputs[0].tensor];
  const std::vector<float> reals = decode_reals(info, run_reference(plan, inputs)[0]);
  std::vector<float> ordered = reals;
  const auto [c, h, w] = channels_last(graph.value(graph.outputs[0]).shape);
  if (c != 0 && info.shape.c == c && info.shape.h == h && info.shape.w == w) {
    for (std::size_t j = 0; j < reals.size(); ++j) {
      ordered[j] = reals[j % std::size_t(h * w) * std::size_t(c) + j / std::size_t(h * w)];
    }
  }
  return ordered;
}

class QuantiseOps : public ::testing::TestWithParam<QuantiseCase> {};

TEST_P(QuantiseOps, StaysCloseToFloat) {
  const QuantiseCase& one = GetParam();
  for (const unsigned seed : {1U, 2U}) {
    GraphMaker g(seed);
    const ValueId out = one.build(g);
    const Graph graph = g.finish({out});
    QuantiseOptions options;
    options.calibrator = Calibrator::kMinMax;
    const auto result = quantise(graph, normal_samples(8), options);
    ASSERT_TRUE(result.ok()) << result.error().message();
    const model::Plan& plan = result.value().plan;
    ASSERT_TRUE(model::validate(plan).ok());
    // An independent sample, not among those of the calibration; its tails may be cut.
    double signal = 0.0;
    double noise = 0.0;
    for (std::size_t i = 0; i < 8; ++i) {
      const Sample sample = normal_samples(8).get(input_info(graph), i).value();
      const auto expected = run(graph, sample);
      ASSERT_TRUE(expected.ok());
      const auto reals = expected.value()[0].view<float>();
      const std::vector<float> found = decoded(plan, graph, sample);
      ASSERT_EQ(found.size(), reals.size());
      for (std::size_t j = 0; j < found.size(); ++j) {
        signal += double{reals[j]} * reals[j];
        noise += (double{found[j]} - reals[j]) * (double{found[j]} - reals[j]);
      }
    }
    EXPECT_GT(signal, 0.0);
    EXPECT_GE(10.0 * std::log10(signal / noise), one.least_snr_db) << "seed " << seed;
  }
}

std::vector<QuantiseCase> all_cases() {
  std::vector<QuantiseCase> all;
  for (const auto some : {testing::arithmetic_cases(), testing::shape_cases()}) {
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, QuantiseOps, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return std::string(test.param.name); });

// An output is called what the file calls it, also where it is another view of a tensor or was
// moved.
TEST(QuantiseOutputs, KeepTheirNames) {
  GraphMaker g;
  const ValueId x = g.conv(image(g), {});
  const ValueId flat = g.node("Flatten", {g.conv(x, {.out = 3})}, {{"axis", kOne}});
  const ValueId turned = g.node("Transpose", {x}, {{"perm", Ints{0, 1, 3, 2}}});
  const ValueId pooled = g.node("Flatten", {g.node("GlobalAveragePool", {x})}, {{"axis", kOne}});
  const Graph graph = g.finish({flat, turned, pooled});
  const auto quantised = quantise(graph, normal_samples(2));
  ASSERT_TRUE(quantised.ok());
  const model::Plan& plan = quantised.value().plan;
  ASSERT_EQ(plan.outputs.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(plan.tensors[plan.outputs[i].tensor].name, graph.value(graph.outputs[i]).name) << i;
  }
}

}  // namespace
}  // namespace slalom::importer
