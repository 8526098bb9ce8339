// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "importer/graph.h"
#include "importer/ops/op.h"
#include "importer/quantise.h"

// Small float graphs for tests of the quantiser, typed as fold() types them.

namespace slalom::importer::testing {

class GraphMaker {
 public:
  using Attributes = std::map<std::string, Attribute, std::less<>>;

  explicit GraphMaker(unsigned seed = 1, std::int64_t opset = 17) : random_(seed), opset_(opset) {
    graph_.name = "test";
    graph_.opset = opset;
  }

  ValueId input(Shape shape, DType dtype = DType::kFloat32) {
    const ValueId id = typed("input", {.dtype = dtype, .shape = std::move(shape)});
    graph_.inputs.push_back(id);
    return id;
  }
  template <class T>
  ValueId constant(Shape shape, const std::vector<T>& values) {
    return graph_.add_initialiser("constant", Tensor::of(std::move(shape), values));
  }
  ValueId ints(const std::vector<std::int64_t>& values) {
    return constant(Shape{static_cast<std::int64_t>(values.size())}, values);
  }
  ValueId scalar(float value) { return graph_.add_initialiser("constant", Tensor::scalar(value)); }
  // normal constants with a mean and a deviation
  ValueId random(Shape shape, float deviation = 1.0F, float mean = 0.0F) {
    std::normal_distribution<float> draw(mean, deviation);
    Tensor tensor(DType::kFloat32, std::move(shape));
    for (float& v : tensor.view<float>()) v = draw(random_);
    return graph_.add_initialiser("constant", std::move(tensor));
  }

  std::vector<ValueId> nodes(std::string_view op, std::vector<ValueId> inputs,
                             Attributes attributes = {}, std::size_t outputs = 1) {
    Node node;
    node.op = op;
    node.name = std::string(op) + "_" + std::to_string(graph_.nodes.size());
    node.opset = opset_;
    node.inputs = std::move(inputs);
    node.attributes = std::move(attributes);
    std::vector<OpInput> known;
    for (const ValueId id : node.inputs) {
      if (id == kNoValue) {
        known.emplace_back();
        continue;
      }
      const Value& value = graph_.value(id);
      known.push_back({.present = true,
                       .type = {.dtype = value.dtype, .shape = value.shape},
                       .data = graph_.constant(id)});
    }
    node.outputs.assign(outputs, 0);
    const auto types = infer_types(node, known, std::int64_t{1} << 30);
    for (std::size_t i = 0; i < outputs; ++i) node.outputs[i] = typed(node.name, types[i]);
    graph_.nodes.push_back(node);
    return node.outputs;
  }
  ValueId node(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return nodes(op, std::move(inputs), std::move(attributes))[0];
  }

  struct Conv {
    std::int64_t out = 8;
    std::int64_t kernel = 3;
    std::int64_t stride = 1;
    std::int64_t dilation = 1;
    std::vector<std::int64_t> pads = {1, 1, 1, 1};
    std::int64_t group = 1;
  };
  ValueId conv(ValueId x, const Conv& c) {
    const std::int64_t in = graph_.value(x).shape[1] / c.group;
    const float deviation = std::sqrt(2.0F / static_cast<float>(in * c.kernel * c.kernel));
    return node("Conv",
                {x, random({c.out, in, c.kernel, c.kernel}, deviation), random({c.out}, 0.2F)},
                {{"kernel_shape", std::vector<std::int64_t>{c.kernel, c.kernel}},
                 {"strides", std::vector<std::int64_t>{c.stride, c.stride}},
                 {"dilations", std::vector<std::int64_t>{c.dilation, c.dilation}},
                 {"pads", c.pads},
                 {"group", c.group}});
  }
  ValueId depthwise(ValueId x) {
    const std::int64_t channels = graph_.value(x).shape[1];
    return conv(x, {.out = channels, .group = channels});
  }
  ValueId point(ValueId x, std::int64_t out) {
    return conv(x, {.out = out, .kernel = 1, .pads = {0, 0, 0, 0}});
  }
  ValueId gemm(ValueId x, std::int64_t out) {
    const std::int64_t in = graph_.value(x).shape[1];
    return node(
        "Gemm",
        {x, random({in, out}, std::sqrt(2.0F / static_cast<float>(in))), random({out}, 0.2F)},
        {{"transB", std::int64_t{0}}});
  }

  Graph finish(std::vector<ValueId> outputs) {
    graph_.outputs = std::move(outputs);
    return graph_;
  }
  Graph& graph() { return graph_; }

 private:
  ValueId typed(const std::string& name, const TensorType& type) {
    const ValueId id = graph_.add_value(name);
    Value& value = graph_.value(id);
    value.typed = true;
    value.dtype = type.dtype;
    value.shape = type.shape;
    value.batch_axis = 0;
    return id;
  }

  Graph graph_;
  std::mt19937 random_;
  std::int64_t opset_;
};

// normal_samples are inputs of deviation 1 (float inputs) or codes (8-bit ones).
inline SampleSource normal_samples(std::size_t count, unsigned seed = 7) {
  return {
      .count = count,
      .get = [seed](std::span<const InputInfo> inputs, std::size_t index) -> ImportResult<Sample> {
        std::mt19937 random(seed + static_cast<unsigned>(index));
        std::normal_distribution<float> draw;
        Sample sample;
        for (const InputInfo& info : inputs) {
          Tensor tensor(info.dtype, info.shape);
          if (info.dtype == DType::kFloat32) {
            for (float& v : tensor.view<float>()) v = draw(random);
          } else {
            for (std::byte& b : tensor.bytes()) b = static_cast<std::byte>(random());
          }
          sample.push_back(std::move(tensor));
        }
        return sample;
      }};
}

}  // namespace slalom::importer::testing
