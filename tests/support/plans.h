// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/plan.h"

// Small plans built by hand, for tests of everything that takes a plan.

namespace slalom::testing {

// smallest_field is the field that a layer's sums allow, or nothing.
inline std::optional<field::Field> smallest_field(const model::Linear& linear) {
  const auto bounds = model::sum_bound(linear);
  const std::int64_t largest = *std::max_element(bounds.begin(), bounds.end());
  for (const field::Field f : {field::Field::kP24, field::Field::kP31}) {
    if (largest <= (field::modulus(f) - 1) / 2) return f;
  }
  return std::nullopt;
}

// PlanBuilder appends nodes to a plan; every method returns the id of the tensor it made. Weights,
// biases and multipliers are drawn from the seed so that codes neither saturate nor die.
class PlanBuilder {
 public:
  explicit PlanBuilder(unsigned seed = 1) : random_(seed) { plan_.name = "test"; }

  model::TensorId input(model::Shape shape, std::int32_t zero_point = 0) {
    const auto id = tensor(shape, 1.0F / 64, zero_point);
    plan_.inputs.push_back(id);
    return id;
  }

  struct ConvOptions {
    std::uint32_t out_c = 8;
    model::Window window;
    std::uint32_t groups = 1;
    std::int32_t weight_range = 127;  // weights are uniform in -range..range
    std::int32_t out_zero_point = 0;
    bool integers = false;  // i32 output
    bool local = false;     // no field even if one fits
    std::vector<std::uint8_t> table;
  };
  model::TensorId conv(model::TensorId in, const ConvOptions& o) {
    model::Linear op;
    op.stages.push_back(stage(shape(in), o.out_c, o.window, o.groups, o.weight_range));
    return linear(in, std::move(op), o);
  }
  model::TensorId dense(model::TensorId in, std::uint32_t out_c, bool integers = false) {
    ConvOptions o;
    o.out_c = out_c;
    o.integers = integers;
    return conv(in, o);
  }
  // separable is a depthwise convolution with the options' window, then a pointwise one.
  model::TensorId separable(model::TensorId in, const ConvOptions& o) {
    model::Linear op;
    const auto channels = shape(in).c;
    op.stages.push_back(
        stage(shape(in), channels, o.window, channels, std::min(o.weight_range, 15)));
    op.stages.push_back(
        stage(op.stages[0].conv.out, o.out_c, model::Window{}, 1, std::min(o.weight_range, 15)));
    return linear(in, std::move(op), o);
  }

  // node appends any other operator; `like` gives scale and zero point of the result.
  model::TensorId node(std::vector<model::TensorId> inputs, model::Op op, model::Shape out,
                       model::TensorId like) {
    const auto id = tensor(out, plan_.tensors[like].scale, plan_.tensors[like].zero_point);
    append(std::move(inputs), id, std::move(op));
    return id;
  }
  model::TensorId max_pool(model::TensorId in, const model::Window& window) {
    return node({in}, model::MaxPool{window}, pooled(shape(in), window, shape(in).c), in);
  }
  model::TensorId average_pool(model::TensorId in, const model::Window& window) {
    return node({in}, model::AveragePool{.window = window}, pooled(shape(in), window, shape(in).c),
                in);
  }
  model::TensorId add(model::TensorId a, model::TensorId b) {
    return node({a, b}, model::Add{.multiplier_a = 0.5F, .multiplier_b = 0.5F}, shape(a), a);
  }
  model::TensorId reshape(model::TensorId in, model::Shape out) {
    return node({in}, model::Reshape{}, out, in);
  }

  model::Plan finish(const std::vector<model::TensorId>& outputs) {
    for (const auto id : outputs) plan_.outputs.push_back({id, model::Final::kNone});
    return std::move(plan_);
  }

  [[nodiscard]] const model::Shape& shape(model::TensorId id) const {
    return plan_.tensors[id].shape;
  }
  model::Plan& plan() { return plan_; }

  static model::Shape pooled(const model::Shape& in, const model::Window& w,
                             std::uint32_t channels) {
    const auto length = [](std::uint32_t n, std::uint32_t kernel, std::uint32_t stride,
                           std::uint32_t dilation, std::uint32_t pads) {
      return (n + pads - ((kernel - 1) * dilation + 1)) / stride + 1;
    };
    return {length(in.h, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top + w.pad_bottom),
            length(in.w, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left + w.pad_right), channels};
  }

 private:
  model::TensorId tensor(model::Shape shape, float scale, std::int32_t zero_point,
                         model::Dtype dtype = model::Dtype::kU8) {
    const auto id = static_cast<model::TensorId>(plan_.tensors.size());
    plan_.tensors.push_back({"t" + std::to_string(id), shape, dtype, scale, zero_point});
    return id;
  }
  void append(std::vector<model::TensorId> inputs, model::TensorId output, model::Op op) {
    plan_.nodes.push_back(
        {"n" + std::to_string(plan_.nodes.size()), std::move(inputs), output, std::move(op)});
  }
  model::ConvStage stage(model::Shape in, std::uint32_t out_c, const model::Window& window,
                         std::uint32_t groups, std::int32_t range) {
    model::ConvStage s;
    s.conv = {in, pooled(in, window, out_c), window, groups};
    s.weights.resize(s.conv.weights());
    std::uniform_int_distribution<int> draw(-range, range);
    for (auto& w : s.weights) w = static_cast<std::int8_t>(draw(random_));
    return s;
  }
  model::TensorId linear(model::TensorId in, model::Linear op, const ConvOptions& o) {
    const auto out = op.out();
    std::uniform_int_distribution<int> bias(-4000, 4000);
    op.bias.resize(out.c);
    for (auto& b : op.bias) b = bias(random_);
    const auto bounds = model::sum_bound(op);
    op.requant.multiplier.resize(out.c);
    for (std::size_t c = 0; c < out.c; ++c) {
      // A random sum has about the bound over the root of its length.
      const double typical = 4.0 * static_cast<double>(bounds[c] + 1) /
                             std::sqrt(static_cast<double>(op.stages.back().conv.terms()) + 1);
      op.requant.multiplier[c] = static_cast<float>(o.integers ? 0.5 : 200.0 / typical);
    }
    op.requant.zero_point = o.integers ? 0 : o.out_zero_point;
    op.requant.lo = o.integers ? -(1 << 24) : 0;
    op.requant.hi = o.integers ? 1 << 24 : 255;
    op.requant.table = o.table;
    if (!o.local) {
      op.field = smallest_field(op);
      for (const auto& n : plan_.nodes) {  // layers that share an input share its field
        const auto* other = std::get_if<model::Linear>(&n.op);
        if (other != nullptr && other->field && n.inputs[0] == in && op.field) {
          op.field = std::max(*op.field, *other->field);
        }
      }
    }
    const auto id = tensor(out, 1.0F / 32, o.integers ? 0 : o.out_zero_point,
                           o.integers ? model::Dtype::kI32 : model::Dtype::kU8);
    append({in}, id, std::move(op));
    return id;
  }

  std::mt19937 random_;
  model::Plan plan_;
};

// small_network has every shape of Linear and the common operators: a few thousand multiplications.
inline model::Plan small_network(unsigned seed = 1) {
  PlanBuilder b(seed);
  const auto x = b.input({12, 12, 3}, 5);
  const model::Window same3{
      .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  model::Window strided = same3;
  strided.stride_h = strided.stride_w = 2;
  const auto c1 = b.conv(x, {.out_c = 16, .window = same3, .out_zero_point = 3});
  const auto p1 = b.max_pool(c1, {.kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2});
  const auto c2 = b.conv(p1, {.out_c = 16, .window = same3, .out_zero_point = 3});
  const auto a1 = b.add(c2, p1);
  const auto dw = b.conv(a1, {.out_c = 16, .window = same3, .groups = 16});
  const auto pw = b.conv(dw, {.out_c = 24});
  const auto sep = b.separable(pw, {.out_c = 20, .window = strided});
  const auto grouped = b.conv(sep, {.out_c = 20, .window = same3, .groups = 4});
  const auto gap = b.average_pool(grouped, {.kernel_h = 3, .kernel_w = 3});
  const auto logits = b.dense(gap, 10, true);
  return b.finish({logits});
}

}  // namespace slalom::testing
