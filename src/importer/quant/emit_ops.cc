// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/emit_ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

constexpr double kLargestInteger = 1 << 30;  // of an i32 tensor's clamp

// code_of is the code nearest to a real value, within the type.
std::int32_t code_of(double real, const Quant& quant, bool integers) {
  const double lo = integers ? -kLargestInteger : 0.0;
  const double hi = integers ? kLargestInteger : 255.0;
  // Infinite bounds of a clamp end up at the ends of the type.
  const double code = std::nearbyint(real / quant.scale) + quant.zero_point;
  if (std::isnan(code)) fail("the result of a function is not a number");
  return static_cast<std::int32_t>(std::clamp(code, lo, hi));
}

struct Clamp {
  std::int32_t lo, hi;
};
Clamp clamp_of(const Unary& post, const EmitContext& context) {
  return {code_of(post.lo, context.out, context.integers),
          code_of(post.hi, context.out, context.integers)};
}

// table_of tabulates a function of codes.
std::vector<std::uint8_t> table_of(const Unary& f, const Quant& in, const Quant& out) {
  std::vector<std::uint8_t> table;
  for (std::int32_t q = 0; q < 256; ++q) {
    const double x = static_cast<double>(in.scale) * (q - in.zero_point);
    table.push_back(static_cast<std::uint8_t>(code_of(f(x), out, false)));
  }
  return table;
}

// ratio is a multiplier between scales in binary32; it has to be a normal positive number.
float ratio(double numerator, double denominator) {
  const auto value = static_cast<float>(numerator / denominator);
  if (!std::isnormal(value) || value >= 1e30F) fail("two scales are too far apart");
  return value;
}

model::Op emit(const NetAdd& add, const EmitContext& x) {
  const Clamp clamp = clamp_of(add.post, x);
  return model::Add{.multiplier_a = ratio(x.in[0].scale, x.out.scale),
                    .multiplier_b = add.sign_b * ratio(x.in[1].scale, x.out.scale),
                    .lo = clamp.lo,
                    .hi = clamp.hi};
}

model::Op emit(const NetMul& mul, const EmitContext& x) {
  const Clamp clamp = clamp_of(mul.post, x);
  return model::Mul{
      .multiplier = ratio(static_cast<double>(x.in[0].scale) * x.in[1].scale, x.out.scale),
      .lo = clamp.lo,
      .hi = clamp.hi};
}

model::Op emit(const NetUnary& unary, const EmitContext& x) {
  return model::Table{table_of(unary.function, x.in[0], x.out)};
}

model::Op emit(const NetPrelu& prelu, const EmitContext& x) {
  const Clamp clamp = clamp_of(prelu.post, x);
  model::Prelu op{.positive = ratio(x.in[0].scale, x.out.scale),
                  .negative = {},
                  .lo = clamp.lo,
                  .hi = clamp.hi};
  for (const float slope : prelu.slopes) {
    op.negative.push_back(static_cast<float>(static_cast<double>(slope) * x.in[0].scale /
                                             static_cast<double>(x.out.scale)));
  }
  return op;
}

model::Op emit(const NetMaxPool& pool, const EmitContext&) { return model::MaxPool{pool.window}; }

model::Op emit(const NetAveragePool& pool, const EmitContext& x) {
  const Clamp clamp = clamp_of(pool.post, x);
  return model::AveragePool{.window = pool.window,
                            .count_padding = pool.count_padding,
                            .multiplier = ratio(x.in[0].scale, x.out.scale),
                            .lo = clamp.lo,
                            .hi = clamp.hi};
}

model::Op emit(const NetConcat& concat, const EmitContext& x) {
  model::Concat op{.axis = concat.axis, .multiplier = {}};
  for (const Quant& in : x.in) op.multiplier.push_back(ratio(in.scale, x.out.scale));
  return op;
}

model::Op emit(const NetPad& pad, const EmitContext& x) {
  return model::Pad{.before = pad.before,
                    .after = pad.after,
                    .code = static_cast<std::uint8_t>(code_of(pad.value, x.out, false))};
}

model::Op emit(const NetSlice& slice, const EmitContext&) {
  return model::Slice{.begin = slice.begin, .step = slice.step};
}
model::Op emit(const NetTranspose& transpose, const EmitContext&) {
  return model::Transpose{transpose.perm};
}
model::Op emit(const NetReshape&, const EmitContext&) { return model::Reshape{}; }

model::Op emit(const NetSoftmax&, const EmitContext& x) {
  model::Softmax op;
  for (int d = 0; d < 256; ++d) {
    op.table.push_back(static_cast<std::uint32_t>(
        std::lrint(0x1p24 * std::exp(-static_cast<double>(x.in[0].scale) * d))));
  }
  return op;
}

model::Op emit(const NetLrn& lrn, const EmitContext& x) {
  const Clamp clamp = clamp_of(lrn.post, x);
  const double scale = x.in[0].scale;
  return model::Lrn{
      .size = lrn.size,
      .beta_quarters = static_cast<std::uint8_t>(std::lrint(lrn.beta * 4.0F)),
      .alpha = static_cast<float>(lrn.alpha / static_cast<double>(lrn.size) * scale * scale),
      .bias = lrn.bias,
      .multiplier = ratio(scale, x.out.scale),
      .lo = clamp.lo,
      .hi = clamp.hi};
}

model::Op emit(const NetConstant& constant, const EmitContext& x) {
  model::Constant op;
  for (const float v : constant.values) {
    op.codes.push_back(static_cast<std::uint8_t>(code_of(v, x.out, false)));
  }
  return op;
}

model::Op emit(const NetLinear&, const EmitContext&) { fail("a Linear needs integer weights"); }

}  // namespace

model::Linear emit_linear(const NetLinear& linear, IntegerLinear integer,
                          const EmitContext& context) {
  model::Linear op;
  op.stages = std::move(integer.stages);
  op.bias = std::move(integer.bias);
  op.field = integer.field;
  const Quant codes = context.before_table.value_or(context.out);
  for (const double unit : integer.unit) {
    // An imported network divides in binary32, and so do we then.
    op.requant.multiplier.push_back(linear.fixed
                                        ? ratio(static_cast<float>(unit) / codes.scale, 1.0)
                                        : ratio(unit, codes.scale));
  }
  op.requant.zero_point = codes.zero_point;
  if (linear.post.clamp) {
    op.requant.lo = code_of(linear.post.lo, codes, context.integers);
    op.requant.hi = code_of(linear.post.hi, codes, context.integers);
  } else {
    op.requant.table = table_of(linear.post, codes, context.out);
  }
  return op;
}

model::Op emit_op(const NetOp& op, const EmitContext& context) {
  return std::visit([&](const auto& real) { return emit(real, context); }, op);
}

std::string op_name(const model::Op& op) {
  static constexpr std::array<std::string_view, std::variant_size_v<model::Op>> kNames = {
      "Linear", "Add",   "Mul",       "Table",   "Prelu",   "MaxPool", "AveragePool", "Concat",
      "Pad",    "Slice", "Transpose", "Reshape", "Softmax", "Lrn",     "Constant"};
  return std::string(kNames[op.index()]);
}

}  // namespace slalom::importer
