// SPDX-License-Identifier: Apache-2.0
// The operators of the reference interpreter, one function each; for reference.cc only.
#pragma once

#include <cstdint>
#include <span>

#include "importer/reference.h"
#include "model/plan.h"

namespace slalom::importer::reference {

struct Operand {
  const model::TensorInfo* info;
  std::span<const std::int32_t> codes;
};
using Operands = std::span<const Operand>;

struct Clamp {
  std::int32_t lo;
  std::int32_t hi;
};
// full_range is the widest clamp of a tensor: 0..255, or +-2^30 for an i32 tensor.
Clamp full_range(const model::TensorInfo& info) noexcept;

// requantise is the rule of the same name in model/plan.h.
std::int32_t requantise(float v, std::int32_t zero_point, Clamp clamp) noexcept;

// apply computes one operator of a valid plan.
Codes apply(const model::Linear& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Add& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Mul& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Table& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Prelu& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::MaxPool& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::AveragePool& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Concat& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Pad& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Slice& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Transpose& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Reshape& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Softmax& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Lrn& op, Operands in, const model::TensorInfo& out);
Codes apply(const model::Constant& op, Operands in, const model::TensorInfo& out);

}  // namespace slalom::importer::reference
