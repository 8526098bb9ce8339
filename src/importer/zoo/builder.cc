// SPDX-License-Identifier: Apache-2.0
#include "importer/zoo/builder.h"

#include <cmath>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

constexpr std::int64_t kOpset = 17;
constexpr std::int64_t kMaxTensorBytes = std::int64_t{4} << 30;

}  // namespace

std::uint64_t Random::next() noexcept {
  state_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

float Random::normal() noexcept {
  std::int32_t sum = 0;
  for (int draw = 0; draw < 2; ++draw) {
    const std::uint64_t bits = next();
    for (int piece = 0; piece < 4; ++piece) {
      sum += static_cast<std::int32_t>((bits >> (16 * piece)) & 0xffff);
    }
  }
  // Eight pieces uniform over 0..65535: mean 4 * 65535, deviation 65536 * sqrt(8 / 12).
  constexpr float kDeviation = 53509.9F;
  return static_cast<float>(sum - 4 * 65535) / kDeviation;
}

GraphBuilder::GraphBuilder(std::string_view name, const ZooOptions& options,
                           std::int64_t input_size)
    : random_(options.seed) {
  graph_.name = name;
  graph_.opset = kOpset;
  const ValueId input = graph_.add_value("input");
  Value& value = graph_.value(input);
  value.typed = true;
  value.shape = {1, 3, input_size, input_size};
  value.batch_axis = 0;
  graph_.inputs = {input};
}

ValueId GraphBuilder::node(std::string_view op, std::vector<ValueId> inputs,
                           Attributes attributes) {
  Node made;
  made.op = op;
  made.opset = kOpset;
  made.inputs = std::move(inputs);
  made.attributes = std::move(attributes);
  std::vector<OpInput> known;
  for (const ValueId id : made.inputs) {
    const Value& value = graph_.value(id);
    known.push_back({.present = true,
                     .type = {.dtype = value.dtype, .shape = value.shape},
                     .data = graph_.constant(id)});
  }
  std::string lower(op);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  made.name = lower + std::to_string(++layers_);
  const ValueId id = graph_.add_value(made.name);
  made.outputs = {id};
  const std::vector<TensorType> types = infer_types(made, known, kMaxTensorBytes);
  Value& value = graph_.value(id);
  value.typed = true;
  value.dtype = types[0].dtype;
  value.shape = types[0].shape;
  value.batch_axis = 0;
  for (const std::int64_t dim : value.shape) {
    if (dim < 1) fail("the input is too small for this architecture");
  }
  graph_.nodes.push_back(std::move(made));
  return id;
}

ValueId GraphBuilder::weights(std::string_view what, Shape shape, std::int64_t fan_in) {
  Tensor tensor(DType::kFloat32, std::move(shape));
  const auto deviation = static_cast<float>(std::sqrt(2.0 / static_cast<double>(fan_in)));
  for (float& w : tensor.view<float>()) w = deviation * random_.normal();
  return graph_.add_initialiser(std::string(what) + std::to_string(layers_ + 1), std::move(tensor));
}

GraphBuilder::Attributes GraphBuilder::window(const Kernel& kernel) {
  return {
      {"kernel_shape", std::vector<std::int64_t>{kernel.h, kernel.w}},
      {"strides", std::vector<std::int64_t>{kernel.stride, kernel.stride}},
      {"dilations", std::vector<std::int64_t>{1, 1}},
      {"pads", std::vector<std::int64_t>{kernel.pad_h, kernel.pad_w, kernel.pad_h, kernel.pad_w}}};
}

ValueId GraphBuilder::conv(ValueId x, std::int64_t out, const Kernel& kernel, std::int64_t groups) {
  const std::int64_t in = channels(x) / groups;
  const ValueId w = weights("weight", {out, in, kernel.h, kernel.w}, in * kernel.h * kernel.w);
  const ValueId bias =
      graph_.add_initialiser("bias" + std::to_string(layers_ + 1), Tensor(DType::kFloat32, {out}));
  Attributes attributes = window(kernel);
  attributes["group"] = groups;
  return node("Conv", {x, w, bias}, std::move(attributes));
}

ValueId GraphBuilder::dense(ValueId x, std::int64_t out) {
  if (graph_.value(x).shape.size() != 2) x = node("Flatten", {x}, {{"axis", std::int64_t{1}}});
  const std::int64_t in = channels(x);
  const ValueId w = weights("weight", {out, in}, in);
  const ValueId bias =
      graph_.add_initialiser("bias" + std::to_string(layers_ + 1), Tensor(DType::kFloat32, {out}));
  return node("Gemm", {x, w, bias}, {{"transB", std::int64_t{1}}});
}

ValueId GraphBuilder::relu6(ValueId x) {
  const ValueId lo = graph_.add_initialiser("zero", Tensor::scalar(0.0F));
  const ValueId hi = graph_.add_initialiser("six", Tensor::scalar(6.0F));
  return node("Clip", {x, lo, hi});
}

ValueId GraphBuilder::concat(std::vector<ValueId> parts) {
  return node("Concat", std::move(parts), {{"axis", std::int64_t{1}}});
}

ValueId GraphBuilder::max_pool(ValueId x, const Kernel& kernel) {
  return node("MaxPool", {x}, window(kernel));
}

ValueId GraphBuilder::average_pool(ValueId x, const Kernel& kernel) {
  Attributes attributes = window(kernel);
  attributes.erase("dilations");  // not before opset 19
  attributes["count_include_pad"] = std::int64_t{1};
  return node("AveragePool", {x}, std::move(attributes));
}

Graph GraphBuilder::finish(ValueId output) {
  graph_.outputs = {output};
  return std::move(graph_);
}

}  // namespace slalom::importer
