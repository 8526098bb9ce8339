// SPDX-License-Identifier: Apache-2.0
// Net is the network between float graph and plan: the operators, shapes and memory order of a
// plan, with real numbers in place of codes. lower() makes it, fuse() simplifies it, emit() turns
// it into a plan once every tensor has a scale.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "importer/graph.h"
#include "importer/quant/view.h"
#include "model/plan.h"

namespace slalom::importer {

using TensorIndex = std::uint32_t;

// Quant is the quantisation of a tensor: real = scale * (q - zero_point).
struct Quant {
  float scale = 1.0F;
  std::int32_t zero_point = 0;
  friend bool operator==(const Quant&, const Quant&) = default;
};

// NetTensor is a tensor of the plan to be.
struct NetTensor {
  std::string name;
  model::Shape shape;
  ValueId value = kNoValue;    // the graph value it holds, or none (moved codes)
  View view;                   // where the value's elements are, if it holds one
  std::optional<Quant> fixed;  // scale and zero point that may not be chosen
};

// Unary is a function of one number: a clamp (Relu, Clip) or anything else.
struct Unary {
  bool clamp = true;
  double lo = -std::numeric_limits<double>::infinity();  // of a clamp
  double hi = std::numeric_limits<double>::infinity();
  std::function<double(double)> f;  // of anything else

  [[nodiscard]] bool identity() const noexcept {
    return clamp && lo == -std::numeric_limits<double>::infinity() &&
           hi == std::numeric_limits<double>::infinity();
  }
  [[nodiscard]] double operator()(double x) const {
    return clamp ? (x < lo ? lo : (x > hi ? hi : x)) : f(x);
  }
};
// then is second after first.
Unary then(const Unary& first, const Unary& second);

// FixedWeights are the integers of a network that was quantised before it was imported.
struct FixedWeights {
  std::vector<std::int8_t> weights;  // -127..127, [out][kernel_h][kernel_w][in / groups]
  std::vector<float> scales;         // one, or one for each output channel
  std::vector<std::int32_t> bias;    // empty: there is a real bias or none
  std::vector<float> bias_scales;    // real value of one step of the bias; one, or one each
  std::size_t saturated = 0;         // weights of -128 that became -127
};

// FloatStage is one convolution with real weights [out][kernel_h][kernel_w][in / groups]; they are
// made when asked for, because a large network does not fit twice.
struct FloatStage {
  model::Conv conv;
  std::function<std::vector<float>()> weights;
  std::vector<float> bias;  // one for each output channel, or empty
};

struct NetLinear {
  std::vector<FloatStage> stages;
  std::optional<FixedWeights> fixed;
  Unary post;
  // The value before `post`, where post is no clamp: its range is that of the codes before the
  // table.
  ValueId before_post = kNoValue;
  std::optional<Quant> fixed_before_post;
  // Of a separable pair: the tensor that was between the halves.
  TensorIndex between = 0;
  // True: the layer gets no field, even if one fits.
  bool local = false;
};
struct NetAdd {
  float sign_b = 1.0F;
  Unary post;  // a clamp, as in all operators below
};
struct NetMul {
  Unary post;
};
struct NetUnary {
  Unary function;
};
struct NetPrelu {
  std::vector<float> slopes;  // one for each channel
  Unary post;
};
struct NetMaxPool {
  model::Window window;
};
struct NetAveragePool {
  model::Window window;
  bool count_padding = false;
  Unary post;
};
struct NetConcat {
  std::uint8_t axis = 2;
};
struct NetPad {
  std::array<std::uint32_t, 3> before{};
  std::array<std::uint32_t, 3> after{};
  double value = 0.0;
};
struct NetSlice {
  std::array<std::uint32_t, 3> begin{};
  std::array<std::uint32_t, 3> step{1, 1, 1};
};
struct NetTranspose {
  std::array<std::uint8_t, 3> perm{0, 1, 2};
};
struct NetReshape {};
struct NetSoftmax {};
struct NetLrn {
  std::uint32_t size = 1;
  float alpha = 0.0F, beta = 0.75F, bias = 1.0F;
  Unary post;
};
struct NetConstant {
  std::vector<float> values;  // in the tensor's order
};

using NetOp = std::variant<NetLinear, NetAdd, NetMul, NetUnary, NetPrelu, NetMaxPool,
                           NetAveragePool, NetConcat, NetPad, NetSlice, NetTranspose, NetReshape,
                           NetSoftmax, NetLrn, NetConstant>;

struct NetNode {
  std::string name;
  Node origin;  // name, op and opset of the graph's node, for errors; nothing else of it
  std::vector<TensorIndex> inputs;
  TensorIndex output = 0;
  NetOp op;
};

struct NetOutput {
  TensorIndex tensor = 0;
  model::Final function = model::Final::kNone;
};

struct Net {
  std::string name;
  std::vector<NetTensor> tensors;
  std::vector<TensorIndex> inputs;
  std::vector<NetOutput> outputs;
  std::vector<NetNode> nodes;  // topological order

  // readers counts, for each tensor, the nodes and outputs that read it.
  [[nodiscard]] std::vector<std::size_t> readers() const;
  // producers gives the index of the node that writes each tensor, or kNoNode.
  [[nodiscard]] std::vector<std::size_t> producers() const;
};

// keeps_codes: the operator only moves codes, so input and output share scale and zero point.
bool keeps_codes(const NetOp& op) noexcept;

}  // namespace slalom::importer
