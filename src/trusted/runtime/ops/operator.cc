// SPDX-License-Identifier: Apache-2.0
#include "runtime/ops/operator.h"

#include <array>
#include <variant>

namespace slalom::runtime {
namespace {

using Maker = std::unique_ptr<Operator> (*)(const OperatorContext&);

std::unique_ptr<Operator> make_nothing(const OperatorContext& /*context*/) { return nullptr; }

// kMakers is indexed by the op's number in the plan format (the order of model::Op).
constexpr std::array<Maker, std::variant_size_v<model::Op>> kMakers = {
    make_nothing,       // Linear
    make_add,           //
    make_mul,           //
    make_table,         //
    make_prelu,         //
    make_max_pool,      //
    make_average_pool,  //
    make_concat,        //
    make_pad,           //
    make_slice,         //
    make_transpose,     //
    make_nothing,       // Reshape
    make_softmax,       //
    make_lrn,           //
    make_nothing,       // Constant
};

}  // namespace

std::unique_ptr<Operator> make_operator(const OperatorContext& context) {
  return kMakers[context.node.op.index()](context);
}

}  // namespace slalom::runtime
