// SPDX-License-Identifier: Apache-2.0
// Every rule of the validator by name: each edit of a good plan breaks one rule alone, and is
// refused for that rule and no other.

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <numeric>

#include "model/plan.h"
#include "support/plans.h"

namespace slalom::model {
namespace {

using testing::PlanBuilder;

// every_operator is a plan with each kind of operator; its zero points are 0 but for the input's.
Plan every_operator() {
  PlanBuilder b;
  const Window same{
      .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  const Window half{.kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2};
  std::vector<std::uint8_t> table(256);
  std::iota(table.begin(), table.end(), std::uint8_t{0});
  const auto x = b.input({4, 4, 3}, 5);
  const auto conv = b.conv(x, {.out_c = 4, .window = same});
  const auto pair = b.separable(conv, {.out_c = 4, .window = same});
  const auto sum = b.add(conv, pair);
  const auto product = b.node({sum, conv}, Mul{}, {4, 4, 4}, conv);
  const auto looked_up = b.node({product}, Table{table}, {4, 4, 4}, conv);
  const auto prelu = b.node({looked_up}, Prelu{.negative = {1, 1, 1, 1}}, {4, 4, 4}, conv);
  const auto largest = b.max_pool(prelu, half);
  const auto mean = b.average_pool(prelu, half);
  const auto joined =
      b.node({largest, mean}, Concat{.axis = 2, .multiplier = {1, 1}}, {2, 2, 8}, conv);
  const auto padded = b.node({joined}, Pad{.before = {1, 0, 0}}, {3, 2, 8}, conv);
  const auto slice = b.node({padded}, Slice{.begin = {2, 0, 0}}, {1, 2, 8}, conv);
  const auto turned = b.node({slice}, Transpose{{1, 0, 2}}, {2, 1, 8}, conv);
  const auto flat = b.reshape(turned, {1, 1, 16});
  const auto normal = b.node({flat}, Lrn{.size = 5}, {1, 1, 16}, conv);
  const auto fixed = b.node({}, Constant{std::vector<std::uint8_t>(16, 7)}, {1, 1, 16}, conv);
  const auto moved = b.add(normal, fixed);
  std::vector<std::uint32_t> exponentials(256, 1);
  exponentials[0] = 1U << 24;
  const auto likely = b.node({moved}, Softmax{exponentials}, {1, 1, 16}, conv);
  b.plan().tensors[likely].scale = 1.0F / 256;
  const auto scores = b.dense(moved, 10, true);
  Plan plan = b.finish({scores, likely});
  plan.preprocess = Preprocess{.crop_h = 4, .crop_w = 4, .mean = {0, 0, 0}, .std = {1, 1, 1}};
  plan.labels.assign(10, "label");
  return plan;
}

// node_of is the n-th node of a kind; of is its operator, result what it writes.
template <class Op>
Node& node_of(Plan& plan, int n = 0) {
  for (Node& node : plan.nodes) {
    if (std::holds_alternative<Op>(node.op) && n-- == 0) return node;
  }
  ADD_FAILURE() << "no such node";
  return plan.nodes.front();
}
template <class Op>
Op& of(Plan& plan, int n = 0) {
  return std::get<Op>(node_of<Op>(plan, n).op);
}
template <class Op>
TensorInfo& result(Plan& plan, int n = 0) {
  return plan.tensors[node_of<Op>(plan, n).output];
}

Linear& conv_of(Plan& plan) { return of<Linear>(plan, 0); }
Linear& pair_of(Plan& plan) { return of<Linear>(plan, 1); }
Linear& scores_of(Plan& plan) { return of<Linear>(plan, 2); }
Window& window_of(Plan& plan) { return conv_of(plan).stages[0].conv.window; }

// restage changes a stage's geometry and gives it as many weights as it then needs.
void restage(ConvStage& stage, const std::function<void(Conv&)>& change) {
  change(stage.conv);
  stage.weights.resize(stage.conv.weights(), 1);
}
void make_integers(TensorInfo& tensor) {
  tensor.dtype = Dtype::kI32;
  tensor.zero_point = 0;
}

TEST(PlanRules, APlanWithEveryOperatorIsGood) {
  const Plan plan = every_operator();
  const auto status = validate(plan);
  EXPECT_TRUE(status.ok()) << status.error().message;
  std::vector<bool> seen(std::variant_size_v<Op>, false);
  for (const Node& node : plan.nodes) seen[node.op.index()] = true;
  EXPECT_EQ(std::find(seen.begin(), seen.end(), false), seen.end());
}

struct Rule {
  const char* name;
  const char* refusal;
  std::function<void(Plan&)> edit;
};

class PlanRules : public ::testing::TestWithParam<Rule> {};

TEST_P(PlanRules, AreEnforced) {
  Plan plan = every_operator();
  GetParam().edit(plan);
  const auto status = validate(plan);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kMalformed);
  EXPECT_STREQ(status.error().message, GetParam().refusal);
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr const char* kAxis = "a tensor has an axis of length zero or beyond 2^20";
constexpr const char* kZeroPoint = "a zero point is outside 0..255, or not zero for integers";
constexpr const char* kWindow = "a window's kernel, stride or dilation is out of range";
constexpr const char* kPadding = "a window's padding is as large as its reach";
constexpr const char* kGeometry = "a window's geometry does not give its output's shape";
constexpr const char* kGroups = "a convolution's groups do not divide its channels";
constexpr const char* kWeights = "a convolution has the wrong number of weights";
constexpr const char* kClamp = "a clamp is outside its tensor's range";
constexpr const char* kTable = "a table needs 256 entries and an 8-bit output";
constexpr const char* kInputs = "a node has the wrong number of inputs";
constexpr const char* kCodesOnly = "this operator writes 8-bit codes only";
constexpr const char* kSingle = "an operator on single codes changes its tensor's shape";
constexpr const char* kMoves = "an operator that moves codes changes their scale";
constexpr const char* kPair = "a separable layer is not a depthwise and a pointwise convolution";
constexpr const char* kShapes = "a layer's shapes do not agree with its tensors";
constexpr const char* kBroadcast = "the operands' shapes do not broadcast to the result's";
constexpr const char* kSlopes = "a PRelu's slopes are not one number a channel";
constexpr const char* kMultipliers = "a concatenation has not one positive multiplier an operand";
constexpr const char* kTransposed = "a transposition does not give its output's shape";
constexpr const char* kFalls = "a softmax's table does not fall from 2^24";
constexpr const char* kSoftmaxScale = "a softmax's output scale is not 1/256";
constexpr const char* kLrnSize = "a normalisation's size or exponent is not supported";
constexpr const char* kLrnNumbers = "a normalisation's parameters are not positive numbers";
constexpr const char* kDistinct = "a plan's inputs are not distinct tensors";
constexpr const char* kNothing = "a plan has no input or no output";
constexpr const char* kCrop = "the picture's crop is not the network's input";
constexpr const char* kPrepared =
    "the picture's preparation is not one mean and deviation a channel";
constexpr const char* kPictureNumbers = "the picture's means or deviations are not numbers";

const Rule kTensors[] = {
    {"axis_empty", kAxis, [](Plan& p) { result<Table>(p).shape.w = 0; }},
    {"axis_too_long", kAxis,
     [](Plan& p) {
       result<Table>(p).shape = {1, (1U << 20) + 1, 1};
     }},
    {"elements", "a tensor has more than 2^28 elements",
     [](Plan& p) {
       result<Table>(p).shape = {1, (1U << 14) + 1, 1U << 14};
     }},
    {"type", "a tensor has an unknown data type",
     [](Plan& p) { result<Table>(p).dtype = Dtype{3}; }},
    {"scale_infinite", "a tensor's scale is not a positive number",
     [](Plan& p) { result<Table>(p).scale = kInfinity; }},
    {"scale_zero", "a tensor's scale is not a positive number",
     [](Plan& p) { result<Table>(p).scale = 0; }},
    {"zero_point_below", kZeroPoint, [](Plan& p) { result<Table>(p).zero_point = -1; }},
    {"zero_point_above", kZeroPoint, [](Plan& p) { result<Table>(p).zero_point = 256; }},
    {"zero_point_of_integers", kZeroPoint, [](Plan& p) { result<Linear>(p, 2).zero_point = 1; }},
};

const Rule kGraph[] = {
    {"no_input", kNothing, [](Plan& p) { p.inputs.clear(); }},
    {"no_output", kNothing, [](Plan& p) { p.outputs.clear(); }},
    {"input_twice", kDistinct,
     [](Plan& p) {
       p.inputs = {0, 0};
     }},
    {"input_unknown", kDistinct,
     [](Plan& p) { p.inputs.push_back(static_cast<TensorId>(p.tensors.size())); }},
    {"input_of_integers", "a plan's input is not 8-bit",
     [](Plan& p) { make_integers(p.tensors[0]); }},
    {"read_too_early", "a node reads a tensor before it is written",
     [](Plan& p) { std::swap(p.nodes[3], p.nodes[4]); }},
    {"written_twice", "a tensor is written twice",
     [](Plan& p) { p.nodes[1].output = p.nodes[0].output; }},
    {"never_written", "a tensor is never written",
     [](Plan& p) { p.tensors.push_back(p.tensors[0]); }},
    {"output_unknown", "an output names no tensor",
     [](Plan& p) { p.outputs[0].tensor = static_cast<TensorId>(p.tensors.size()); }},
    {"output_function", "an output's function is unknown",
     [](Plan& p) { p.outputs[0].function = Final{3}; }},
    {"labels", "a plan has not one label a class", [](Plan& p) { p.labels.pop_back(); }},
    {"shared_field", "layers that share an input differ in field",
     [](Plan& p) {
       p.nodes.push_back(node_of<Linear>(p, 2));
       std::get<Linear>(p.nodes.back().op).field = field::Field::kP31;
       p.tensors.push_back(result<Linear>(p, 2));
       p.nodes.back().output = static_cast<TensorId>(p.tensors.size() - 1);
     }},
    {"crop_high", kCrop, [](Plan& p) { p.preprocess->crop_h = 5; }},
    {"crop_wide", kCrop, [](Plan& p) { p.preprocess->crop_w = 5; }},
    {"mean_missing", kPrepared, [](Plan& p) { p.preprocess->mean.pop_back(); }},
    {"deviation_missing", kPrepared, [](Plan& p) { p.preprocess->std.pop_back(); }},
    {"interpolation", kPrepared, [](Plan& p) { p.preprocess->interpolation = Interpolation{3}; }},
    {"resize", kPrepared, [](Plan& p) { p.preprocess->resize_shorter = (1U << 20) + 1; }},
    {"mean_infinite", kPictureNumbers, [](Plan& p) { p.preprocess->mean[2] = kInfinity; }},
    {"deviation_zero", kPictureNumbers, [](Plan& p) { p.preprocess->std[2] = 0; }},
};

const Rule kLayers[] = {
    {"kernel_empty", kWindow, [](Plan& p) { window_of(p).kernel_h = 0; }},
    {"kernel_too_long", kWindow, [](Plan& p) { window_of(p).kernel_w = (1U << 20) + 1; }},
    {"stride_empty", kWindow, [](Plan& p) { window_of(p).stride_w = 0; }},
    {"dilation_empty", kWindow, [](Plan& p) { window_of(p).dilation_h = 0; }},
    {"taps", "a window has more than 2^20 taps",
     [](Plan& p) { window_of(p).kernel_h = window_of(p).kernel_w = (1U << 10) + 1; }},
    {"padding_top", kPadding, [](Plan& p) { window_of(p).pad_top = 3; }},
    {"padding_bottom", kPadding, [](Plan& p) { window_of(p).pad_bottom = 3; }},
    {"padding_left", kPadding, [](Plan& p) { window_of(p).pad_left = 3; }},
    {"padding_right", kPadding, [](Plan& p) { window_of(p).pad_right = 3; }},
    {"rows", kGeometry, [](Plan& p) { window_of(p).stride_h = 2; }},
    {"columns", kGeometry, [](Plan& p) { window_of(p).stride_w = 2; }},
    {"groups_none", kGroups, [](Plan& p) { conv_of(p).stages[0].conv.groups = 0; }},
    {"groups_in", kGroups, [](Plan& p) { conv_of(p).stages[0].conv.groups = 2; }},
    {"groups_out", kGroups, [](Plan& p) { conv_of(p).stages[0].conv.groups = 3; }},
    {"weights_fewer", kWeights, [](Plan& p) { conv_of(p).stages[0].weights.pop_back(); }},
    {"weights_more", kWeights, [](Plan& p) { conv_of(p).stages[0].weights.push_back(0); }},
    {"weight_lowest", "a weight is -128: weights are -127..127",
     [](Plan& p) { conv_of(p).stages[0].weights.back() = -128; }},
    {"stages_none", "a layer has no stage or more than two",
     [](Plan& p) { conv_of(p).stages.clear(); }},
    {"stages_three", "a layer has no stage or more than two",
     [](Plan& p) { pair_of(p).stages.push_back(pair_of(p).stages[1]); }},
    {"pair_not_depthwise", kPair,
     [](Plan& p) { restage(pair_of(p).stages[0], [](Conv& c) { c.groups = 1; }); }},
    {"pair_not_pointwise", kPair, [](Plan& p) { pair_of(p).stages[1].conv.window.dilation_h = 2; }},
    {"pair_in_groups", kPair,
     [](Plan& p) { restage(pair_of(p).stages[1], [](Conv& c) { c.groups = 2; }); }},
    {"pair_apart", kPair,
     [](Plan& p) {
       restage(pair_of(p).stages[0], [](Conv& c) {
         c.window.stride_h = c.window.stride_w = 2;
         c.out.h = c.out.w = 2;
       });
     }},
    {"reads_another_shape", kShapes,
     [](Plan& p) {
       conv_of(p).stages[0].conv.in.h = 5;
       window_of(p).pad_bottom = 0;
     }},
    {"writes_another_shape", kShapes,
     [](Plan& p) {
       conv_of(p).stages[0].conv.out.h = 5;
       window_of(p).pad_bottom = 2;
     }},
    {"field", "a layer names an unknown field",
     [](Plan& p) { conv_of(p).field = field::Field{5}; }},
    {"biases", "a layer has the wrong number of biases",
     [](Plan& p) { conv_of(p).bias.push_back(0); }},
    {"multipliers", "a layer has the wrong number of multipliers",
     [](Plan& p) { conv_of(p).requant.multiplier.resize(2); }},
    {"multiplier_negative", "a multiplier is not a positive number",
     [](Plan& p) { conv_of(p).requant.multiplier[3] = -1; }},
    {"multiplier_large", "a multiplier is not a positive number",
     [](Plan& p) { conv_of(p).requant.multiplier[3] = 2e30F; }},
    {"clamp_below", kClamp, [](Plan& p) { conv_of(p).requant.lo = -1; }},
    {"clamp_above", kClamp, [](Plan& p) { conv_of(p).requant.hi = 256; }},
    {"clamp_crossed", kClamp, [](Plan& p) { conv_of(p).requant.lo = 256; }},
    {"clamp_turned", kClamp,
     [](Plan& p) {
       conv_of(p).requant.lo = 9;
       conv_of(p).requant.hi = 8;
     }},
    {"clamp_of_integers", kClamp, [](Plan& p) { scores_of(p).requant.hi = (1 << 30) + 1; }},
    {"table", kTable, [](Plan& p) { conv_of(p).requant.table.resize(255); }},
    {"table_of_integers", kTable, [](Plan& p) { scores_of(p).requant.table.resize(256); }},
    {"zero_point", "a layer's zero point does not agree with its output",
     [](Plan& p) { conv_of(p).requant.zero_point = 1; }},
    {"zero_point_before_a_table", "a layer's zero point does not agree with its output",
     [](Plan& p) {
       conv_of(p).requant.table.resize(256);
       conv_of(p).requant.zero_point = 256;
     }},
};

const Rule kOperators[] = {
    {"inputs_more", kInputs, [](Plan& p) { node_of<Table>(p).inputs.push_back(0); }},
    {"inputs_fewer", kInputs, [](Plan& p) { node_of<Mul>(p).inputs.pop_back(); }},
    {"nothing_to_join", kInputs,
     [](Plan& p) {
       node_of<Concat>(p).inputs.clear();
       of<Concat>(p).multiplier.clear();
     }},
    {"reads_integers", "an operator reads a tensor that is not 8-bit",
     [](Plan& p) {
       node_of<Softmax>(p).inputs[0] = node_of<Linear>(p, 2).output;
       std::swap(p.nodes[p.nodes.size() - 1], p.nodes[p.nodes.size() - 2]);
     }},
    {"table_writes_integers", kCodesOnly, [](Plan& p) { make_integers(result<Table>(p)); }},
    {"concat_writes_integers", kCodesOnly, [](Plan& p) { make_integers(result<Concat>(p)); }},
    {"table_reshapes", kSingle, [](Plan& p) { result<Table>(p).shape.c = 5; }},
    {"prelu_reshapes", kSingle, [](Plan& p) { result<Prelu>(p).shape.h = 5; }},
    {"pool_rescales", kMoves, [](Plan& p) { result<MaxPool>(p).scale *= 2; }},
    {"pad_shifts", kMoves, [](Plan& p) { result<Pad>(p).zero_point = 1; }},
    {"slice_widens", kMoves, [](Plan& p) { make_integers(result<Slice>(p)); }},
    {"sum_clamp", kClamp, [](Plan& p) { of<Add>(p).hi = 256; }},
    {"sum_shape", kBroadcast, [](Plan& p) { result<Add>(p).shape.w = 5; }},
    {"sum_channels", kBroadcast, [](Plan& p) { result<Add>(p).shape.c = 8; }},
    {"sum_first", "an addition's multiplier is not a number",
     [](Plan& p) { of<Add>(p).multiplier_a = kInfinity; }},
    {"sum_second", "an addition's multiplier is not a number",
     [](Plan& p) { of<Add>(p).multiplier_b = 2e30F; }},
    {"product", "a product's multiplier is not a number",
     [](Plan& p) { of<Mul>(p).multiplier = kInfinity; }},
    {"table_short", "a table does not have 256 entries",
     [](Plan& p) { of<Table>(p).table.pop_back(); }},
    {"slope_missing", kSlopes, [](Plan& p) { of<Prelu>(p).negative.pop_back(); }},
    {"slope_infinite", kSlopes, [](Plan& p) { of<Prelu>(p).negative[3] = kInfinity; }},
    {"slope_positive_infinite", kSlopes, [](Plan& p) { of<Prelu>(p).positive = kInfinity; }},
    {"pool_channels", "a pooling changes the number of channels",
     [](Plan& p) { result<MaxPool>(p).shape.c = 5; }},
    {"mean_multiplier", "a pooling's multiplier is not a positive number",
     [](Plan& p) { of<AveragePool>(p).multiplier = 0; }},
    {"concat_axis", "a concatenation has no axis", [](Plan& p) { of<Concat>(p).axis = 3; }},
    {"concat_multiplier_missing", kMultipliers,
     [](Plan& p) { of<Concat>(p).multiplier.pop_back(); }},
    {"concat_multiplier_zero", kMultipliers, [](Plan& p) { of<Concat>(p).multiplier[1] = 0; }},
    {"concat_apart", "a concatenation's operands do not fit together",
     [](Plan& p) { result<Concat>(p).shape.h = 3; }},
    {"concat_with_room", "a concatenation's operands do not fill its result",
     [](Plan& p) { result<Concat>(p).shape.c = 9; }},
    {"padding", "a padding does not give its output's shape",
     [](Plan& p) { result<Pad>(p).shape.h = 4; }},
    {"slice_behind", "a slice reaches past its input", [](Plan& p) { of<Slice>(p).begin[0] = 3; }},
    {"slice_stands", "a slice reaches past its input", [](Plan& p) { of<Slice>(p).step[1] = 0; }},
    {"transposed_shape", kTransposed,
     [](Plan& p) {
       result<Transpose>(p).shape = {1, 2, 8};
     }},
    {"transposed_axis", kTransposed, [](Plan& p) { of<Transpose>(p).perm[2] = 3; }},
    {"transposed_twice", "a transposition names an axis twice",
     [](Plan& p) {
       of<Transpose>(p).perm = {0, 0, 2};
       result<Transpose>(p).shape = {1, 1, 8};
     }},
    {"reshape_loses", "a reshape changes the number of elements",
     [](Plan& p) { result<Reshape>(p).shape.c = 15; }},
    {"reshape_makes", "a reshape changes the number of elements",
     [](Plan& p) { result<Reshape>(p).shape.c = 17; }},
    {"softmax_scale", kSoftmaxScale, [](Plan& p) { result<Softmax>(p).scale = 1.0F / 128; }},
    {"softmax_zero_point", kSoftmaxScale, [](Plan& p) { result<Softmax>(p).zero_point = 1; }},
    {"softmax_short", kFalls, [](Plan& p) { of<Softmax>(p).table.pop_back(); }},
    {"softmax_first", kFalls, [](Plan& p) { of<Softmax>(p).table[0] -= 1; }},
    {"softmax_rises", kFalls, [](Plan& p) { of<Softmax>(p).table[255] = 2; }},
    {"lrn_even", kLrnSize, [](Plan& p) { of<Lrn>(p).size = 4; }},
    {"lrn_wide", kLrnSize, [](Plan& p) { of<Lrn>(p).size = 16'385; }},
    {"lrn_exponent_low", kLrnSize, [](Plan& p) { of<Lrn>(p).beta_quarters = 1; }},
    {"lrn_exponent_high", kLrnSize, [](Plan& p) { of<Lrn>(p).beta_quarters = 5; }},
    {"lrn_alpha", kLrnNumbers, [](Plan& p) { of<Lrn>(p).alpha = -1; }},
    {"lrn_alpha_large", kLrnNumbers, [](Plan& p) { of<Lrn>(p).alpha = kInfinity; }},
    {"lrn_bias", kLrnNumbers, [](Plan& p) { of<Lrn>(p).bias = 0; }},
    {"lrn_multiplier", kLrnNumbers, [](Plan& p) { of<Lrn>(p).multiplier = 0; }},
    {"constant", "a constant has the wrong size",
     [](Plan& p) { of<Constant>(p).codes.pop_back(); }},
};

const auto kName = [](const auto& rule) { return rule.param.name; };
INSTANTIATE_TEST_SUITE_P(OfTensors, PlanRules, ::testing::ValuesIn(kTensors), kName);
INSTANTIATE_TEST_SUITE_P(OfTheGraph, PlanRules, ::testing::ValuesIn(kGraph), kName);
INSTANTIATE_TEST_SUITE_P(OfLayers, PlanRules, ::testing::ValuesIn(kLayers), kName);
INSTANTIATE_TEST_SUITE_P(OfOperators, PlanRules, ::testing::ValuesIn(kOperators), kName);

TEST(PlanBounds, TheAccumulatorHoldsEverySumAndNoMore) {
  Plan plan = every_operator();
  Linear& layer = conv_of(plan);
  const std::int64_t most = (std::int64_t{1} << 31) - 1 - sum_bound(layer)[0];
  for (const std::int64_t sign : {1, -1}) {
    layer.bias[0] = static_cast<std::int32_t>(sign * most);
    EXPECT_TRUE(validate(plan).ok());
    layer.bias[0] = static_cast<std::int32_t>(sign * (most + 1));
    EXPECT_STREQ(validate(plan).error().message, "a layer's sums can leave 32 bits");
  }
}

// One weight of 1 and others of -65,535 together: 127 + 128 * 65,535 = 8,388,607 = (p + 1) / 2. So
// with all signs turned, where the sum is below zero.
TEST(PlanBounds, TheFieldHoldsEverySumAndNoMore) {
  PlanBuilder b;
  const auto x = b.input({1, 1, 518});
  Plan plan = b.finish({b.dense(x, 1)});
  Linear& layer = conv_of(plan);
  layer.field = field::Field::kP24;
  auto& w = layer.stages[0].weights;
  for (const int sign : {1, -1}) {
    std::fill(w.begin(), w.end(), static_cast<std::int8_t>(-127 * sign));
    w[0] = static_cast<std::int8_t>(sign);
    w[1] = static_cast<std::int8_t>(-3 * sign);
    EXPECT_EQ(sum_bound(layer)[0], (std::int64_t{field::kP24} + 1) / 2);
    EXPECT_STREQ(validate(plan).error().message, "a layer's sums can leave its field");
    w[0] = 0;
    EXPECT_TRUE(validate(plan).ok());
  }
}

// The sums of a separable pair reach 2^63: bounds saturate and do not wrap around.
TEST(PlanBounds, SaturateBeyond64Bits) {
  Linear layer;
  Conv wide{.in = {1, 1, 1}, .out = {1, 1, 1}, .window = {.kernel_w = 1U << 20}};
  for (int stage = 0; stage < 3; ++stage) {
    layer.stages.push_back({wide, std::vector<std::int8_t>(1U << 20, stage == 2 ? -127 : 127)});
  }
  EXPECT_EQ(sum_bound(layer)[0], std::numeric_limits<std::int64_t>::max());
}

TEST(PlanBounds, PoolingWindowsMustTouchTheInputOnBothAxes) {
  for (const bool rows : {true, false}) {
    PlanBuilder b;
    Window w{.kernel_h = 2, .dilation_h = 4, .pad_top = 2, .pad_bottom = 2};
    if (!rows) w = {.kernel_w = 2, .dilation_w = 4, .pad_left = 2, .pad_right = 2};
    const auto x = b.input(rows ? Shape{1, 8, 2} : Shape{8, 1, 2});
    EXPECT_STREQ(validate(b.finish({b.max_pool(x, w)})).error().message,
                 "a pooling window lies wholly in the padding");
  }
}

}  // namespace
}  // namespace slalom::model
