// SPDX-License-Identifier: Apache-2.0
// Folding: the batch, shapes, and what does nothing.
#include "importer/fold.h"

#include "importer/fold_cases.h"

namespace slalom::importer {
namespace {

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
            "the input 'x' of shape [-1,3,-1,-1] leaves dimension 3 open: give its shape "
            "(--input-shape)");
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

}  // namespace
}  // namespace slalom::importer
