// SPDX-License-Identifier: Apache-2.0
#include "importer/zoo.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "importer/interpreter.h"
#include "importer/quantise.h"
#include "importer/reference.h"

namespace slalom::importer {
namespace {

std::uint32_t small_size(std::string_view name) { return name == "inception_v3" ? 107 : 64; }

ImportResult<Quantised> make(std::string_view name, const ZooOptions& options) {
  auto graph = zoo_graph(name, options);
  if (!graph.ok()) return graph.error();
  return quantise(graph.value(), zoo_samples(options.seed, 2), zoo_quantise_options());
}

class Zoo : public ::testing::TestWithParam<std::string_view> {};

// Nothing saturates and nothing dies: in every 8-bit tensor many codes are used, few elements sit
// at the ends of the range except for the zeros of a Relu, and two inputs give different outputs.
TEST_P(Zoo, ActivationsAreAlive) {
  const ZooOptions options{.input_size = small_size(GetParam()), .classes = 10};
  auto result = make(GetParam(), options);
  ASSERT_TRUE(result.ok()) << result.error().message();
  const model::Plan& plan = result.value().plan;
  ASSERT_TRUE(model::validate(plan).ok());
  EXPECT_EQ(plan.name, GetParam());
  EXPECT_EQ(plan.tensors[plan.outputs[0].tensor].shape, (model::Shape{1, 1, 10}));
  EXPECT_EQ(plan.tensors[plan.outputs[0].tensor].dtype, model::Dtype::kI32);
  EXPECT_EQ(plan.outputs[0].function, model::Final::kSoftmax);
  std::vector<Codes> outputs;
  for (std::int32_t shift : {0, 1}) {
    const model::TensorInfo& info = plan.tensors[plan.inputs[0]];
    Codes input(info.shape.elements());
    for (std::size_t i = 0; i < input.size(); ++i) {
      input[i] = static_cast<std::int32_t>((i * 7919 + i / 96 * 31) >> (3 + shift)) & 255;
    }
    outputs.push_back(
        run_reference(plan, std::vector<Codes>{input},
                      [&](model::TensorId id, std::span<const std::int32_t> codes) {
                        const model::TensorInfo& tensor = plan.tensors[id];
                        if (tensor.dtype != model::Dtype::kU8 || codes.size() < 256) return;
                        const std::set<std::int32_t> used(codes.begin(), codes.end());
                        const auto top = std::count(codes.begin(), codes.end(), 255);
                        EXPECT_GE(used.size(), 24U) << tensor.name;
                        EXPECT_LE(static_cast<double>(top), 0.2 * static_cast<double>(codes.size()))
                            << tensor.name;
                      })[0]);
  }
  EXPECT_NE(outputs[0], outputs[1]);
}

TEST_P(Zoo, NoTopEndsWithAFeatureMap) {
  const ZooOptions options{.input_size = small_size(GetParam()), .top = false};
  auto graph = zoo_graph(GetParam(), options);
  ASSERT_TRUE(graph.ok()) << graph.error().message();
  const Shape& shape = graph.value().value(graph.value().outputs[0]).shape;
  ASSERT_EQ(shape.size(), 4U);
  EXPECT_GE(shape[1], 512);
  for (const Node& node : graph.value().nodes) {
    EXPECT_NE(node.op, "Gemm");
    EXPECT_NE(node.op, "Softmax");
  }
}

INSTANTIATE_TEST_SUITE_P(All, Zoo, ::testing::ValuesIn(zoo_names().begin(), zoo_names().end()),
                         [](const auto& test) { return std::string(test.param); });

// Sizes that the literature gives: parameters (weights and biases) and multiplications at the
// architecture's own input size; the zoo's convolutions have a bias where batch normalisation was.
TEST(ZooSizes, AreThoseOfTheArchitectures) {
  struct Size {
    std::string_view name;
    double weights_m;
  };
  // Without biases: torchvision and Keras parameter counts less biases and normalisation.
  for (const Size& size :
       {Size{"vgg16", 138.34}, Size{"vgg19", 143.65}, Size{"mobilenet", 4.21},
        Size{"resnet18", 11.68}, Size{"resnet50", 25.50}, Size{"inception_v3", 23.80}}) {
    // Shapes do not depend on the input except behind a flattened feature map.
    const bool vgg = size.name.starts_with("vgg");
    const ZooOptions options{.input_size = vgg ? 64U : small_size(size.name)};
    auto graph = zoo_graph(size.name, options);
    ASSERT_TRUE(graph.ok());
    double weights = vgg ? 4096.0 * 512.0 * (7 * 7 - 2 * 2) : 0.0;
    for (const auto& [id, tensor] : graph.value().initialisers) {
      if (tensor.rank() > 1) weights += static_cast<double>(tensor.size());
    }
    EXPECT_NEAR(weights / 1e6, size.weights_m, 0.01) << size.name;
  }
}

TEST(ZooSeparable, PairsBecomeOneLayer) {
  auto result = make("mobilenet_sep", {.input_size = 64, .classes = 10});
  ASSERT_TRUE(result.ok());
  std::size_t pairs = 0;
  for (const model::Node& node : result.value().plan.nodes) {
    const auto* linear = std::get_if<model::Linear>(&node.op);
    if (linear != nullptr && linear->stages.size() == 2) {
      ++pairs;
      EXPECT_TRUE(linear->field.has_value()) << node.name;
    }
  }
  EXPECT_EQ(pairs, 13U);
}

TEST(ZooSeed, DecidesTheWeights) {
  const auto bytes = [](std::uint64_t seed) {
    auto result = make("mobilenet", {.input_size = 32, .classes = 10, .seed = seed});
    return model::encode_plan(result.value().plan);
  };
  EXPECT_EQ(bytes(1), bytes(1));
  EXPECT_NE(bytes(1), bytes(2));
}

TEST(ZooErrors, SayWhatIsWrong) {
  EXPECT_NE(zoo_graph("alexnet").error().what.find("inception_v3"), std::string::npos);
  EXPECT_FALSE(zoo_graph("inception_v3", {.input_size = 20}).ok());
  EXPECT_FALSE(zoo_graph("vgg16", {.input_size = 16}).ok());
  EXPECT_FALSE(zoo_graph("resnet18", {.classes = 0}).ok());
  EXPECT_FALSE(zoo_graph("resnet18", {.input_size = 100000}).ok());
}

}  // namespace
}  // namespace slalom::importer
