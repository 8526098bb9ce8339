// SPDX-License-Identifier: Apache-2.0
// Each test folds a small network, looks at what is left of it, and compares what it computes with
// what it computed before. The interpreter itself is tested against ONNX's own expectations.
#include "importer/fold.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "importer/interpreter.h"
#include "importer/model_builder.h"
#include "importer/onnx_reader.h"

namespace slalom::importer {
namespace {

using testing::ModelBuilder;
using testing::set_float;
using testing::set_int;
using testing::set_ints;
using testing::set_string;

std::vector<float> random_floats(std::size_t count, unsigned seed, float low = -1.0F) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(low, 1.0F);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(generator);
  return values;
}

Graph parsed(const ModelBuilder& builder) {
  auto graph = parse_onnx(builder.bytes());
  if (!graph) ADD_FAILURE() << graph.error().message();
  return graph ? std::move(graph).value() : Graph{};
}

Graph folded(const ModelBuilder& builder, const FoldOptions& options = {}) {
  auto graph = fold(parsed(builder), options);
  if (!graph) ADD_FAILURE() << graph.error().message();
  return graph ? std::move(graph).value() : Graph{};
}

std::string fold_error(const ModelBuilder& builder, const FoldOptions& options = {}) {
  const auto graph = fold(parsed(builder), options);
  return graph ? "no error" : graph.error().message();
}

std::vector<std::string> ops(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) names.push_back(node.op);
  return names;
}

using Ops = std::vector<std::string>;

std::vector<Tensor> outputs_of(const Graph& graph, const Tensor& x) {
  const auto result = run(graph, std::span(&x, 1));
  if (!result) ADD_FAILURE() << result.error().message();
  return result ? result.value() : std::vector<Tensor>{};
}

// expect_same compares the first outputs within float rounding, relative to the largest element.
void expect_close(const Tensor& found, const Tensor& expected) {
  ASSERT_EQ(found.shape(), expected.shape());
  const auto x = found.view<float>();
  const auto y = expected.view<float>();
  float largest = 1e-6F;
  for (const float value : y) largest = std::max(largest, std::fabs(value));
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 2e-6F * largest) << i;
}

// check_equivalent runs a network whose input is [batch, dims...] before and after folding. A
// network that fixes its batch at 1 is run image by image before.
void check_equivalent(const ModelBuilder& builder, const Graph& after, Shape dims) {
  const Graph before = parsed(builder);
  dims.insert(dims.begin(), 3);
  const Tensor x =
      Tensor::of(dims, random_floats(static_cast<std::size_t>(element_count(dims)), 99, -4.0F));
  const auto found = outputs_of(after, x);
  ASSERT_FALSE(found.empty());
  if (before.value(before.inputs[0]).shape[0] < 0) {
    const auto expected = outputs_of(before, x);
    ASSERT_FALSE(expected.empty());
    return expect_close(found[0], expected[0]);
  }
  std::vector<float> all;
  Shape shape;
  const std::size_t image = x.size() / 3;
  dims[0] = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    const Tensor one = Tensor::of(dims, x.view<float>().subspan(i * image, image));
    const auto part = outputs_of(before, one);
    ASSERT_FALSE(part.empty());
    const auto view = part[0].view<float>();
    all.insert(all.end(), view.begin(), view.end());
    shape = part[0].shape();
  }
  shape[0] *= 3;
  expect_close(found[0], Tensor::of(shape, all));
}

// --- Batch and shapes ---------------------------------------------------------------------

TEST(Fold, FindsTheBatchThroughShapeArithmetic) {
  // x.view(x.size(0), -1) as PyTorch exports it.
  ModelBuilder builder;
  builder.input("x", {0, 3, 4, 5}).output("y");
  builder.ints("zero", {}, {0});
  builder.ints("axes", {1}, {0});
  builder.ints("rest", {1}, {-1});
  builder.node("Shape", {"x"}, "shape");
  builder.node("Gather", {"shape", "zero"}, "n");
  builder.node("Unsqueeze", {"n", "axes"}, "n1");
  set_int(builder.node("Concat", {"n1", "rest"}, "target"), "axis", 0);
  builder.node("Reshape", {"x", "target"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), Ops{"Reshape"});
  const Value& y = graph.value(graph.outputs[0]);
  EXPECT_EQ(y.shape, (Shape{1, 60}));
  EXPECT_EQ(y.batch_axis, 0);
  const Tensor* target = graph.constant(graph.nodes[0].inputs[1]);
  ASSERT_NE(target, nullptr);
  EXPECT_EQ(*target, Tensor::of(Shape{2}, std::vector<std::int64_t>{0, 60}));
  check_equivalent(builder, graph, {3, 4, 5});
}

TEST(Fold, KnowsSeveralRowsOfAnImage) {
  ModelBuilder builder;
  builder.input("x", {0, 4, 3}).output("y");
  builder.ints("rows", {2}, {-1, 3});
  builder.node("Reshape", {"x", "rows"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(graph.value(graph.outputs[0]).shape, (Shape{4, 3}));
  EXPECT_EQ(graph.value(graph.outputs[0]).batch_axis, 0);
  EXPECT_EQ(*graph.constant(graph.nodes[0].inputs[1]),
            Tensor::of(Shape{2}, std::vector<std::int64_t>{-1, 3}));
  check_equivalent(builder, graph, {4, 3});
}

TEST(Fold, LiftsAFixedBatch) {
  ModelBuilder builder;
  builder.input("x", {1, 6, 2}).output("y");
  builder.ints("first", {3}, {1, 3, 4});
  builder.ints("second", {2}, {1, -1});
  builder.node("Reshape", {"x", "first"}, "a");
  builder.node("Relu", {"a"}, "b");
  builder.node("Reshape", {"b", "second"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(graph.value(graph.inputs[0]).batch_axis, 0);
  EXPECT_EQ(graph.value(graph.outputs[0]).shape, (Shape{1, 12}));
  EXPECT_EQ(graph.value(graph.outputs[0]).batch_axis, 0);
  check_equivalent(builder, graph, {6, 2});
}

TEST(Fold, FollowsTheBatchToAnotherAxis) {
  ModelBuilder builder;
  builder.input("x", {0, 6, 2}).output("y");
  set_ints(builder.node("Transpose", {"x"}, "y"), "perm", {1, 2, 0});
  const Graph graph = folded(builder);
  EXPECT_EQ(graph.value(graph.outputs[0]).shape, (Shape{6, 2, 1}));
  EXPECT_EQ(graph.value(graph.outputs[0]).batch_axis, 2);
}

TEST(Fold, SqueezeKeepsABatchOfOne) {
  ModelBuilder builder;
  builder.input("x", {0, 5, 1, 1}).output("y");
  builder.node("Squeeze", {"x"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), Ops{"Reshape"});
  const Tensor one = Tensor::of(Shape{1, 5, 1, 1}, random_floats(5, 1));
  EXPECT_EQ(outputs_of(graph, one)[0].shape(), (Shape{1, 5}));
}

TEST(Fold, RefusesWhatDependsOnTheBatchOtherwise) {
  ModelBuilder lost;  // drops the batch
  lost.input("x", {1, 6, 2}).output("y");
  lost.ints("target", {2}, {6, 2});
  lost.node("Reshape", {"x", "target"}, "y");
  EXPECT_EQ(fold_error(lost),
            "node 'y' (Reshape, opset 13): the shape [3,6,2] cannot become [6,2]");

  ModelBuilder joined;  // joins a constant to the images
  joined.input("x", {0, 2}).output("y");
  joined.floats("c", {1, 2}, {1, 2});
  set_int(joined.node("Concat", {"x", "c"}, "y"), "axis", 0);
  EXPECT_EQ(fold_error(joined),
            "node 'y' (Concat, opset 13): the shape of the result is neither fixed nor "
            "proportional to the batch: [4,2] for 3 images, [6,2] for 5");

  ModelBuilder computed;  // computes with the batch size
  computed.input("x", {0, 2}).output("y");
  computed.node("Shape", {"x"}, "shape");
  set_int(computed.node("Cast", {"shape"}, "s"), "to", onnx::TensorProto::FLOAT);
  computed.node("Add", {"x", "s"}, "y");
  EXPECT_EQ(fold_error(computed),
            "node 's' (Cast, opset 13): input 1 is computed from the size of the batch");

  ModelBuilder returned;
  returned.input("x", {0, 2}).output("y");
  returned.node("Shape", {"x"}, "y");
  EXPECT_EQ(fold_error(returned), "the output 'y' is computed from the size of the batch");
}

TEST(Fold, RefusesToMixImages) {
  const auto error = [](const char* op, const std::vector<std::int64_t>& operand,
                        void (*more)(onnx::NodeProto&)) {
    ModelBuilder builder;
    builder.input("x", {0, 4, 6}).output("y");
    builder.ints("i", {static_cast<std::int64_t>(operand.size())}, operand);
    auto& node = builder.node(op, {"x"}, "y");
    if (!operand.empty()) node.add_input("i");
    more(node);
    return fold_error(builder);
  };
  const auto with_axis = [](onnx::NodeProto& node) { set_int(node, "axis", 0); };
  EXPECT_EQ(error("Softmax", {}, with_axis),
            "node 'y' (Softmax, opset 13): it mixes the images of a batch");
  EXPECT_EQ(error("Concat", {},
                  [](auto& node) {
                    node.add_input("x");
                    set_int(node, "axis", 0);
                  }),
            "node 'y' (Concat, opset 13): it mixes the images of a batch");
  EXPECT_EQ(
      error("ReduceMean", {}, [](auto& node) { set_ints(node, "axes", {0}); }),
      "node 'y' (ReduceMean, opset 13): the result does not belong to one image of the batch");
  EXPECT_EQ(error("Reshape", {4, -1, 6}, [](auto&) {}),
            "node 'y' (Reshape, opset 13): it mixes the images of a batch");
  EXPECT_EQ(error("Reshape", {-1, 6}, [](auto&) {}), "no error");
  EXPECT_EQ(error("Gather", {0}, with_axis),
            "node 'y' (Gather, opset 13): the result does not belong to one image of the batch");

  ModelBuilder reversed;
  reversed.input("x", {0, 4}).output("y");
  reversed.ints("from", {1}, {-1});
  reversed.ints("to", {1}, {-1000});
  reversed.ints("axis", {1}, {0});
  reversed.ints("back", {1}, {-1});
  reversed.node("Slice", {"x", "from", "to", "axis", "back"}, "y");
  EXPECT_EQ(fold_error(reversed), "node 'y' (Slice, opset 13): it mixes the images of a batch");
}

TEST(Fold, AsksForOpenDimensions) {
  ModelBuilder builder;
  builder.input("x", {0, 3, 0, 0}).output("y").node("Relu", {"x"}, "y");
  EXPECT_EQ(fold_error(builder),
            "the input 'x' of shape [-1,3,-1,-1] leaves dimension 3 open: give its shape");
  FoldOptions options;
  options.input_shapes["x"] = {1, 3, 8, 9};
  EXPECT_EQ(folded(builder, options).value(0).shape, (Shape{1, 3, 8, 9}));
  options.input_shapes["x"] = {1, 4, 8, 9};
  EXPECT_EQ(fold_error(builder, options),
            "the shape [1,4,8,9] does not fit the input 'x' of shape [-1,3,-1,-1]");
  options.input_shapes.clear();
  options.input_shapes["z"] = {1};
  EXPECT_EQ(fold_error(builder, options), "the network has no input 'z'");
}

TEST(Fold, KeepsConstantWorkWithinTheBudget) {
  ModelBuilder builder;
  builder.input("x", {0, 2}).output("y");
  builder.ints("huge", {2}, {1'000'000, 1'000'000});
  builder.node("ConstantOfShape", {"huge"}, "c");
  builder.node("Add", {"x", "c"}, "y");
  EXPECT_EQ(fold_error(builder),
            "node 'c' (ConstantOfShape, opset 13): the constants of the network take too much to "
            "compute");
}

// --- No-ops -------------------------------------------------------------------------------

TEST(Fold, RemovesWhatDoesNothing) {
  ModelBuilder builder;
  builder.input("x", {0, 4}).output("y");
  builder.ints("same", {2}, {0, 4});
  builder.node("Identity", {"x"}, "a");
  builder.node("Dropout", {"a"}, "b");
  builder.node("Reshape", {"b", "same"}, "c");
  set_int(builder.node("Cast", {"c"}, "d"), "to", onnx::TensorProto::FLOAT16);
  builder.node("Relu", {"d"}, "e");
  builder.node("Identity", {"e"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), Ops{"Relu"});
  EXPECT_EQ(graph.value(graph.outputs[0]).name, "y");
  check_equivalent(builder, graph, {4});
}

TEST(Fold, KeepsAnIdentityBetweenInputAndOutput) {
  ModelBuilder builder;
  builder.input("x", {0, 4}).output("y").node("Identity", {"x"}, "y");
  EXPECT_EQ(ops(folded(builder)), Ops{"Identity"});
}

TEST(Fold, TurnsSumIntoAdd) {
  ModelBuilder builder;
  builder.input("x", {0, 4}).output("y");
  builder.node("Relu", {"x"}, "a");
  builder.node("Tanh", {"x"}, "b");
  builder.node("Sum", {"x", "a", "b", "x"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), (Ops{"Relu", "Tanh", "Add", "Add", "Add"}));
  check_equivalent(builder, graph, {4});
}

// --- Activations --------------------------------------------------------------------------

TEST(Fold, RecognisesSwish) {
  ModelBuilder builder;
  builder.input("x", {0, 4}).output("y");
  builder.node("Sigmoid", {"x"}, "s");
  builder.node("Mul", {"s", "x"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), Ops{"Swish"});
  check_equivalent(builder, graph, {4});
}

TEST(Fold, LeavesAGateOfAnotherTensor) {
  ModelBuilder builder;
  builder.input("x", {0, 4}).output("y");
  builder.node("Relu", {"x"}, "r");
  builder.node("Sigmoid", {"r"}, "s");
  builder.node("Mul", {"s", "x"}, "y");
  EXPECT_EQ(ops(folded(builder)), (Ops{"Relu", "Sigmoid", "Mul"}));
}

TEST(Fold, LeavesASigmoidThatIsAlsoAnOutput) {
  ModelBuilder builder;
  builder.input("x", {0, 4}).output("y").output("s");
  builder.node("Sigmoid", {"x"}, "s");
  builder.node("Mul", {"s", "x"}, "y");
  EXPECT_EQ(ops(folded(builder)), (Ops{"Sigmoid", "Mul"}));
}

ModelBuilder ramp_model() {
  ModelBuilder builder;
  builder.input("x", {0, 4}).output("y");
  builder.floats("three", {}, {3});
  builder.floats("zero", {}, {0});
  builder.floats("six", {}, {6});
  builder.floats("sixth", {}, {1.0F / 6.0F});
  builder.node("Add", {"x", "three"}, "a");
  builder.node("Clip", {"a", "zero", "six"}, "c");
  return builder;
}

TEST(Fold, RecognisesHardSwishInEveryOrder) {
  ModelBuilder divided = ramp_model();
  divided.node("Mul", {"x", "c"}, "m");
  divided.node("Div", {"m", "six"}, "y");
  ModelBuilder gate = ramp_model();
  gate.node("Div", {"c", "six"}, "h");
  gate.node("Mul", {"x", "h"}, "y");
  ModelBuilder multiplied = ramp_model();
  multiplied.node("Mul", {"c", "sixth"}, "h");
  multiplied.node("Mul", {"h", "x"}, "y");
  ModelBuilder hard;
  hard.input("x", {0, 4}).output("y");
  set_float(hard.node("HardSigmoid", {"x"}, "h"), "alpha", 1.0F / 6.0F);
  hard.node("Mul", {"x", "h"}, "y");
  for (const ModelBuilder& builder : {divided, gate, multiplied, hard}) {
    const Graph graph = folded(builder);
    EXPECT_EQ(ops(graph), Ops{"HardSwish"});
    check_equivalent(builder, graph, {4});
  }
}

TEST(Fold, RecognisesHardSigmoid) {
  ModelBuilder builder = ramp_model();
  builder.node("Div", {"c", "six"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), Ops{"HardSigmoid"});
  check_equivalent(builder, graph, {4});
}

TEST(Fold, LeavesOtherRamps) {
  ModelBuilder builder = ramp_model();
  builder.floats("five", {}, {5});
  builder.node("Div", {"c", "five"}, "h");
  builder.node("Mul", {"x", "h"}, "y");
  EXPECT_EQ(ops(folded(builder)), (Ops{"Add", "Clip", "Div", "Mul"}));
}

// --- Batch normalisation and other affine steps -------------------------------------------

void add_batch_norm(ModelBuilder& builder, std::int64_t channels, const char* in,
                    const std::string& out) {
  const auto count = static_cast<std::size_t>(channels);
  builder.floats("gamma", {channels}, random_floats(count, 11));
  builder.floats("beta", {channels}, random_floats(count, 12));
  builder.floats("mean", {channels}, random_floats(count, 13));
  builder.floats("variance", {channels}, random_floats(count, 14, 0.1F));
  builder.node("BatchNormalization", {in, "gamma", "beta", "mean", "variance"}, out);
}

TEST(Fold, FoldsBatchNormIntoLinearLayers) {
  ModelBuilder conv;
  conv.input("x", {0, 4, 6, 6}).output("y");
  conv.floats("w", {8, 2, 3, 3}, random_floats(144, 21));
  set_int(conv.node("Conv", {"x", "w"}, "a"), "group", 2);
  add_batch_norm(conv, 8, "a", "y");
  Graph graph = folded(conv);
  EXPECT_EQ(ops(graph), Ops{"Conv"});
  check_equivalent(conv, graph, {4, 6, 6});

  ModelBuilder transposed;
  transposed.input("x", {0, 4, 5, 5}).output("y");
  transposed.floats("w", {4, 3, 2, 2}, random_floats(48, 22));
  transposed.floats("b", {6}, random_floats(6, 23));
  set_int(transposed.node("ConvTranspose", {"x", "w", "b"}, "a"), "group", 2);
  add_batch_norm(transposed, 6, "a", "y");
  graph = folded(transposed);
  EXPECT_EQ(ops(graph), Ops{"ConvTranspose"});
  check_equivalent(transposed, graph, {4, 5, 5});

  for (const std::int64_t flip : {0, 1}) {
    ModelBuilder dense;
    dense.input("x", {0, 5}).output("y");
    if (flip == 0) dense.floats("w", {5, 7}, random_floats(35, 24));
    if (flip == 1) dense.floats("w", {7, 5}, random_floats(35, 24));
    dense.floats("b", {1, 7}, random_floats(7, 25));
    auto& node = dense.node("Gemm", {"x", "w", "b"}, "a");
    set_int(node, "transB", flip);
    set_float(node, "alpha", 0.5F);
    set_float(node, "beta", 2.0F);
    add_batch_norm(dense, 7, "a", "y");
    graph = folded(dense);
    EXPECT_EQ(ops(graph), Ops{"Gemm"});
    EXPECT_EQ(graph.nodes[0].attribute<float>("alpha"), nullptr);
    EXPECT_EQ(graph.constant(graph.nodes[0].inputs[2])->shape(), (Shape{7}));
    check_equivalent(dense, graph, {5});
  }
}

TEST(Fold, KeepsALoneBatchNormAsAScale) {
  ModelBuilder image;
  image.input("x", {0, 4, 6, 6}).output("y");
  image.node("Relu", {"x"}, "a");
  add_batch_norm(image, 4, "a", "y");
  Graph graph = folded(image);
  EXPECT_EQ(ops(graph), (Ops{"Relu", "Conv"}));
  EXPECT_EQ(graph.nodes[1].int_or("group", 1), 4);
  check_equivalent(image, graph, {4, 6, 6});

  ModelBuilder flat;
  flat.input("x", {0, 4}).output("y");
  add_batch_norm(flat, 4, "x", "y");
  graph = folded(flat);
  EXPECT_EQ(ops(graph), (Ops{"Mul", "Add"}));
  check_equivalent(flat, graph, {4});
}

TEST(Fold, DoesNotFoldWhenOthersReadTheLayer) {
  ModelBuilder builder;
  builder.input("x", {0, 4, 6, 6}).output("y");
  builder.floats("w", {4, 4, 1, 1}, random_floats(16, 31));
  builder.node("Conv", {"x", "w"}, "a");
  add_batch_norm(builder, 4, "a", "b");
  builder.node("Add", {"a", "b"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), (Ops{"Conv", "Conv", "Add"}));
  check_equivalent(builder, graph, {4, 6, 6});
}

TEST(Fold, SharedWeightsAreFoldedApart) {
  ModelBuilder builder;
  builder.input("x", {0, 4, 6, 6}).output("y");
  builder.floats("w", {4, 4, 1, 1}, random_floats(16, 32));
  builder.node("Conv", {"x", "w"}, "a");
  add_batch_norm(builder, 4, "a", "b");
  builder.node("Conv", {"x", "w"}, "c");
  builder.node("Add", {"b", "c"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), (Ops{"Conv", "Conv", "Add"}));
  check_equivalent(builder, graph, {4, 6, 6});
}

TEST(Fold, FoldsChainsOfConstants) {
  ModelBuilder builder;
  builder.input("x", {0, 4, 6, 6}).output("y");
  builder.floats("w", {3, 4, 1, 1}, random_floats(12, 33));
  builder.floats("scale", {1, 3, 1, 1}, {0.5F, -2.0F, 3.0F});
  builder.floats("shift", {3, 1, 1}, {1.0F, 2.0F, -1.0F});
  builder.floats("two", {}, {2});
  builder.node("Conv", {"x", "w"}, "a");
  builder.node("Mul", {"scale", "a"}, "b");
  builder.node("Add", {"b", "shift"}, "c");
  builder.node("Div", {"c", "two"}, "d");
  builder.node("Sub", {"two", "d"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), Ops{"Conv"});
  check_equivalent(builder, graph, {4, 6, 6});
}

TEST(Fold, LeavesConstantsThatAreNotPerChannel) {
  ModelBuilder builder;
  builder.input("x", {0, 3, 3, 3}).output("y");
  builder.floats("w", {3, 3, 1, 1}, random_floats(9, 34));
  builder.floats("columns", {3}, {1, 2, 3});
  builder.node("Conv", {"x", "w"}, "a");
  builder.node("Mul", {"a", "columns"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), (Ops{"Conv", "Mul"}));
  check_equivalent(builder, graph, {3, 3, 3});
}

TEST(Fold, MakesGemmOfMatMul) {
  ModelBuilder builder;
  builder.input("x", {0, 5}).output("y");
  builder.floats("w", {5, 3}, random_floats(15, 35));
  builder.floats("b", {3}, random_floats(3, 36));
  builder.node("MatMul", {"x", "w"}, "a");
  builder.node("Add", {"a", "b"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), Ops{"Gemm"});
  check_equivalent(builder, graph, {5});
}

TEST(Fold, RefusesAVarianceBelowZero) {
  ModelBuilder builder;
  builder.input("x", {0, 1, 2, 2}).output("y");
  builder.floats("one", {1}, {1});
  builder.floats("negative", {1}, {-1});
  builder.node("BatchNormalization", {"x", "one", "one", "one", "negative"}, "y");
  EXPECT_EQ(fold_error(builder),
            "node 'y' (BatchNormalization, opset 13): its parameters give a scale that is not "
            "finite");
}

// --- Windows and padding ------------------------------------------------------------------

TEST(Fold, MakesWindowsExplicit) {
  ModelBuilder builder;
  builder.input("x", {0, 2, 7, 8}).output("y");
  builder.floats("w", {2, 2, 3, 3}, random_floats(36, 41));
  auto& conv = builder.node("Conv", {"x", "w"}, "a");
  set_string(conv, "auto_pad", "SAME_UPPER");
  set_ints(conv, "strides", {2, 2});
  auto& pool = builder.node("MaxPool", {"a"}, "y");
  set_ints(pool, "kernel_shape", {3, 3});
  set_ints(pool, "strides", {2, 2});
  set_int(pool, "ceil_mode", 1);
  const Graph graph = folded(builder);
  using Ints = std::vector<std::int64_t>;
  const Node& a = graph.nodes[0];
  EXPECT_EQ(a.ints_or("pads", {}), (Ints{1, 0, 1, 1}));
  EXPECT_EQ(a.ints_or("kernel_shape", {}), (Ints{3, 3}));
  EXPECT_EQ(a.ints_or("dilations", {}), (Ints{1, 1}));
  EXPECT_EQ(a.int_or("group", 0), 1);
  EXPECT_EQ(a.attribute<std::string>("auto_pad"), nullptr);
  const Node& b = graph.nodes[1];
  EXPECT_EQ(b.attribute<std::int64_t>("ceil_mode"), nullptr);
  EXPECT_EQ(b.ints_or("pads", {}), (Ints{0, 0, 1, 1}));
  check_equivalent(builder, graph, {2, 7, 8});
}

TEST(Fold, KeepsCeilModeOnlyWhereItMatters) {
  for (const std::int64_t include : {0, 1}) {
    ModelBuilder builder;
    builder.input("x", {0, 2, 6, 6}).output("y");
    auto& pool = builder.node("AveragePool", {"x"}, "y");
    set_ints(pool, "kernel_shape", {3, 3});
    set_ints(pool, "strides", {2, 2});
    set_int(pool, "ceil_mode", 1);
    set_int(pool, "count_include_pad", include);
    const Graph graph = folded(builder);
    EXPECT_EQ(graph.nodes[0].int_or("ceil_mode", 0), include);
    EXPECT_EQ(graph.value(graph.outputs[0]).shape, (Shape{1, 2, 3, 3}));
    check_equivalent(builder, graph, {2, 6, 6});
  }
}

ModelBuilder pad_model(const std::vector<std::int64_t>& pads, float value = 0.0F) {
  ModelBuilder builder;
  builder.input("x", {0, 2, 6, 6}).output("y");
  builder.ints("pads", {8}, pads);
  builder.floats("value", {}, {value});
  builder.floats("w", {2, 2, 3, 3}, random_floats(36, 42));
  builder.node("Pad", {"x", "pads", "value"}, "p");
  return builder;
}

TEST(Fold, MergesPadIntoConv) {
  ModelBuilder builder = pad_model({0, 0, 1, 2, 0, 0, 3, 0});
  set_ints(builder.node("Conv", {"p", "w"}, "y"), "pads", {1, 0, 0, 1});
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), Ops{"Conv"});
  EXPECT_EQ(graph.nodes[0].ints_or("pads", {}), (std::vector<std::int64_t>{2, 2, 3, 1}));
  check_equivalent(builder, graph, {2, 6, 6});
}

TEST(Fold, MergesPadIntoAveragePool) {
  ModelBuilder builder = pad_model({0, 0, 1, 1, 0, 0, 1, 1});
  set_ints(builder.node("AveragePool", {"p"}, "y"), "kernel_shape", {3, 3});
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), Ops{"AveragePool"});
  EXPECT_EQ(graph.nodes[0].int_or("count_include_pad", 0), 1);
  check_equivalent(builder, graph, {2, 6, 6});
}

TEST(Fold, LeavesPadsThatAreNotZerosAroundImages) {
  ModelBuilder ones = pad_model({0, 0, 1, 1, 0, 0, 1, 1}, 1.0F);
  ones.node("Conv", {"p", "w"}, "y");
  EXPECT_EQ(ops(folded(ones)), (Ops{"Pad", "Conv"}));

  ModelBuilder crop = pad_model({0, 0, -1, 0, 0, 0, 0, 0});
  crop.node("Conv", {"p", "w"}, "y");
  EXPECT_EQ(ops(folded(crop)), (Ops{"Pad", "Conv"}));

  ModelBuilder reflected = pad_model({0, 0, 1, 1, 0, 0, 1, 1});
  set_string(*reflected.graph().mutable_node(0), "mode", "reflect");
  reflected.node("Conv", {"p", "w"}, "y");
  EXPECT_EQ(ops(folded(reflected)), (Ops{"Pad", "Conv"}));

  ModelBuilder pool = pad_model({0, 0, 1, 1, 0, 0, 1, 1});  // zeros would change a maximum
  set_ints(pool.node("MaxPool", {"p"}, "y"), "kernel_shape", {3, 3});
  EXPECT_EQ(ops(folded(pool)), (Ops{"Pad", "MaxPool"}));

  ModelBuilder wide = pad_model({0, 0, 3, 3, 0, 0, 3, 3});  // windows of padding alone
  set_ints(wide.node("AveragePool", {"p"}, "y"), "kernel_shape", {3, 3});
  EXPECT_EQ(ops(folded(wide)), (Ops{"Pad", "AveragePool"}));
}

// --- Quantised networks -------------------------------------------------------------------

TEST(Fold, KeepsQuantisedWeights) {
  ModelBuilder builder;
  builder.input("x", {0, 2, 4, 4}).output("y");
  builder.floats("scale", {}, {0.05F});
  auto& codes = builder.floats("codes", {2, 2, 1, 1}, {});
  codes.set_data_type(onnx::TensorProto::INT8);
  for (const int code : {1, -2, 3, 127}) codes.add_int32_data(code);
  builder.node("DequantizeLinear", {"codes", "scale"}, "w");
  builder.node("QuantizeLinear", {"x", "scale"}, "q");
  builder.node("DequantizeLinear", {"q", "scale"}, "d");
  builder.node("Conv", {"d", "w"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), (Ops{"DequantizeLinear", "QuantizeLinear", "DequantizeLinear", "Conv"}));
  check_equivalent(builder, graph, {2, 4, 4});
}

}  // namespace
}  // namespace slalom::importer
