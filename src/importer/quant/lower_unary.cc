// SPDX-License-Identifier: Apache-2.0
// Operators with one tensor operand that work element by element.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "importer/ops/op.h"
#include "importer/quant/lower.h"

namespace slalom::importer {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Unary clamp(double lo, double hi) { return {.clamp = true, .lo = lo, .hi = hi, .f = nullptr}; }
Unary function(std::function<double(double)> f) { return {.clamp = false, .f = std::move(f)}; }

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double hard_sigmoid(double x, double alpha, double beta) {
  return std::clamp(alpha * x + beta, 0.0, 1.0);
}

double optional_bound(const Lowerer& lowerer, const Node& node, std::size_t i, double otherwise) {
  if (node.input(i) == kNoValue) return otherwise;
  const Tensor& bound = lowerer.constant_input(node, i);
  if (bound.size() != 1) fail("a bound of the clip is not one number");
  return bound.view<float>()[0];
}

Unary leaky(double alpha) {
  return function([alpha](double x) { return x < 0.0 ? alpha * x : x; });
}

// unary_of is the function of a node, or nothing if it is no such operator.
std::optional<Unary> unary_of(const Lowerer& lowerer, const Node& node) {
  const std::string& op = node.op;
  if (op == "Identity" || op == "Dropout") return Unary{};
  if (op == "Relu") return clamp(0.0, kInfinity);
  if (op == "Clip") {
    const double lo = optional_bound(lowerer, node, 1, -kInfinity);
    const double hi = optional_bound(lowerer, node, 2, kInfinity);
    // ONNX: where the bounds cross, the result is the upper one.
    return clamp(std::min(lo, hi), hi);
  }
  if (op == "LeakyRelu") return leaky(node.float_or("alpha", 0.01F));
  if (op == "Sigmoid") return function(sigmoid);
  if (op == "Tanh") return function([](double x) { return std::tanh(x); });
  if (op == "Swish") return function([](double x) { return x * sigmoid(x); });
  if (op == "HardSwish") {
    return function([](double x) { return x * hard_sigmoid(x, 1.0 / 6.0, 0.5); });
  }
  if (op == "HardSigmoid") {
    const double alpha = node.float_or("alpha", 0.2F);
    const double beta = node.float_or("beta", 0.5F);
    return function([=](double x) { return hard_sigmoid(x, alpha, beta); });
  }
  if (op == "Elu") {
    const double alpha = node.float_or("alpha", 1.0F);
    return function([alpha](double x) { return x < 0.0 ? alpha * std::expm1(x) : x; });
  }
  if (op == "Neg") return function([](double x) { return -x; });
  if (op == "Abs") return function([](double x) { return std::fabs(x); });
  // A divisor's code for 0 is not met where samples are typical of what comes: it gives the end of
  // the range.
  if (op == "Reciprocal") return function([](double x) { return 1.0 / x; });
  if (op == "Sqrt") return function([](double x) { return std::sqrt(std::max(x, 0.0)); });
  return std::nullopt;
}

// lower_prelu: one slope for all is a function; one for each channel an operator of the plan.
void lower_prelu(Lowerer& lowerer, const Node& node) {
  const Tensor& slope = lowerer.constant_input(node, 1);
  const auto slopes = slope.view<float>();
  const ValueId result = node.outputs.at(0);
  const Placed placed = lowerer.place_of(node.input(0));
  if (slopes.size() == 1) {
    const TensorIndex out =
        lowerer.append_unnamed(node, "slope", {placed.tensor}, NetUnary{leaky(slopes[0])},
                               lowerer.tensor_shape(placed.tensor));
    return lowerer.place_result(node.outputs.at(0), out, placed.view);
  }
  const Shape& shape = lowerer.shape(result);
  const std::size_t rank = shape.size();
  // The slope's dimensions are those at the end of the input's.
  std::size_t dim = rank - slope.rank();
  while (dim < rank && slope.shape()[dim + slope.rank() - rank] == 1) ++dim;
  const bool channels = dim < rank && shape[dim] == std::ssize(slopes) &&
                        slope.shape()[dim + slope.rank() - rank] == std::ssize(slopes);
  const bool image = (rank == 3 || rank == 4) && dim == 1;
  if (!channels || (dim + 1 != rank && !image)) {
    fail("slopes of the shape " + shape_text(slope.shape()) + " are not one for each channel");
  }
  const Groups groups = image ? image_groups(rank) : natural_groups(rank);
  const TensorIndex in = lowerer.in_memory_order(placed, groups);
  lowerer.append(node, {in}, NetPrelu{{slopes.begin(), slopes.end()}, {}}, lowerer.tensor_shape(in),
                 result, groups);
}

}  // namespace

bool lower_unary(Lowerer& lowerer, const Node& node) {
  if (node.op == "PRelu") {
    lower_prelu(lowerer, node);
    return true;
  }
  std::optional<Unary> unary = unary_of(lowerer, node);
  if (!unary) return false;
  const Placed placed = lowerer.place_of(node.input(0));
  if (unary->identity()) {
    lowerer.alias(node, node.outputs.at(0), placed);
    return true;
  }
  const TensorIndex out =
      lowerer.append_unnamed(node, "function", {placed.tensor}, NetUnary{std::move(*unary)},
                             lowerer.tensor_shape(placed.tensor));
  lowerer.place_result(node.outputs.at(0), out, placed.view);
  return true;
}

}  // namespace slalom::importer
