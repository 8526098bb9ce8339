// SPDX-License-Identifier: Apache-2.0
// The operators of a plan from those of a Net, given the quantisation around them; for emit.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "importer/quant/net.h"
#include "importer/quant/weights.h"
#include "model/plan.h"

namespace slalom::importer {

struct EmitContext {
  std::vector<Quant> in;
  Quant out;
  bool integers = false;              // the output is an i32 tensor
  std::optional<Quant> before_table;  // of a Linear with a table
};

model::Linear emit_linear(const NetLinear& linear, IntegerLinear integer,
                          const EmitContext& context);
// emit_op is for all other operators.
model::Op emit_op(const NetOp& op, const EmitContext& context);

// op_name is "Linear", "Add", ...
std::string op_name(const model::Op& op);

}  // namespace slalom::importer
