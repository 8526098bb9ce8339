// SPDX-License-Identifier: Apache-2.0
#include "importer/ops/op.h"

#include <algorithm>
#include <string>
#include <utility>

namespace slalom::importer {
namespace {

std::string input_text(std::size_t i) { return "input " + std::to_string(i + 1); }

std::vector<OpDef> make_table() {
  std::vector<OpDef> table;
  for (auto family :
       {arithmetic_ops, activation_ops, constant_ops, layout_ops, linear_ops, logic_ops,
        movement_ops, normalisation_ops, pool_ops, quantisation_ops, reduction_ops}) {
    for (OpDef& op : family()) table.push_back(std::move(op));
  }
  std::sort(table.begin(), table.end(),
            [](const OpDef& a, const OpDef& b) { return a.name < b.name; });
  return table;
}

}  // namespace

void fail(std::string what) { throw Failure(Error{.what = std::move(what), .node = {}, .op = {}}); }

Error blame(const Error& error, const Node& node) {
  if (!error.op.empty() || error.no_memory) return error;
  return Error{.what = error.what, .node = node.name, .op = node.op, .opset = node.opset};
}

OpDef op_row(std::string_view name, std::int64_t min_opset,
             std::pair<std::size_t, std::size_t> inputs, FoldRule fold,
             std::vector<AttributeDef> attributes,
             std::vector<TensorType> (*infer)(const InferContext& context),
             void (*eval)(const EvalContext& context)) {
  return {.name = name,
          .min_opset = min_opset,
          .max_opset = 21,
          .min_inputs = inputs.first,
          .max_inputs = inputs.second,
          .max_outputs = 1,
          .fold = fold,
          .attributes = std::move(attributes),
          .infer = infer,
          .eval = eval};
}

const TensorType& InferContext::type(std::size_t i) const {
  if (!has(i)) fail(input_text(i) + " is missing");
  return inputs_[i].type;
}

const Tensor& InferContext::data(std::size_t i) const {
  if (!has(i)) fail(input_text(i) + " is missing");
  if (inputs_[i].data == nullptr) fail(input_text(i) + " must be a constant");
  return *inputs_[i].data;
}

std::vector<std::int64_t> InferContext::ints(std::size_t i) const {
  want_dtype(i, {DType::kInt64, DType::kInt32});
  want_rank(i, 0, 1);
  const Tensor& tensor = data(i);
  std::vector<std::int64_t> values;
  if (tensor.dtype() == DType::kInt64) {
    const auto view = tensor.view<std::int64_t>();
    values.assign(view.begin(), view.end());
  } else {
    const auto view = tensor.view<std::int32_t>();
    values.assign(view.begin(), view.end());
  }
  return values;
}

void InferContext::want_dtype(std::size_t i, std::initializer_list<DType> allowed) const {
  const DType found = dtype(i);
  if (std::find(allowed.begin(), allowed.end(), found) != allowed.end()) return;
  fail(input_text(i) + " has the type " + std::string(dtype_name(found)) +
       ", which is not supported there");
}

void InferContext::want_rank(std::size_t i, std::size_t low, std::size_t high) const {
  const std::size_t found = rank(i);
  if (found >= low && found <= high) return;
  fail(input_text(i) + " has the shape " + shape_text(shape(i)) + ", but its rank must be " +
       (low == high ? std::to_string(low)
                    : "from " + std::to_string(low) + " to " + std::to_string(high)));
}

std::span<const OpDef> all_ops() noexcept {
  static const std::vector<OpDef> table = make_table();
  return table;
}

const OpDef* find_op(std::string_view name) noexcept {
  const auto table = all_ops();
  const auto it =
      std::lower_bound(table.begin(), table.end(), name,
                       [](const OpDef& op, std::string_view wanted) { return op.name < wanted; });
  return it != table.end() && it->name == name ? &*it : nullptr;
}

std::vector<OpInput> known_inputs(std::span<const Tensor* const> inputs) {
  std::vector<OpInput> known(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr) continue;
    known[i] = {.present = true,
                .type = {.dtype = inputs[i]->dtype(), .shape = inputs[i]->shape()},
                .data = inputs[i]};
  }
  return known;
}

std::vector<TensorType> infer_types(const Node& node, std::span<const OpInput> inputs,
                                    std::int64_t max_bytes) {
  try {
    const OpDef* op = find_op(node.op);
    if (op == nullptr) fail("the operator is not supported");
    std::vector<TensorType> types = op->infer(InferContext(node, inputs));
    if (types.size() < node.outputs.size()) {
      fail("it has " + std::to_string(node.outputs.size()) + " outputs, but " +
           std::to_string(types.size()) + " are supported");
    }
    for (const TensorType& type : types) {
      if (type.shape.size() > kMaxRank) fail("a result has more than 8 dimensions");
      const std::int64_t count = element_count(type.shape);
      if (count < 0 || count > max_bytes / static_cast<std::int64_t>(element_bytes(type.dtype))) {
        fail("a result of the shape " + shape_text(type.shape) + " is too large");
      }
    }
    return types;
  } catch (const Failure& failure) {
    throw Failure(blame(failure.error(), node));
  }
}

std::vector<Tensor> evaluate(const Node& node, std::span<const Tensor* const> inputs,
                             unsigned threads, std::int64_t max_bytes) {
  std::vector<TensorType> types = infer_types(node, known_inputs(inputs), max_bytes);
  std::vector<Tensor> outputs;
  outputs.reserve(types.size());
  for (TensorType& type : types) outputs.emplace_back(type.dtype, std::move(type.shape));
  try {
    find_op(node.op)->eval(EvalContext(node, inputs, outputs, threads));
  } catch (const Failure& failure) {
    throw Failure(blame(failure.error(), node));
  }
  return outputs;
}

}  // namespace slalom::importer
