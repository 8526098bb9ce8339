// SPDX-License-Identifier: Apache-2.0
#include "runtime/ops/operator.h"

#include <variant>

namespace slalom::runtime {
namespace {

OperatorPointer make(const OperatorContext&, const model::Linear&) { return nullptr; }
OperatorPointer make(const OperatorContext&, const model::Reshape&) { return nullptr; }
OperatorPointer make(const OperatorContext&, const model::Constant&) { return nullptr; }

}  // namespace

OperatorPointer make_operator(const OperatorContext& context) {
  return std::visit([&](const auto& op) { return make(context, op); }, context.node.op);
}

}  // namespace slalom::runtime
