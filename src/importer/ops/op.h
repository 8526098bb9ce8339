// SPDX-License-Identifier: Apache-2.0
// The table of operators. An operator is a row: its name and versions, the attributes and number
// of inputs it accepts, a function that infers types and shapes, and one that computes. The same
// shape function serves folding (before anything runs) and running (it sizes the outputs).
//
// Inside the importer errors are exceptions: operators throw Failure through fail(), and whoever
// walks the graph adds the node's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "importer/error.h"
#include "importer/graph.h"

namespace slalom::importer {

// Failure carries an Error up to the public function that returns it.
class Failure : public std::exception {
 public:
  explicit Failure(Error error) : error_(std::move(error)), text_(error_.message()) {}
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }
  [[nodiscard]] const Error& error() const noexcept { return error_; }

 private:
  Error error_;
  std::string text_;
};

// fail throws a Failure without a node.
[[noreturn]] void fail(std::string what);
// blame returns the error with the node's name, operator and opset, unless it has some already.
Error blame(const Error& error, const Node& node);

struct TensorType {
  DType dtype = DType::kFloat32;
  Shape shape;

  friend bool operator==(const TensorType&, const TensorType&) = default;
};

// OpInput is what is known of an input when shapes are inferred.
struct OpInput {
  bool present = false;
  TensorType type;
  const Tensor* data = nullptr;  // null while it is not known
};

// InferContext gives an operator its node and checked access to its inputs.
class InferContext {
 public:
  InferContext(const Node& node, std::span<const OpInput> inputs) : node_(&node), inputs_(inputs) {}

  [[nodiscard]] const Node& node() const noexcept { return *node_; }
  [[nodiscard]] std::size_t input_count() const noexcept { return inputs_.size(); }
  [[nodiscard]] bool has(std::size_t i) const noexcept {
    return i < inputs_.size() && inputs_[i].present;
  }
  // Each of these fails if the input was left out.
  [[nodiscard]] const TensorType& type(std::size_t i) const;
  [[nodiscard]] const Shape& shape(std::size_t i) const { return type(i).shape; }
  [[nodiscard]] DType dtype(std::size_t i) const { return type(i).dtype; }
  [[nodiscard]] std::size_t rank(std::size_t i) const { return shape(i).size(); }
  // data fails if the input is not known yet.
  [[nodiscard]] const Tensor& data(std::size_t i) const;
  // ints reads a known int64 or int32 tensor of rank 0 or 1.
  [[nodiscard]] std::vector<std::int64_t> ints(std::size_t i) const;

  // want_dtype fails unless input i has one of the types.
  void want_dtype(std::size_t i, std::initializer_list<DType> allowed) const;
  // want_float is want_dtype for float32 alone.
  void want_float(std::size_t i) const { want_dtype(i, {DType::kFloat32}); }
  // want_rank fails unless the rank is in [low, high].
  void want_rank(std::size_t i, std::size_t low, std::size_t high) const;

 private:
  const Node* node_;
  std::span<const OpInput> inputs_;
};

// EvalContext gives a kernel its inputs and its outputs, which have their final type and shape
// and hold zeros. A kernel trusts what the shape function has checked.
class EvalContext {
 public:
  EvalContext(const Node& node, std::span<const Tensor* const> inputs, std::span<Tensor> outputs,
              unsigned threads)
      : node_(&node), inputs_(inputs), outputs_(outputs), threads_(threads) {}

  [[nodiscard]] const Node& node() const noexcept { return *node_; }
  [[nodiscard]] std::size_t input_count() const noexcept { return inputs_.size(); }
  [[nodiscard]] bool has(std::size_t i) const noexcept {
    return i < inputs_.size() && inputs_[i] != nullptr;
  }
  [[nodiscard]] const Tensor& in(std::size_t i) const { return *inputs_[i]; }
  [[nodiscard]] std::span<const Tensor* const> inputs() const noexcept { return inputs_; }
  [[nodiscard]] std::size_t output_count() const noexcept { return outputs_.size(); }
  [[nodiscard]] Tensor& out(std::size_t i = 0) const { return outputs_[i]; }
  [[nodiscard]] unsigned threads() const noexcept { return threads_; }

 private:
  const Node* node_;
  std::span<const Tensor* const> inputs_;
  std::span<Tensor> outputs_;
  unsigned threads_;
};

enum class AttributeKind : std::uint8_t { kInt, kFloat, kString, kInts, kFloats, kTensor };

struct AttributeDef {
  std::string_view name;
  AttributeKind kind;
  std::int64_t since = 1;  // the first operator set that has it
};

// Whether fold() may evaluate the operator on constants: kCheap costs a few operations per
// element it reads or writes.
enum class FoldRule : std::uint8_t { kCheap, kNever };

struct OpDef {
  std::string_view name;
  std::int64_t min_opset;  // 0: ours, not to be met in a file
  std::int64_t max_opset;
  std::size_t min_inputs;
  std::size_t max_inputs;
  std::size_t max_outputs;
  FoldRule fold;
  std::vector<AttributeDef> attributes;
  // Returns the types of the outputs that the node lists (all of them, in order).
  std::vector<TensorType> (*infer)(const InferContext& context);
  void (*eval)(const EvalContext& context);
};

inline constexpr std::size_t kVariadic = 1U << 16;
// op_row describes an operator with one output that newer opsets did not change. inputs: the fewest
// and the most.
OpDef op_row(std::string_view name, std::int64_t min_opset,
             std::pair<std::size_t, std::size_t> inputs, FoldRule fold,
             std::vector<AttributeDef> attributes,
             std::vector<TensorType> (*infer)(const InferContext& context),
             void (*eval)(const EvalContext& context));
// No tensor has more dimensions.
inline constexpr std::size_t kMaxRank = 8;

// find_op looks an operator up by its name in the default domain; null if there is none.
const OpDef* find_op(std::string_view name) noexcept;
// all_ops lists the table sorted by name.
std::span<const OpDef> all_ops() noexcept;

// known_inputs describes evaluated inputs (null: left out) as a shape function takes them.
std::vector<OpInput> known_inputs(std::span<const Tensor* const> inputs);

// infer_types runs the shape function and checks what it returns: one type for each output of
// the node, every size within max_bytes. Throws Failure that blames the node.
std::vector<TensorType> infer_types(const Node& node, std::span<const OpInput> inputs,
                                    std::int64_t max_bytes);

// evaluate computes a node whose inputs are all known (null: left out). Outputs left out of the
// node are computed all the same. Throws Failure that blames the node.
std::vector<Tensor> evaluate(const Node& node, std::span<const Tensor* const> inputs,
                             unsigned threads, std::int64_t max_bytes);

// One function per family, each in a file of its own.
std::vector<OpDef> arithmetic_ops();
std::vector<OpDef> activation_ops();
std::vector<OpDef> constant_ops();
std::vector<OpDef> layout_ops();
std::vector<OpDef> linear_ops();
std::vector<OpDef> logic_ops();
std::vector<OpDef> movement_ops();
std::vector<OpDef> normalisation_ops();
std::vector<OpDef> pool_ops();
std::vector<OpDef> quantisation_ops();
std::vector<OpDef> reduction_ops();

}  // namespace slalom::importer
