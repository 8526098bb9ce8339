// SPDX-License-Identifier: Apache-2.0
// Every rule that plan.h states, checked before a plan is believed. The decoder trusts nobody:
// bounds are recomputed from the weights, never read.

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <type_traits>
#include <variant>

#include "model/plan.h"

namespace slalom::model {
namespace {

constexpr std::uint32_t kMaxSide = 1U << 20;        // of any axis, kernel, stride or padding
constexpr std::uint64_t kMaxElements = 1ULL << 28;  // of one tensor of one image
constexpr std::int64_t kAccumulator = 1LL << 31;    // |Y| + |bias| stays below
constexpr std::int32_t kMaxInteger = 1 << 30;       // of a clamp in an i32 tensor
constexpr float kMaxScale = 1e30F;

Error bad(const char* message) noexcept { return Error{Errc::kMalformed, message}; }

// all states rules that do not hang on each other; the first one that does not hold is the answer.
struct Rule {
  bool holds;
  const char* otherwise;
};
Status all(std::initializer_list<Rule> rules) noexcept {
  for (const Rule& rule : rules) {
    if (!rule.holds) return bad(rule.otherwise);
  }
  return {};
}

bool within(std::int64_t v, std::int64_t least, std::int64_t most) noexcept {
  return v >= least && v <= most;
}
bool positive(float v) noexcept { return std::isfinite(v) && v > 0.0F && v < kMaxScale; }
bool moderate(float v) noexcept { return std::isfinite(v) && std::fabs(v) < kMaxScale; }

Status check_shape(const Shape& s) noexcept {
  const auto side = [](std::uint32_t n) { return within(n, 1, kMaxSide); };
  // Three factors of at most 2^20 each fit 64 bits.
  return all(
      {{side(s.h) && side(s.w) && side(s.c), "a tensor has an axis of length zero or beyond 2^20"},
       {s.elements() <= kMaxElements, "a tensor has more than 2^28 elements"}});
}

Status check_tensor(const TensorInfo& t) noexcept {
  SLALOM_TRY(check_shape(t.shape));
  const bool codes = t.dtype == Dtype::kU8;
  return all({{codes || t.dtype == Dtype::kI32, "a tensor has an unknown data type"},
              {positive(t.scale), "a tensor's scale is not a positive number"},
              {within(t.zero_point, 0, codes ? 255 : 0),
               "a zero point is outside 0..255, or not zero for integers"}});
}

// axis_length is the number of windows along one axis, or 0 if none fits; reach is the distance
// between a window's first and last tap.
std::uint64_t axis_length(std::uint64_t in, std::uint64_t reach, std::uint64_t stride,
                          std::uint64_t before, std::uint64_t after) noexcept {
  const std::uint64_t padded = in + before + after;
  return padded <= reach ? 0 : (padded - reach - 1) / stride + 1;
}

Status check_window(const Window& w, const Shape& in, const Shape& out) noexcept {
  for (const std::uint32_t n :
       {w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.dilation_h, w.dilation_w}) {
    if (!within(n, 1, kMaxSide)) {
      return bad("a window's kernel, stride or dilation is out of range");
    }
  }
  // A window that could lie wholly in the padding has no meaning for pooling and hides work for
  // convolutions.
  const std::uint64_t reach_h = static_cast<std::uint64_t>(w.kernel_h - 1) * w.dilation_h;
  const std::uint64_t reach_w = static_cast<std::uint64_t>(w.kernel_w - 1) * w.dilation_w;
  return all({{static_cast<std::uint64_t>(w.kernel_h) * w.kernel_w <= kMaxSide,
               "a window has more than 2^20 taps"},
              {w.pad_top <= reach_h && w.pad_bottom <= reach_h && w.pad_left <= reach_w &&
                   w.pad_right <= reach_w,
               "a window's padding is as large as its reach"},
              {axis_length(in.h, reach_h, w.stride_h, w.pad_top, w.pad_bottom) == out.h &&
                   axis_length(in.w, reach_w, w.stride_w, w.pad_left, w.pad_right) == out.w,
               "a window's geometry does not give its output's shape"}});
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
  const std::int32_t least = out.dtype == Dtype::kU8 ? 0 : -kMaxInteger;
  const std::int32_t most = out.dtype == Dtype::kU8 ? 255 : kMaxInteger;
  return all({{lo >= least && hi <= most && lo <= hi, "a clamp is outside its tensor's range"}});
}

Status check_stage(const ConvStage& stage) noexcept {
  const Conv& c = stage.conv;
  SLALOM_TRY(check_shape(c.in));
  SLALOM_TRY(check_shape(c.out));
  if (c.groups == 0 || c.in.c % c.groups != 0 || c.out.c % c.groups != 0) {
    return bad("a convolution's groups do not divide its channels");
  }
  SLALOM_TRY(check_window(c.window, c.in, c.out));
  // 2^20 taps, 2^20 channels in and 2^20 out at most: the product fits 64 bits.
  return all(
      {{c.weights() == stage.weights.size(), "a convolution has the wrong number of weights"},
       {std::ranges::find(stage.weights, std::int8_t{-128}) == stage.weights.end(),
        "a weight is -128: weights are -127..127"}});
}

Status check_requant(const Requant& r, std::uint32_t channels, const TensorInfo& out) noexcept {
  const bool codes = out.dtype == Dtype::kU8;
  SLALOM_TRY(check_clamp(r.lo, r.hi, out));
  return all(
      {{r.multiplier.size() == 1 || r.multiplier.size() == channels,
        "a layer has the wrong number of multipliers"},
       {std::ranges::all_of(r.multiplier, positive), "a multiplier is not a positive number"},
       {r.table.empty() || (codes && r.table.size() == 256),
        "a table needs 256 entries and an 8-bit output"},
       {within(r.zero_point, 0, codes ? 255 : 0) &&
            (!r.table.empty() || r.zero_point == out.zero_point),
        "a layer's zero point does not agree with its output"}});
}

struct Context {
  const Plan& plan;
  const Node& node;

  [[nodiscard]] const TensorInfo& in(std::size_t i) const { return plan.tensors[node.inputs[i]]; }
  [[nodiscard]] const TensorInfo& out() const { return plan.tensors[node.output]; }
};

template <class T, class... Of>
inline constexpr bool kIsOneOf = (std::is_same_v<T, Of> || ...);

// check_tensors is what an operator's kind alone asks of its operands and its result. The checks of
// the operators follow, for what is particular to each.
template <class Op>
Status check_tensors(const Op& op, const Context& x) {
  constexpr std::size_t kInputs = kIsOneOf<Op, Constant> ? 0 : kIsOneOf<Op, Add, Mul> ? 2 : 1;
  const std::size_t inputs = x.node.inputs.size();
  if (kIsOneOf<Op, Concat> ? inputs == 0 : inputs != kInputs) {
    return bad("a node has the wrong number of inputs");
  }
  for (std::size_t i = 0; i < inputs; ++i) {
    if (x.in(i).dtype != Dtype::kU8) return bad("an operator reads a tensor that is not 8-bit");
  }
  if (kIsOneOf<Op, Table, Concat, Softmax, Constant> && x.out().dtype != Dtype::kU8) {
    return bad("this operator writes 8-bit codes only");
  }
  if (kIsOneOf<Op, Table, Prelu, Softmax, Lrn> && x.in(0).shape != x.out().shape) {
    return bad("an operator on single codes changes its tensor's shape");
  }
  if constexpr (kIsOneOf<Op, MaxPool, Pad, Slice, Transpose, Reshape>) {
    const TensorInfo& a = x.in(0);
    const TensorInfo& b = x.out();
    if (a.scale != b.scale || a.zero_point != b.zero_point || a.dtype != b.dtype) {
      return bad("an operator that moves codes changes their scale");
    }
  }
  if constexpr (requires { op.lo; }) return check_clamp(op.lo, op.hi, x.out());
  return {};
}

Status check(const Linear& op, const Context& x) {
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
  SLALOM_TRY(all({{op.in() == x.in(0).shape && op.out() == x.out().shape,
                   "a layer's shapes do not agree with its tensors"},
                  {!op.field || *op.field == field::Field::kP24 || *op.field == field::Field::kP31,
                   "a layer names an unknown field"},
                  {op.bias.size() == op.out().c, "a layer has the wrong number of biases"}}));
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
  const Shape& a = x.in(0).shape;
  const Shape& b = x.in(1).shape;
  const Shape both{broadcast(a.h, b.h), broadcast(a.w, b.w), broadcast(a.c, b.c)};
  return all({{both == x.out().shape, "the operands' shapes do not broadcast to the result's"}});
}
Status check(const Add& op, const Context& x) {
  SLALOM_TRY(check_broadcast(x));
  return all({{moderate(op.multiplier_a) && moderate(op.multiplier_b),
               "an addition's multiplier is not a number"}});
}
Status check(const Mul& op, const Context& x) {
  SLALOM_TRY(check_broadcast(x));
  return all({{moderate(op.multiplier), "a product's multiplier is not a number"}});
}

Status check(const Table& op, const Context&) {
  return all({{op.table.size() == 256, "a table does not have 256 entries"}});
}

Status check(const Prelu& op, const Context& x) {
  return all({{moderate(op.positive) && op.negative.size() == x.out().shape.c &&
                   std::ranges::all_of(op.negative, moderate),
               "a PRelu's slopes are not one number a channel"}});
}

Status check(const MaxPool& op, const Context& x) {
  return check_pool(op.window, x.in(0).shape, x.out().shape);
}

Status check(const AveragePool& op, const Context& x) {
  SLALOM_TRY(all({{positive(op.multiplier), "a pooling's multiplier is not a positive number"}}));
  return check_pool(op.window, x.in(0).shape, x.out().shape);
}

std::array<std::uint32_t, 3> axes(const Shape& s) noexcept { return {s.h, s.w, s.c}; }

Status check(const Concat& op, const Context& x) {
  SLALOM_TRY(all({{op.axis <= 2, "a concatenation has no axis"},
                  {op.multiplier.size() == x.node.inputs.size() &&
                       std::ranges::all_of(op.multiplier, positive),
                   "a concatenation has not one positive multiplier an operand"}}));
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
  return all({{x.in(0).shape.elements() == x.out().shape.elements(),
               "a reshape changes the number of elements"}});
}

Status check(const Softmax& op, const Context& x) {
  return all({{x.out().scale == 1.0F / 256 && x.out().zero_point == 0,
               "a softmax's output scale is not 1/256"},
              {op.table.size() == 256 && op.table[0] == (1U << 24) &&
                   std::is_sorted(op.table.rbegin(), op.table.rend()),
               "a softmax's table does not fall from 2^24"}});
}

Status check(const Lrn& op, const Context&) {
  return all(
      {// 255^2 * size stays in int32.
       {op.size % 2 == 1 && op.size <= 16'384 && within(op.beta_quarters, 2, 4),
        "a normalisation's size or exponent is not supported"},
       {op.alpha >= 0.0F && op.alpha <= kMaxScale && positive(op.bias) && positive(op.multiplier),
        "a normalisation's parameters are not positive numbers"}});
}

Status check(const Constant& op, const Context& x) {
  return all({{op.codes.size() == x.out().shape.elements(), "a constant has the wrong size"}});
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
  if (std::ranges::find(written, false) != written.end()) return bad("a tensor is never written");
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
  return all({{plan.inputs.size() == 1 && p.crop_h == in.h && p.crop_w == in.w,
               "the picture's crop is not the network's input"},
              {(in.c == 1 || in.c == 3) && p.mean.size() == in.c && p.std.size() == in.c &&
                   p.resize_shorter <= kMaxSide && p.interpolation <= Interpolation::kBicubic,
               "the picture's preparation is not one mean and deviation a channel"},
              {std::ranges::all_of(p.mean, moderate) && std::ranges::all_of(p.std, positive),
               "the picture's means or deviations are not numbers"}});
}

}  // namespace

Status validate(const Plan& plan) {
  for (const TensorInfo& tensor : plan.tensors) SLALOM_TRY(check_tensor(tensor));
  SLALOM_TRY(check_graph(plan));
  for (const Node& node : plan.nodes) {
    const Context context{plan, node};
    SLALOM_TRY(std::visit([&](const auto& op) { return check_tensors(op, context); }, node.op));
    SLALOM_TRY(std::visit([&](const auto& op) { return check(op, context); }, node.op));
  }
  SLALOM_TRY(check_shared_fields(plan));
  SLALOM_TRY(check_preprocess(plan));
  const std::size_t classes = plan.tensors[plan.outputs[0].tensor].shape.elements();
  return all(
      {{plan.labels.empty() || plan.labels.size() == classes, "a plan has not one label a class"}});
}

}  // namespace slalom::model
