// SPDX-License-Identifier: Apache-2.0
#include "importer/interpreter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "importer/fold.h"
#include "importer/model_builder.h"
#include "importer/onnx_reader.h"
#include "importer/ops/gemm.h"
#include "importer/ops/math.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

using testing::ModelBuilder;
using testing::set_int;
using testing::set_ints;

std::vector<float> random_floats(std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(generator);
  return values;
}

Tensor random_tensor(const Shape& shape, unsigned seed) {
  return Tensor::of(shape, random_floats(static_cast<std::size_t>(element_count(shape)), seed));
}

// --- exp, log -----------------------------------------------------------------------------

TEST(Math, ExpAndLogAgreeWithLongDouble) {
  for (int i = -70000; i <= 70000; ++i) {
    const double x = i / 100.0;
    const long double expected = std::exp(static_cast<long double>(x));
    EXPECT_NEAR(static_cast<double>(exp_double(x) / expected), 1.0, 0x1p-48) << x;
  }
  double x = 1e-310;
  while (x < 1e300) {
    const long double expected = std::log(static_cast<long double>(x));
    EXPECT_NEAR(
        static_cast<double>((log_double(x) - expected) / std::max(std::fabs(expected), 1e-3L)), 0.0,
        0x1p-48)
        << x;
    x *= 1.0137;
  }
}

TEST(Math, EdgesAreDefined) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(exp_double(infinity), infinity);
  EXPECT_EQ(exp_double(-infinity), 0.0);
  EXPECT_TRUE(std::isnan(exp_double(std::nan(""))));
  EXPECT_EQ(log_double(0.0), -infinity);
  EXPECT_EQ(log_double(infinity), infinity);
  EXPECT_TRUE(std::isnan(log_double(-1.0)));
  EXPECT_TRUE(std::isnan(log_double(std::nan(""))));
  EXPECT_EQ(tanh_float(100.0F), 1.0F);
  EXPECT_EQ(sigmoid_float(-200.0F), 0.0F);
  for (const float x : {1e-6F, 1e-3F, 0.1F, 1.0F, 5.0F}) {
    EXPECT_FLOAT_EQ(tanh_float(x), std::tanh(x));
    EXPECT_FLOAT_EQ(tanh_float(-x), std::tanh(-x));
  }
}

// --- Products of matrices -----------------------------------------------------------------

// plain_product is the definition in gemm.h, word by word.
std::vector<float> plain_product(std::size_t m, std::size_t n, std::size_t k,
                                 const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> c(m * n, 0.0F);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t p = 0; p < k; ++p) {
      for (std::size_t j = 0; j < n; ++j) {
        const float product = a[i * k + p] * b[p * n + j];
        c[i * n + j] += product;
      }
    }
  }
  return c;
}

TEST(Gemm, EveryKernelGivesTheSameBits) {
  std::size_t kernels = 0;
  for (const GemmKernel* kernel : gemm_kernels()) {
    if (!kernel->supported()) continue;
    ++kernels;
    for (const auto& [m, n, k] : {std::array<std::size_t, 3>{1, 1, 1},
                                  {3, 5, 7},
                                  {13, 33, 257},
                                  {24, 64, 512},
                                  {50, 600, 300},
                                  {1, 1000, 2},
                                  {700, 1, 3}}) {
      const auto a = random_floats(m * k, 1);
      const auto b = random_floats(k * n, 2);
      const auto expected = plain_product(m, n, k, a, b);
      for (const unsigned threads : {1U, 2U, 5U}) {
        std::vector<float> c(m * n, -1.0F);
        const PackedA packed(
            *kernel, m, k,
            {.data = a.data(), .row_step = static_cast<std::ptrdiff_t>(k), .col_step = 1});
        gemm(packed, n,
             {.data = b.data(), .row_step = static_cast<std::ptrdiff_t>(n), .col_step = 1},
             c.data(), n, threads);
        EXPECT_EQ(c, expected) << kernel->name << " " << m << "x" << n << "x" << k;
      }
    }
  }
  EXPECT_GE(kernels, 1U);
  EXPECT_EQ(best_gemm_kernel().supported(), true);
}

TEST(Gemm, AnEmptySumIsZero) {
  std::vector<float> c(6, 5.0F);
  const PackedA packed(best_gemm_kernel(), 2, 0, {});
  gemm(packed, 3, {}, c.data(), 3, 1);
  EXPECT_EQ(c, std::vector<float>(6, 0.0F));
}

// --- run ----------------------------------------------------------------------------------

// conv_network has an open batch, a grouped and a dense convolution and a pool.
Graph conv_network() {
  ModelBuilder builder;
  builder.input("x", {0, 8, 17, 19}).output("y").output("a");
  builder.floats("w1", {8, 1, 3, 3}, random_floats(72, 3));
  builder.floats("w2", {12, 8, 3, 3}, random_floats(864, 4));
  builder.floats("b2", {12}, random_floats(12, 5));
  auto& depthwise = builder.node("Conv", {"x", "w1"}, "a");
  set_int(depthwise, "group", 8);
  set_ints(depthwise, "pads", {1, 1, 1, 1});
  auto& dense = builder.node("Conv", {"a", "w2", "b2"}, "b");
  set_ints(dense, "strides", {2, 1});
  builder.node("Sigmoid", {"b"}, "c");
  builder.node("GlobalAveragePool", {"c"}, "y");
  auto graph = parse_onnx(builder.bytes());
  return std::move(graph).value();
}

TEST(Interpreter, ThreadsDoNotChangeABit) {
  const Graph graph = conv_network();
  const Tensor x = random_tensor({3, 8, 17, 19}, 6);
  RunOptions one;
  one.threads = 1;
  const auto expected = run(graph, std::span(&x, 1), one);
  ASSERT_TRUE(expected.ok()) << expected.error().message();
  for (const unsigned threads : {2U, 3U, 8U}) {
    RunOptions many;
    many.threads = threads;
    const auto found = run(graph, std::span(&x, 1), many);
    ASSERT_TRUE(found.ok());
    EXPECT_TRUE(found.value() == expected.value()) << threads;
  }
}

TEST(Interpreter, ABatchIsItsImages) {
  const Graph graph = conv_network();
  const Tensor x = random_tensor({3, 8, 17, 19}, 7);
  const auto whole = run(graph, std::span(&x, 1));
  ASSERT_TRUE(whole.ok());
  const std::size_t image = x.size() / 3;
  for (std::size_t i = 0; i < 3; ++i) {
    const Tensor one = Tensor::of(Shape{1, 8, 17, 19}, x.view<float>().subspan(i * image, image));
    const auto alone = run(graph, std::span(&one, 1));
    ASSERT_TRUE(alone.ok());
    const auto expected = whole.value()[0].view<float>().subspan(i * 12, 12);
    EXPECT_TRUE(std::ranges::equal(alone.value()[0].view<float>(), expected));
  }
}

TEST(Interpreter, ShowsEveryTensorInOrder) {
  const Graph graph = conv_network();
  const Tensor x = random_tensor({1, 8, 17, 19}, 8);
  std::vector<std::string> seen;
  RunOptions options;
  options.observer = [&](ValueId id, const Tensor& tensor) {
    seen.push_back(graph.value(id).name);
    EXPECT_GT(tensor.size(), 0U);
  };
  ASSERT_TRUE(run(graph, std::span(&x, 1), options).ok());
  EXPECT_EQ(seen, (std::vector<std::string>{"x", "a", "b", "c", "y"}));
}

TEST(Interpreter, ChecksItsInputs) {
  const Graph graph = conv_network();
  const auto error = [&](const std::vector<Tensor>& inputs) {
    const auto result = run(graph, inputs);
    return result ? std::string("no error") : result.error().message();
  };
  EXPECT_EQ(error({}), "the network has 1 inputs, but 0 are given");
  EXPECT_EQ(error({Tensor(DType::kUint8, {1, 8, 17, 19})}),
            "the input 'x' has the type uint8, not float32");
  EXPECT_EQ(error({Tensor(DType::kFloat32, {1, 8, 17})}),
            "the input 'x' has the shape [1,8,17], not [-1,8,17,19]");
  EXPECT_EQ(error({Tensor(DType::kFloat32, {1, 8, 17, 20})}),
            "the input 'x' has the shape [1,8,17,20], not [-1,8,17,19]");
  auto folded = fold(graph);
  ASSERT_TRUE(folded.ok());
  const Tensor empty(DType::kFloat32, {0, 8, 17, 19});
  const auto result = run(folded.value(), std::span(&empty, 1));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message(), "the input 'x' has the shape [0,8,17,19], not [1,8,17,19]");
}

TEST(Interpreter, RefusesResultsThatAreTooLarge) {
  const Graph graph = conv_network();
  const Tensor x = random_tensor({1, 8, 17, 19}, 9);
  RunOptions options;
  options.max_tensor_bytes = 1000;
  const auto result = run(graph, std::span(&x, 1), options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message(),
            "node 'a' (Conv, opset 13): a result of the shape [1,8,17,19] is too large");
}

// --- The table ----------------------------------------------------------------------------

TEST(OpTable, IsSortedAndComplete) {
  const auto table = all_ops();
  for (std::size_t i = 1; i < table.size(); ++i) EXPECT_LT(table[i - 1].name, table[i].name);
  for (const OpDef& op : table) {
    EXPECT_EQ(find_op(op.name), &op);
    EXPECT_LE(op.min_inputs, op.max_inputs) << op.name;
    EXPECT_GE(op.max_outputs, 1U) << op.name;
    EXPECT_NE(op.infer, nullptr) << op.name;
    EXPECT_NE(op.eval, nullptr) << op.name;
  }
  for (const std::string_view name : {"Add",
                                      "AveragePool",
                                      "BatchNormalization",
                                      "Clip",
                                      "Concat",
                                      "Constant",
                                      "Conv",
                                      "ConvTranspose",
                                      "DequantizeLinear",
                                      "Div",
                                      "Dropout",
                                      "Elu",
                                      "Flatten",
                                      "Gemm",
                                      "GlobalAveragePool",
                                      "GlobalMaxPool",
                                      "HardSigmoid",
                                      "HardSwish",
                                      "Identity",
                                      "LRN",
                                      "LeakyRelu",
                                      "LogSoftmax",
                                      "MatMul",
                                      "MaxPool",
                                      "Mul",
                                      "PRelu",
                                      "Pad",
                                      "QLinearConv",
                                      "QuantizeLinear",
                                      "ReduceMean",
                                      "Relu",
                                      "Reshape",
                                      "Sigmoid",
                                      "Slice",
                                      "Softmax",
                                      "Split",
                                      "Squeeze",
                                      "Sub",
                                      "Swish",
                                      "Tanh",
                                      "Transpose",
                                      "Unsqueeze"}) {
    EXPECT_NE(find_op(name), nullptr) << name;
  }
  EXPECT_EQ(find_op("Gelu"), nullptr);
  EXPECT_EQ(find_op(""), nullptr);
}

}  // namespace
}  // namespace slalom::importer
