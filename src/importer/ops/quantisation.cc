// SPDX-License-Identifier: Apache-2.0
// QuantizeLinear and DequantizeLinear (versions 10 to 21, without blocks).
#include <algorithm>
#include <cmath>

#include "importer/ops/axes.h"
#include "importer/ops/op.h"
#include "importer/ops/types.h"

namespace slalom::importer {
namespace {

// ScaleLayout says which scale belongs to element i: (i / inner) % count.
struct ScaleLayout {
  std::size_t count = 1;
  std::size_t inner = 1;

  [[nodiscard]] std::size_t at(std::size_t i) const noexcept { return i / inner % count; }
};

ScaleLayout scale_layout(const Node& node, const Shape& x, const Shape& scale) {
  if (node.int_or("block_size", 0) != 0) fail("quantisation in blocks is not supported");
  if (element_count(scale) == 1 && scale.size() <= 1) return {};
  if (scale.size() != 1) fail("the scale has the shape " + shape_text(scale));
  const std::size_t axis = normalise_axis(node.int_or("axis", 1), x.size());
  if (scale[0] != x[axis]) {
    fail("the scale has the shape " + shape_text(scale) + ", but the axis has " +
         std::to_string(x[axis]) + " elements");
  }
  ScaleLayout layout{.count = static_cast<std::size_t>(scale[0]), .inner = 1};
  for (std::size_t d = axis + 1; d < x.size(); ++d) layout.inner *= static_cast<std::size_t>(x[d]);
  // An empty tensor is never indexed, but must not divide by zero.
  layout.inner = std::max<std::size_t>(layout.inner, 1);
  layout.count = std::max<std::size_t>(layout.count, 1);
  return layout;
}

void check_scale(const InferContext& context) {
  context.want_float(1);
  (void)scale_layout(context.node(), context.shape(0), context.shape(1));
  if (context.has(2) && element_count(context.shape(2)) != element_count(context.shape(1))) {
    fail("the zero point has the shape " + shape_text(context.shape(2)) + ", but the scale " +
         shape_text(context.shape(1)));
  }
}

std::vector<TensorType> infer_quantize(const InferContext& context) {
  context.want_dtype(0, {DType::kFloat32, DType::kInt32});
  check_scale(context);
  DType dtype = DType::kUint8;
  if (context.has(2)) {
    context.want_dtype(2, {DType::kUint8, DType::kInt8});
    dtype = context.dtype(2);
  } else if (const std::int64_t wanted = context.node().int_or("output_dtype", 0); wanted != 0) {
    // Numbers of TensorProto.DataType.
    if (wanted != 2 && wanted != 3) fail("output_dtype is neither uint8 nor int8");
    dtype = wanted == 2 ? DType::kUint8 : DType::kInt8;
  }
  return {{.dtype = dtype, .shape = context.shape(0)}};
}

// zero_points returns the zero points as integers, or one 0.
std::vector<std::int64_t> zero_points(const EvalContext& context, std::size_t count) {
  std::vector<std::int64_t> zeros(count, 0);
  if (!context.has(2)) return zeros;
  with_type(context.in(2).dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    const auto view = context.in(2).view<T>();
    for (std::size_t i = 0; i < count; ++i) zeros[i] = static_cast<std::int64_t>(view[i]);
  });
  return zeros;
}

template <class From, class To>
void quantize_as(const EvalContext& context) {
  const auto scales = context.in(1).view<float>();
  const ScaleLayout layout =
      scale_layout(context.node(), context.in(0).shape(), context.in(1).shape());
  const auto zeros = zero_points(context, scales.size());
  const auto x = context.in(0).view<From>();
  const auto y = context.out().view<To>();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t s = layout.at(i);
    const float rounded = std::nearbyint(static_cast<float>(x[i]) / scales[s]);
    y[i] = saturate<To>(truncate<std::int32_t>(rounded) + zeros[s]);
  }
}

void quantize(const EvalContext& context) {
  const bool from_int = context.in(0).dtype() == DType::kInt32;
  if (context.out().dtype() == DType::kUint8) {
    from_int ? quantize_as<std::int32_t, std::uint8_t>(context)
             : quantize_as<float, std::uint8_t>(context);
  } else {
    from_int ? quantize_as<std::int32_t, std::int8_t>(context)
             : quantize_as<float, std::int8_t>(context);
  }
}

std::vector<TensorType> infer_dequantize(const InferContext& context) {
  context.want_dtype(0, {DType::kUint8, DType::kInt8, DType::kInt32});
  check_scale(context);
  if (context.has(2)) context.want_dtype(2, {context.dtype(0)});
  return {{.dtype = DType::kFloat32, .shape = context.shape(0)}};
}

void dequantize(const EvalContext& context) {
  const auto scales = context.in(1).view<float>();
  const ScaleLayout layout =
      scale_layout(context.node(), context.in(0).shape(), context.in(1).shape());
  const auto zeros = zero_points(context, scales.size());
  with_type(context.in(0).dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    const auto x = context.in(0).view<T>();
    const auto y = context.out().view<float>();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t s = layout.at(i);
      y[i] = static_cast<float>(static_cast<std::int64_t>(x[i]) - zeros[s]) * scales[s];
    }
  });
}

OpDef row(std::string_view name, std::vector<AttributeDef> attributes,
          std::vector<TensorType> (*infer)(const InferContext&), void (*eval)(const EvalContext&)) {
  attributes.push_back({.name = "axis", .kind = AttributeKind::kInt});
  attributes.push_back({.name = "block_size", .kind = AttributeKind::kInt});
  return op_row(name, 10, {2, 3}, FoldRule::kNever, std::move(attributes), infer, eval);
}

}  // namespace

std::vector<OpDef> quantisation_ops() {
  return {row("QuantizeLinear",
              {{.name = "saturate", .kind = AttributeKind::kInt},
               {.name = "output_dtype", .kind = AttributeKind::kInt}},
              infer_quantize, quantize),
          row("DequantizeLinear", {}, infer_dequantize, dequantize)};
}

}  // namespace slalom::importer
