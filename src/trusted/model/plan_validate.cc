// SPDX-License-Identifier: Apache-2.0
// Every rule that plan.h states, checked before a plan is believed. The decoder trusts nobody:
// bounds are recomputed from the weights, never read.

#include <algorithm>
#include <array>
#include <cmath>
#include <variant>

#include "base/checked.h"
#include "model/plan.h"

namespace slalom::model {
namespace {

constexpr std::uint32_t kMaxSide = 1U << 20;        // of any axis, kernel, stride or padding
constexpr std::uint64_t kMaxElements = 1ULL << 28;  // of one tensor of one image
constexpr std::int64_t kAccumulator = 1LL << 31;    // |Y| + |bias| stays below
constexpr std::int32_t kMaxInteger = 1 << 30;       // of a clamp in an i32 tensor
constexpr float kMaxScale = 1e30F;

Error bad(const char* message) noexcept { return Error{Errc::kMalformed, message}; }

bool positive(float v) noexcept { return std::isfinite(v) && v > 0.0F && v < kMaxScale; }
bool moderate(float v) noexcept { return std::isfinite(v) && std::fabs(v) < kMaxScale; }

Status check_shape(const Shape& s) noexcept {
  if (s.h == 0 || s.w == 0 || s.c == 0 || s.h > kMaxSide || s.w > kMaxSide || s.c > kMaxSide) {
    return bad("a tensor has an axis of length zero or beyond 2^20");
  }
  // Three factors of at most 2^20 each fit 64 bits.
  if (static_cast<std::uint64_t>(s.h) * s.w * s.c > kMaxElements) {
    return bad("a tensor has more than 2^28 elements");
  }
  return {};
}

Status check_tensor(const TensorInfo& t) noexcept {
  SLALOM_TRY(check_shape(t.shape));
  if (!positive(t.scale)) return bad("a tensor's scale is not a positive number");
  switch (t.dtype) {
    case Dtype::kU8:
      if (t.zero_point < 0 || t.zero_point > 255) return bad("a zero point is outside 0..255");
      return {};
    case Dtype::kI32:
      if (t.zero_point != 0) return bad("an integer tensor has a zero point");
      return {};
  }
  return bad("a tensor has an unknown data type");
}

// axis_length is the number of windows along one axis, or 0 if none fits.
std::uint64_t axis_length(std::uint64_t in, std::uint64_t kernel, std::uint64_t stride,
                          std::uint64_t dilation, std::uint64_t before,
                          std::uint64_t after) noexcept {
  const std::uint64_t reach = (kernel - 1) * dilation + 1;
  const std::uint64_t padded = in + before + after;
  return padded < reach ? 0 : (padded - reach) / stride + 1;
}

Status check_window(const Window& w, const Shape& in, const Shape& out) noexcept {
  for (const std::uint32_t n :
       {w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.dilation_h, w.dilation_w}) {
    if (n == 0 || n > kMaxSide) return bad("a window's kernel, stride or dilation is out of range");
  }
  if (static_cast<std::uint64_t>(w.kernel_h) * w.kernel_w > kMaxSide) {
    return bad("a window has more than 2^20 taps");
  }
  // A window that could lie wholly in the padding has no meaning for pooling and hides work for
  // convolutions.
  const std::uint64_t reach_h = static_cast<std::uint64_t>(w.kernel_h - 1) * w.dilation_h;
  const std::uint64_t reach_w = static_cast<std::uint64_t>(w.kernel_w - 1) * w.dilation_w;
  if (w.pad_top > reach_h || w.pad_bottom > reach_h || w.pad_left > reach_w ||
      w.pad_right > reach_w) {
    return bad("a window's padding is as large as its reach");
  }
  if (axis_length(in.h, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, w.pad_bottom) != out.h ||
      axis_length(in.w, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, w.pad_right) != out.w) {
    return bad("a window's geometry does not give its output's shape");
  }
  return {};
}

// A pooling window must hold at least one tap of the input on each axis, or its result would mean
// nothing (possible only with dilation).
bool every_window_hits(std::uint32_t in, std::uint32_t out, std::uint32_t kernel,
                       std::uint32_t stride, std::uint32_t dilation,
                       std::uint32_t before) noexcept {
  for (std::int64_t o = 0; o < out; ++o) {
    bool hit = false;
    for (std::int64_t k = 0; k < kernel && !hit; ++k) {
      const std::int64_t at = o * stride + k * dilation - before;
      hit = at >= 0 && at < in;
    }
    if (!hit) return false;
  }
  return true;
}
Status check_pool(const Window& w, const Shape& in, const Shape& out) noexcept {
  if (in.c != out.c) return bad("a pooling changes the number of channels");
  SLALOM_TRY(check_window(w, in, out));
  if (!every_window_hits(in.h, out.h, w.kernel_h, w.stride_h, w.dilation_h, w.pad_top) ||
      !every_window_hits(in.w, out.w, w.kernel_w, w.stride_w, w.dilation_w, w.pad_left)) {
    return bad("a pooling window lies wholly in the padding");
  }
  return {};
}

// check_clamp: lo and hi of a requantisation into tensor `out`, before a table if there is one.
Status check_clamp(std::int32_t lo, std::int32_t hi, const TensorInfo& out) noexcept {
  const bool codes = out.dtype == Dtype::kU8;
  const std::int32_t least = codes ? 0 : -kMaxInteger;
  const std::int32_t most = codes ? 255 : kMaxInteger;
  if (lo < least || hi > most || lo > hi) return bad("a clamp is outside its tensor's range");
  return {};
}

Status check_stage(const ConvStage& stage) noexcept {
  const Conv& c = stage.conv;
  SLALOM_TRY(check_shape(c.in));
  SLALOM_TRY(check_shape(c.out));
  if (c.groups == 0 || c.in.c % c.groups != 0 || c.out.c % c.groups != 0) {
    return bad("a convolution's groups do not divide its channels");
  }
  SLALOM_TRY(check_window(c.window, c.in, c.out));
  const auto per_output = base::checked_mul<std::uint64_t>(c.taps(), c.group_in());
  const auto total =
      per_output ? base::checked_mul<std::uint64_t>(*per_output, c.out.c) : per_output;
  if (!total || *total != stage.weights.size()) {
    return bad("a convolution has the wrong number of weights");
  }
  if (std::find(stage.weights.begin(), stage.weights.end(), std::int8_t{-128}) !=
      stage.weights.end()) {
    return bad("a weight is -128: weights are -127..127");
  }
  return {};
}

Status check_requant(const Requant& r, std::uint32_t channels, const TensorInfo& out) noexcept {
  if (r.multiplier.size() != 1 && r.multiplier.size() != channels) {
    return bad("a layer has the wrong number of multipliers");
  }
  if (!std::all_of(r.multiplier.begin(), r.multiplier.end(), positive)) {
    return bad("a multiplier is not a positive number");
  }
  SLALOM_TRY(check_clamp(r.lo, r.hi, out));
  if (!r.table.empty() && (out.dtype != Dtype::kU8 || r.table.size() != 256)) {
    return bad("a table needs 256 entries and an 8-bit output");
  }
  const bool in_range =
      out.dtype == Dtype::kU8 ? (r.zero_point >= 0 && r.zero_point <= 255) : r.zero_point == 0;
  if (!in_range || (r.table.empty() && r.zero_point != out.zero_point)) {
    return bad("a layer's zero point does not agree with its output");
  }
  return {};
}

struct Context {
  const Plan& plan;
  const Node& node;

  [[nodiscard]] const TensorInfo& in(std::size_t i) const { return plan.tensors[node.inputs[i]]; }
  [[nodiscard]] const TensorInfo& out() const { return plan.tensors[node.output]; }
};

Status need_u8_inputs(const Context& x, std::size_t count) {
  if (x.node.inputs.size() != count) return bad("a node has the wrong number of inputs");
  for (std::size_t i = 0; i < count; ++i) {
    if (x.in(i).dtype != Dtype::kU8) return bad("an operator reads a tensor that is not 8-bit");
  }
  return {};
}
Status need_u8_output(const Context& x) {
  if (x.out().dtype != Dtype::kU8) return bad("this operator writes 8-bit codes only");
  return {};
}
Status same_quantisation(const TensorInfo& a, const TensorInfo& b) {
  if (a.scale != b.scale || a.zero_point != b.zero_point || a.dtype != b.dtype) {
    return bad("an operator that moves codes changes their scale");
  }
  return {};
}

Status check(const Linear& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  if (op.stages.empty() || op.stages.size() > 2)
    return bad("a layer has no stage or more than two");
  for (const ConvStage& stage : op.stages) SLALOM_TRY(check_stage(stage));
  if (op.stages.size() == 2) {
    const Conv& first = op.stages[0].conv;
    const Conv& second = op.stages[1].conv;
    if (!(first.groups == first.in.c && first.out.c == first.in.c) || second.groups != 1 ||
        second.window != Window{} || first.out != second.in) {
      return bad("a separable layer is not a depthwise and a pointwise convolution");
    }
  }
  if (op.in() != x.in(0).shape || op.out() != x.out().shape) {
    return bad("a layer's shapes do not agree with its tensors");
  }
  if (op.field && *op.field != field::Field::kP24 && *op.field != field::Field::kP31) {
    return bad("a layer names an unknown field");
  }
  if (op.bias.size() != op.out().c) return bad("a layer has the wrong number of biases");
  SLALOM_TRY(check_requant(op.requant, op.out().c, x.out()));
  if (op.stages.size() == 2) {
    // The sums between the stages are kept in 32 bits as well.
    const Linear first{.stages = {op.stages[0]}, .bias = {}, .field = {}, .requant = {}};
    for (const std::int64_t bound : sum_bound(first)) {
      if (bound >= kAccumulator) return bad("a separable layer's inner sums can leave 32 bits");
    }
  }
  const auto bounds = sum_bound(op);
  for (std::size_t o = 0; o < bounds.size(); ++o) {
    const auto bias = std::abs(static_cast<std::int64_t>(op.bias[o]));
    if (bounds[o] >= kAccumulator - bias) return bad("a layer's sums can leave 32 bits");
    if (op.field && bounds[o] > (field::modulus(*op.field) - 1) / 2) {
      return bad("a layer's sums can leave its field");
    }
  }
  return {};
}

std::uint32_t broadcast(std::uint32_t a, std::uint32_t b) noexcept {
  if (a == b || b == 1) return a;
  return a == 1 ? b : 0;
}
Status check_broadcast(const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 2));
  const Shape& a = x.in(0).shape;
  const Shape& b = x.in(1).shape;
  if (Shape{broadcast(a.h, b.h), broadcast(a.w, b.w), broadcast(a.c, b.c)} != x.out().shape) {
    return bad("the operands' shapes do not broadcast to the result's");
  }
  return {};
}
Status check(const Add& op, const Context& x) {
  SLALOM_TRY(check_broadcast(x));
  if (!moderate(op.multiplier_a) || !moderate(op.multiplier_b)) {
    return bad("an addition's multiplier is not a number");
  }
  return check_clamp(op.lo, op.hi, x.out());
}
Status check(const Mul& op, const Context& x) {
  SLALOM_TRY(check_broadcast(x));
  if (!moderate(op.multiplier)) return bad("a product's multiplier is not a number");
  return check_clamp(op.lo, op.hi, x.out());
}

Status check(const Table& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  SLALOM_TRY(need_u8_output(x));
  if (op.table.size() != 256) return bad("a table does not have 256 entries");
  if (x.in(0).shape != x.out().shape) return bad("a table changes its tensor's shape");
  return {};
}

Status check(const Prelu& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  if (x.in(0).shape != x.out().shape) return bad("an activation changes its tensor's shape");
  if (!moderate(op.positive) || op.negative.size() != x.out().shape.c ||
      !std::all_of(op.negative.begin(), op.negative.end(), moderate)) {
    return bad("a PRelu's slopes are not one number a channel");
  }
  return check_clamp(op.lo, op.hi, x.out());
}

Status check(const MaxPool& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  SLALOM_TRY(same_quantisation(x.in(0), x.out()));
  return check_pool(op.window, x.in(0).shape, x.out().shape);
}

Status check(const AveragePool& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  if (!positive(op.multiplier)) return bad("a pooling's multiplier is not a positive number");
  SLALOM_TRY(check_clamp(op.lo, op.hi, x.out()));
  return check_pool(op.window, x.in(0).shape, x.out().shape);
}

std::array<std::uint32_t, 3> axes(const Shape& s) noexcept { return {s.h, s.w, s.c}; }

Status check(const Concat& op, const Context& x) {
  if (x.node.inputs.empty() || op.axis > 2) return bad("a concatenation has no operand or no axis");
  SLALOM_TRY(need_u8_inputs(x, x.node.inputs.size()));
  SLALOM_TRY(need_u8_output(x));
  if (op.multiplier.size() != x.node.inputs.size() ||
      !std::all_of(op.multiplier.begin(), op.multiplier.end(), positive)) {
    return bad("a concatenation has not one positive multiplier an operand");
  }
  const auto out = axes(x.out().shape);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < x.node.inputs.size(); ++i) {
    const auto in = axes(x.in(i).shape);
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if (axis != op.axis && in[axis] != out[axis]) {
        return bad("a concatenation's operands do not fit together");
      }
    }
    total += in[op.axis];
  }
  if (total != out[op.axis]) return bad("a concatenation's operands do not fill its result");
  return {};
}

Status check(const Pad& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  SLALOM_TRY(same_quantisation(x.in(0), x.out()));
  const auto in = axes(x.in(0).shape);
  const auto out = axes(x.out().shape);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::uint64_t sum =
        static_cast<std::uint64_t>(op.before[axis]) + in[axis] + op.after[axis];
    if (sum != out[axis]) return bad("a padding does not give its output's shape");
  }
  return {};
}

Status check(const Slice& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  SLALOM_TRY(same_quantisation(x.in(0), x.out()));
  const auto in = axes(x.in(0).shape);
  const auto out = axes(x.out().shape);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::uint64_t last =
        op.begin[axis] + static_cast<std::uint64_t>(out[axis] - 1) * op.step[axis];
    if (op.step[axis] == 0 || last >= in[axis]) return bad("a slice reaches past its input");
  }
  return {};
}

Status check(const Transpose& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  SLALOM_TRY(same_quantisation(x.in(0), x.out()));
  const auto in = axes(x.in(0).shape);
  const auto out = axes(x.out().shape);
  unsigned seen = 0;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (op.perm[axis] > 2 || out[axis] != in[op.perm[axis]]) {
      return bad("a transposition does not give its output's shape");
    }
    seen |= 1U << op.perm[axis];
  }
  return seen == 7 ? Status{} : bad("a transposition names an axis twice");
}

Status check(const Reshape&, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  SLALOM_TRY(same_quantisation(x.in(0), x.out()));
  if (x.in(0).shape.elements() != x.out().shape.elements()) {
    return bad("a reshape changes the number of elements");
  }
  return {};
}

Status check(const Softmax& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  SLALOM_TRY(need_u8_output(x));
  if (x.in(0).shape != x.out().shape) return bad("a softmax changes its tensor's shape");
  if (x.out().scale != 1.0F / 256 || x.out().zero_point != 0) {
    return bad("a softmax's output scale is not 1/256");
  }
  if (op.table.size() != 256 || op.table[0] != (1U << 24) ||
      !std::is_sorted(op.table.rbegin(), op.table.rend())) {
    return bad("a softmax's table does not fall from 2^24");
  }
  return {};
}

Status check(const Lrn& op, const Context& x) {
  SLALOM_TRY(need_u8_inputs(x, 1));
  if (x.in(0).shape != x.out().shape) return bad("a normalisation changes its tensor's shape");
  // 255^2 * size stays in int32.
  if (op.size % 2 == 0 || op.size > 16'384 || op.beta_quarters < 2 || op.beta_quarters > 4) {
    return bad("a normalisation's size or exponent is not supported");
  }
  if (!std::isfinite(op.alpha) || op.alpha < 0.0F || op.alpha > kMaxScale || !positive(op.bias) ||
      !positive(op.multiplier)) {
    return bad("a normalisation's parameters are not positive numbers");
  }
  return check_clamp(op.lo, op.hi, x.out());
}

Status check(const Constant& op, const Context& x) {
  if (!x.node.inputs.empty()) return bad("a constant has inputs");
  SLALOM_TRY(need_u8_output(x));
  if (op.codes.size() != x.out().shape.elements()) return bad("a constant has the wrong size");
  return {};
}

// check_graph: every tensor is written once, before it is read.
Status check_graph(const Plan& plan) {
  const std::size_t count = plan.tensors.size();
  std::vector<bool> written(count, false);
  if (plan.inputs.empty() || plan.outputs.empty()) return bad("a plan has no input or no output");
  for (const TensorId id : plan.inputs) {
    if (id >= count || written[id]) return bad("a plan's inputs are not distinct tensors");
    if (plan.tensors[id].dtype != Dtype::kU8) return bad("a plan's input is not 8-bit");
    written[id] = true;
  }
  for (const Node& node : plan.nodes) {
    for (const TensorId id : node.inputs) {
      if (id >= count || !written[id]) return bad("a node reads a tensor before it is written");
    }
    if (node.output >= count || written[node.output]) return bad("a tensor is written twice");
    written[node.output] = true;
  }
  if (!std::all_of(written.begin(), written.end(), [](bool w) { return w; })) {
    return bad("a tensor is never written");
  }
  for (const Output& output : plan.outputs) {
    if (output.tensor >= count) return bad("an output names no tensor");
    if (output.function > Final::kLogSoftmax) return bad("an output's function is unknown");
  }
  return {};
}

// Layers that read one tensor share its masked copy, so they share its field.
Status check_shared_fields(const Plan& plan) {
  std::vector<std::optional<field::Field>> of(plan.tensors.size());
  for (const Node& node : plan.nodes) {
    const auto* linear = std::get_if<Linear>(&node.op);
    if (linear == nullptr || !linear->field) continue;
    auto& field = of[node.inputs[0]];
    if (field && *field != *linear->field) return bad("layers that share an input differ in field");
    field = linear->field;
  }
  return {};
}

Status check_preprocess(const Plan& plan) {
  if (!plan.preprocess) return {};
  const Preprocess& p = *plan.preprocess;
  const Shape& in = plan.tensors[plan.inputs[0]].shape;
  if (plan.inputs.size() != 1 || p.crop_h != in.h || p.crop_w != in.w) {
    return bad("the picture's crop is not the network's input");
  }
  if ((in.c != 1 && in.c != 3) || p.mean.size() != in.c || p.std.size() != in.c ||
      p.resize_shorter > kMaxSide || p.interpolation > Interpolation::kBicubic) {
    return bad("the picture's preparation is not one mean and deviation a channel");
  }
  if (!std::all_of(p.mean.begin(), p.mean.end(), moderate) ||
      !std::all_of(p.std.begin(), p.std.end(), positive)) {
    return bad("the picture's means or deviations are not numbers");
  }
  return {};
}

}  // namespace

Status validate(const Plan& plan) {
  for (const TensorInfo& tensor : plan.tensors) SLALOM_TRY(check_tensor(tensor));
  SLALOM_TRY(check_graph(plan));
  for (const Node& node : plan.nodes) {
    const Context context{plan, node};
    SLALOM_TRY(std::visit([&](const auto& op) { return check(op, context); }, node.op));
  }
  SLALOM_TRY(check_shared_fields(plan));
  SLALOM_TRY(check_preprocess(plan));
  if (!plan.labels.empty() &&
      plan.labels.size() != plan.tensors[plan.outputs[0].tensor].shape.elements()) {
    return bad("a plan has not one label a class");
  }
  return {};
}

}  // namespace slalom::model
