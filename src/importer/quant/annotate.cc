// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/annotate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

bool is_codes(DType dtype) noexcept { return dtype == DType::kUint8 || dtype == DType::kInt8; }

// moves_codes: operators that a file may apply to codes as they are.
bool moves_codes(std::string_view op) {
  static constexpr std::array<std::string_view, 10> kOps = {
      "MaxPool",   "Reshape", "Flatten", "Transpose", "Squeeze",
      "Unsqueeze", "Slice",   "Split",   "Identity",  "Concat"};
  return std::find(kOps.begin(), kOps.end(), op) != kOps.end();
}

std::vector<std::int32_t> integers(const Tensor& tensor) {
  const auto widen = [](auto view) { return std::vector<std::int32_t>(view.begin(), view.end()); };
  switch (tensor.dtype()) {
    case DType::kInt8:
      return widen(tensor.view<std::int8_t>());
    case DType::kUint8:
      return widen(tensor.view<std::uint8_t>());
    case DType::kInt32:
      return widen(tensor.view<std::int32_t>());
    default:
      fail("codes of the type " + std::string(dtype_name(tensor.dtype())) + " are not supported");
  }
}

// Scheme is what QuantizeLinear and DequantizeLinear say: real = scale * (code - zero_point).
struct Scheme {
  std::vector<float> scales;              // one, or one for each index along axis
  std::vector<std::int32_t> zero_points;  // as many; of the file's own type
  DType dtype = DType::kUint8;
  std::size_t axis = 0;
};

class Annotator {
 public:
  explicit Annotator(Graph graph) : graph_(std::move(graph)) {}

  Annotated run() {
    std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    for (Node& node : nodes) {
      try {
        visit(node);
      } catch (const Failure& failure) {
        throw Failure(blame(failure.error(), node));
      }
    }
    for (ValueId& id : graph_.outputs) id = resolve(id);
    return {std::move(graph_), std::move(notes_)};
  }

 private:
  [[nodiscard]] ValueId resolve(ValueId id) const {
    const auto it = stand_in_.find(id);
    return it == stand_in_.end() ? id : it->second;
  }

  void visit(Node& node) {
    if (node.op == "QuantizeLinear") return quantize(node);
    if (node.op == "DequantizeLinear") return dequantize(node);
    if (node.op == "QLinearConv") return convolution(node);
    bool on_codes = false;
    for (ValueId& id : node.inputs) {
      if (id == kNoValue) continue;
      on_codes = on_codes || (is_codes(graph_.value(id).dtype) && graph_.constant(id) == nullptr);
      id = resolve(id);
    }
    if (on_codes) keep_codes(node);
    graph_.nodes.push_back(std::move(node));
  }

  void keep_codes(const Node& node) {
    if (!moves_codes(node.op)) fail("it works on quantised codes, which is not supported here");
    const auto note = notes_.quants.find(node.input(0));
    if (note == notes_.quants.end()) fail("the scale of its input is not known");
    if (node.op == "Concat") {
      for (const ValueId id : node.inputs) {
        const auto other = notes_.quants.find(id);
        if (other == notes_.quants.end() || !(other->second == note->second)) {
          fail("it joins codes of different scales");
        }
      }
    }
    for (const ValueId id : node.outputs) {
      if (id != kNoValue) notes_.quants[id] = note->second;
    }
  }

  [[nodiscard]] const Tensor& constant(ValueId id, const char* what) const {
    const Tensor* tensor = graph_.constant(id);
    if (tensor == nullptr) fail(std::string(what) + " must be a constant");
    return *tensor;
  }

  [[nodiscard]] Scheme scheme(const Node& node, ValueId scale, ValueId zero_point, DType dtype,
                              const Shape& shape) const {
    Scheme result;
    const auto scales = constant(scale, "a scale").view<float>();
    result.scales.assign(scales.begin(), scales.end());
    result.dtype = dtype;
    if (zero_point != kNoValue) {
      result.zero_points = integers(constant(zero_point, "a zero point"));
      result.dtype = constant(zero_point, "a zero point").dtype();
    } else {
      result.zero_points.assign(scales.size(), 0);
    }
    if (node.int_or("block_size", 0) != 0) fail("blocked quantisation is not supported");
    for (const float s : result.scales) {
      if (!(s > 0.0F) || !std::isfinite(s)) fail("a scale is not a positive number");
    }
    std::int64_t axis = node.int_or("axis", 1);
    if (axis < 0) axis += std::ssize(shape);
    result.axis = static_cast<std::size_t>(axis);
    const std::size_t count = result.scales.size();
    if (result.zero_points.size() != count ||
        (count != 1 &&
         (result.axis >= shape.size() || shape[result.axis] != static_cast<std::int64_t>(count)))) {
      fail("its scales and zero points do not fit its input");
    }
    return result;
  }

  // as_quant is the scheme of an activation in u8 codes.
  static Quant as_quant(const Scheme& scheme) {
    if (scheme.scales.size() != 1) fail("activations with a scale for each channel");
    if (!is_codes(scheme.dtype)) fail("activations of more than 8 bits are not supported");
    const std::int32_t shift = scheme.dtype == DType::kInt8 ? 128 : 0;
    return {scheme.scales[0], scheme.zero_points[0] + shift};
  }

  // annotate_value notes how a float value is quantised, and returns the value to read: another
  // one if it was quantised otherwise before.
  ValueId annotate_value(ValueId id, const Quant& quant, const Node& node) {
    const auto [it, inserted] = notes_.quants.emplace(id, quant);
    if (inserted || it->second == quant) return id;
    const ValueId again = graph_.add_value(graph_.value(id).name + "/requantised");
    graph_.value(again).typed = true;
    graph_.value(again).shape = graph_.value(id).shape;
    graph_.value(again).batch_axis = graph_.value(id).batch_axis;
    Node identity;
    identity.name = node.name;
    identity.op = "Identity";
    identity.opset = node.opset;
    identity.inputs = {id};
    identity.outputs = {again};
    graph_.nodes.push_back(std::move(identity));
    notes_.quants[again] = quant;
    return again;
  }

  void quantize(const Node& node) {
    const ValueId x = resolve(node.input(0));
    const ValueId y = node.outputs.at(0);
    const Shape& shape = graph_.value(node.input(0)).shape;
    const Scheme how = scheme(node, node.input(1), node.input(2), graph_.value(y).dtype, shape);
    if (const Tensor* values = graph_.constant(x)) {
      codes_[y] = {quantised(*values, how), how.dtype};
      return;
    }
    stand_in_[y] = annotate_value(x, as_quant(how), node);
  }

  // quantised rounds a constant as QuantizeLinear does.
  static std::vector<std::int32_t> quantised(const Tensor& values, const Scheme& how) {
    if (!is_codes(how.dtype)) fail("a constant is quantised to more than 8 bits");
    const std::int32_t lo = how.dtype == DType::kInt8 ? -128 : 0;
    std::vector<std::int32_t> codes;
    const auto view = values.view<float>();
    for (std::size_t i = 0; i < view.size(); ++i) {
      const std::size_t s = scale_index(values.shape(), how, i);
      const double code =
          std::nearbyint(static_cast<double>(view[i] / how.scales[s])) + how.zero_points[s];
      codes.push_back(static_cast<std::int32_t>(std::clamp<double>(code, lo, lo + 255)));
    }
    return codes;
  }

  // scale_index gives the index of the scale of element i.
  static std::size_t scale_index(const Shape& shape, const Scheme& how, std::size_t i) {
    if (how.scales.size() == 1) return 0;
    std::int64_t inner = 1;
    for (std::size_t dim = how.axis + 1; dim < shape.size(); ++dim) inner *= shape[dim];
    return i / static_cast<std::size_t>(inner) % how.scales.size();
  }

  void dequantize(const Node& node) {
    const ValueId x = node.input(0);
    const ValueId y = node.outputs.at(0);
    const Shape shape = graph_.value(x).shape;
    const Scheme how = scheme(node, node.input(1), node.input(2), graph_.value(x).dtype, shape);
    if (const auto codes = codes_.find(x); codes != codes_.end()) {
      stand_in_[y] = real_constant(y, shape, codes->second.first, how);
      return;
    }
    if (const Tensor* tensor = graph_.constant(x)) {
      stand_in_[y] = real_constant(y, shape, integers(*tensor), how);
      return;
    }
    const Quant quant = as_quant(how);
    const ValueId real = resolve(x);
    const auto [it, inserted] = notes_.quants.emplace(real, quant);
    if (!inserted && !(it->second == quant)) {
      fail("codes are read with another scale or zero point than they were made with");
    }
    stand_in_[y] = real;
  }

  // real_constant adds the float constant behind integer codes and notes where it came from.
  ValueId real_constant(ValueId y, const Shape& shape, const std::vector<std::int32_t>& raw,
                        const Scheme& how) {
    ConstantCodes source{.codes = {}, .scales = how.scales, .axis = how.axis};
    std::vector<float> reals;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      const std::size_t s = scale_index(shape, how, i);
      source.codes.push_back(raw[i] - how.zero_points[s]);
      reals.push_back(static_cast<float>(source.codes.back()) * how.scales[s]);
    }
    const ValueId id =
        graph_.add_initialiser(graph_.value(y).name + "/real", Tensor::of(shape, reals));
    notes_.constants[id] = std::move(source);
    if (is_codes(how.dtype) && how.scales.size() == 1) notes_.quants[id] = as_quant(how);
    return id;
  }

  void convolution(const Node& node) {
    const ValueId x = resolve(node.input(0));
    const ValueId weights = node.input(3);
    const Shape& shape = graph_.value(weights).shape;
    Node plain = node;
    plain.attributes.insert_or_assign("axis", std::int64_t{0});  // of the scales of the weights
    const Scheme x_scheme =
        scheme(plain, node.input(1), node.input(2), graph_.value(node.input(0)).dtype, shape);
    Scheme w_scheme =
        scheme(plain, node.input(4), node.input(5), graph_.value(weights).dtype, shape);
    const Scheme y_scheme =
        scheme(plain, node.input(6), node.input(7), graph_.value(node.outputs.at(0)).dtype, shape);
    const auto [it, inserted] = notes_.quants.emplace(x, as_quant(x_scheme));
    if (!inserted && !(it->second == as_quant(x_scheme))) {
      fail("codes are read with another scale or zero point than they were made with");
    }
    Node conv;
    conv.name = node.name;
    conv.op = "Conv";
    conv.opset = node.opset;
    conv.attributes = node.attributes;
    conv.inputs = {
        x, real_constant(weights, shape, integers(constant(weights, "the weights")), w_scheme)};
    if (node.input(8) != kNoValue) {
      // The bias has the scale of the sums.
      const Tensor& bias = constant(node.input(8), "the bias");
      Scheme b_scheme = w_scheme;
      b_scheme.dtype = DType::kInt32;
      for (float& s : b_scheme.scales) s *= x_scheme.scales[0];
      std::fill(b_scheme.zero_points.begin(), b_scheme.zero_points.end(), 0);
      conv.inputs.push_back(real_constant(node.input(8), bias.shape(), integers(bias), b_scheme));
    }
    conv.outputs = node.outputs;
    notes_.quants[node.outputs.at(0)] = as_quant(y_scheme);
    graph_.nodes.push_back(std::move(conv));
  }

  Graph graph_;
  Annotations notes_;
  std::map<ValueId, ValueId>
      stand_in_;  // float values in place of codes and of what is made of them
  std::map<ValueId, std::pair<std::vector<std::int32_t>, DType>> codes_;  // quantised constants
};

}  // namespace

Annotated annotate(Graph graph) {
  const bool quantised = std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return node.op == "QuantizeLinear" || node.op == "DequantizeLinear" || node.op == "QLinearConv";
  });
  if (!quantised) return {std::move(graph), {}};
  return Annotator(std::move(graph)).run();
}

}  // namespace slalom::importer
