// SPDX-License-Identifier: Apache-2.0
// GraphBuilder writes the float graphs of the zoo as fold() would leave them: types and shapes
// known, batch normalisation already in the weights.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "importer/graph.h"
#include "importer/zoo.h"

namespace slalom::importer {

// Random is a stream of numbers that depend on the seed alone (splitmix64, Steele et al. 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() noexcept;
  // uniform in [0, 1).
  double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // normal has mean 0 and deviation 1: eight uniform numbers added, which needs no libm and looks
  // normal up to 4.9 deviations, where it ends.
  float normal() noexcept;

 private:
  std::uint64_t state_;
};

// Kernel is the geometry of a convolution or pooling.
struct Kernel {
  std::int64_t h = 1, w = 1;
  std::int64_t stride = 1;
  std::int64_t pad_h = 0, pad_w = 0;
};
// square is a k x k kernel.
constexpr Kernel square(std::int64_t k, std::int64_t stride = 1, std::int64_t pad = 0) {
  return {k, k, stride, pad, pad};
}

// Every method appends nodes and returns the value they make. Throws Failure if a shape becomes
// impossible (the input is too small).
class GraphBuilder {
 public:
  GraphBuilder(std::string_view name, const ZooOptions& options, std::int64_t input_size);

  [[nodiscard]] ValueId input() const { return graph_.inputs[0]; }
  [[nodiscard]] std::int64_t channels(ValueId id) const { return graph_.value(id).shape[1]; }

  ValueId conv(ValueId x, std::int64_t out, const Kernel& kernel, std::int64_t groups = 1);
  // fully connected layer; a feature map is flattened first.
  ValueId dense(ValueId x, std::int64_t out);
  ValueId relu(ValueId x) { return node("Relu", {x}); }
  ValueId relu6(ValueId x);
  ValueId add(ValueId a, ValueId b) { return node("Add", {a, b}); }
  ValueId concat(std::vector<ValueId> parts);
  ValueId max_pool(ValueId x, const Kernel& kernel);
  ValueId average_pool(ValueId x, const Kernel& kernel);
  ValueId global_average(ValueId x) { return node("GlobalAveragePool", {x}); }
  ValueId softmax(ValueId x) { return node("Softmax", {x}, {{"axis", std::int64_t{-1}}}); }

  Graph finish(ValueId output);

 private:
  using Attributes = std::map<std::string, Attribute, std::less<>>;
  ValueId node(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {});
  ValueId weights(std::string_view what, Shape shape, std::int64_t fan_in);
  static Attributes window(const Kernel& kernel);

  Graph graph_;
  Random random_;
  std::size_t layers_ = 0;
};

// The architectures; `top` adds the classifier.
Graph make_vgg(std::string_view name, int depth, const ZooOptions& options);
Graph make_resnet(std::string_view name, int depth, const ZooOptions& options);
Graph make_mobilenet(std::string_view name, bool separable, const ZooOptions& options);
Graph make_inception_v3(std::string_view name, const ZooOptions& options);

// normalise rescales the layers of a graph one after the other on a sample, so that the outputs of
// each have, channel by channel, a mean near 0 and a deviation near 1, with some seeded variety as
// trained batch normalisation has. Throws Failure.
void normalise(Graph& graph, const Tensor& sample, std::uint64_t seed, const Progress& progress);

}  // namespace slalom::importer
