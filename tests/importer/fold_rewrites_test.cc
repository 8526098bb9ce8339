// SPDX-License-Identifier: Apache-2.0
// Folding: activations, batch normalisation, windows, quantised weights.
#include "importer/fold.h"

#include "importer/fold_cases.h"

namespace slalom::importer {
namespace {

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

TEST(Fold, DividesByMultiplying) {
  ModelBuilder builder;
  builder.input("x", {0, 4}).output("y");
  builder.floats("ones", {4}, {1, 2, 3, 4});
  builder.node("Abs", {"x"}, "a");
  builder.node("Add", {"a", "ones"}, "b");
  builder.node("Div", {"x", "b"}, "c");
  builder.node("Div", {"ones", "b"}, "d");
  builder.node("Add", {"c", "d"}, "y");
  const Graph graph = folded(builder);
  EXPECT_EQ(ops(graph), (Ops{"Abs", "Add", "Reciprocal", "Mul", "Reciprocal", "Mul", "Add"}));
  check_equivalent(builder, graph, {4});
}

TEST(Fold, LeavesDivisionsThatAreOneFunctionOrByAConstant) {
  ModelBuilder builder;
  builder.input("x", {0, 4}).output("y");
  builder.floats("one", {}, {1});
  builder.floats("many", {4}, {1, 2, 3, 4});
  builder.node("Div", {"one", "x"}, "a");
  builder.node("Div", {"a", "many"}, "y");
  EXPECT_EQ(ops(folded(builder)), (Ops{"Div", "Div"}));
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
