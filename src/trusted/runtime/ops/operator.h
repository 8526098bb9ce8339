// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "field/kernels.h"
#include "model/plan.h"
#include "runtime/ops/kernels.h"

namespace slalom::runtime {

// Operator computes one non-linear node of a plan, exactly as model/plan.h states. It is made at
// load and never changes; any number of threads may run it at once. Time and addresses depend on
// the plan alone, never on codes.
class Operator {
 public:
  virtual ~Operator() = default;
  Operator(const Operator&) = delete;
  Operator& operator=(const Operator&) = delete;

  // units is the number of independent pieces of one image's output, grain the fewest that are
  // worth a task of their own.
  [[nodiscard]] virtual std::size_t units() const noexcept = 0;
  [[nodiscard]] virtual std::size_t grain() const noexcept { return 1; }

  // ordered says that units are runs of consecutive output elements, all of one length, in order.
  [[nodiscard]] virtual bool ordered() const noexcept { return true; }
  // flat says that a unit is one element, which needs nothing but the element at the same place of
  // each operand that has as many elements as the output (and the whole of the others).
  [[nodiscard]] virtual bool flat() const noexcept { return false; }
  // band is the number of input rows that one output row needs when no two output rows share an
  // input row and unit y needs rows [y*band, (y + 1)*band) only; 0 for all other operators.
  [[nodiscard]] virtual std::size_t band() const noexcept { return 0; }

  // scratch_bytes is the size of the scratch memory that run needs.
  [[nodiscard]] virtual std::size_t scratch_bytes() const noexcept { return 0; }

  // run computes units [first, last) of one image. inputs: the operands' codes; out: the whole
  // output tensor of the image (u8 or i32 as the plan says). scratch: 64-byte aligned.
  virtual void run(std::span<const std::uint8_t* const> inputs, std::byte* out, std::size_t first,
                   std::size_t last, std::span<std::byte> scratch) const noexcept = 0;

 protected:
  Operator() = default;
};

// OperatorContext is what an operator is made from; the plan must outlive it.
struct OperatorContext {
  const model::Plan& plan;
  const model::Node& node;
  const OpKernels& kernels;
  const field::Kernels& field_kernels;

  [[nodiscard]] const model::TensorInfo& in(std::size_t i) const {
    return plan.tensors[node.inputs[i]];
  }
  [[nodiscard]] const model::TensorInfo& out() const { return plan.tensors[node.output]; }
  // rounding is the output's rule, with the node's clamp.
  [[nodiscard]] Requantise rounding(std::int32_t lo, std::int32_t hi) const {
    return {out().zero_point, lo, hi, out().dtype == model::Dtype::kI32};
  }
};

// element is where element i of a tensor of roundings lies.
[[nodiscard]] inline std::byte* element(std::byte* tensor, const Requantise& to,
                                        std::size_t i) noexcept {
  return tensor + i * (to.wide ? sizeof(std::int32_t) : sizeof(std::uint8_t));
}

using OperatorPointer = std::unique_ptr<Operator>;

// make_operator prepares one node. Null for the nodes that compute nothing here: Linear (the
// executor and its engines), Reshape (the executor gives its output the input's memory) and
// Constant (written once at load).
[[nodiscard]] OperatorPointer make_operator(const OperatorContext& context);

// make is make_operator for context.node.op.
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Add& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Mul& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Table& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Prelu& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::MaxPool& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::AveragePool& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Concat& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Pad& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Slice& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Transpose& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Softmax& op);
[[nodiscard]] OperatorPointer make(const OperatorContext& context, const model::Lrn& op);

}  // namespace slalom::runtime
