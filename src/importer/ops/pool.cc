// SPDX-License-Identifier: Apache-2.0
// MaxPool (MaxPool-12), AveragePool (AveragePool-19) and their global forms.
#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

#include "importer/ops/op.h"
#include "importer/ops/parallel.h"
#include "importer/ops/types.h"
#include "importer/ops/window.h"

namespace slalom::importer {
namespace {

Window pool_window(const Node& node, const Shape& x) {
  const auto kernel = node.ints_or("kernel_shape", {});
  if (kernel.empty()) fail("the attribute kernel_shape is missing");
  if (x.size() < 3)
    fail("the input has the shape " + shape_text(x) + ", without spatial dimensions");
  const Window w =
      make_window(node, std::span(x).subspan(2), kernel, node.int_or("ceil_mode", 0) != 0);
  for (std::size_t d = 0; d < kMaxSpatial; ++d) {
    const std::int64_t reach = (w.kernel[d] - 1) * w.dilation[d] + 1;
    if (w.pad_begin[d] >= reach || w.pad_end[d] >= reach) fail("a window lies in the padding");
  }
  return w;
}

TensorType pooled_type(const InferContext& context, const Window& w) {
  TensorType type{.dtype = context.dtype(0), .shape = {context.shape(0)[0], context.shape(0)[1]}};
  const auto spatial = w.spatial(w.out);
  type.shape.insert(type.shape.end(), spatial.begin(), spatial.end());
  return type;
}

std::vector<TensorType> infer_max_pool(const InferContext& context) {
  context.want_dtype(0, {DType::kFloat32, DType::kInt8, DType::kUint8});
  return {pooled_type(context, pool_window(context.node(), context.shape(0)))};
}

std::vector<TensorType> infer_average_pool(const InferContext& context) {
  context.want_float(0);
  return {pooled_type(context, pool_window(context.node(), context.shape(0)))};
}

// for_each_plane calls plane(i) for every channel of every image.
template <class F>
void for_each_plane(const EvalContext& context, F plane) {
  const Shape& shape = context.in(0).shape();
  parallel_for(context.threads(), static_cast<std::size_t>(shape[0] * shape[1]),
               [&](std::size_t i) { plane(static_cast<std::int64_t>(i)); });
}

void max_pool(const EvalContext& context) {
  const Window w = pool_window(context.node(), context.in(0).shape());
  with_type(context.in(0).dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    const T* x = context.in(0).view<T>().data();
    T* y = context.out().view<T>().data();
    const T lowest = std::is_same_v<T, float> ? -std::numeric_limits<T>::infinity()
                                              : std::numeric_limits<T>::lowest();
    for_each_plane(context, [&](std::int64_t i) {
      const T* from = x + i * w.in_size();
      T* to = y + i * w.out_size();
      std::fill_n(to, w.out_size(), lowest);
      for_each_tap(w, [&](std::int64_t, std::int64_t out, std::int64_t in, std::int64_t n) {
        for (std::int64_t j = 0; j < n; ++j) {
          to[out + j] = std::max(to[out + j], from[in + j * w.stride[2]]);
        }
      });
    });
  });
}

// divisors counts the elements that each output averages: those inside the input, or with
// count_include_pad those inside the padded input. A window that was rounded up may reach beyond
// both; what lies there is not counted (so do PyTorch and ONNX Runtime since 1.20, not before).
std::vector<float> divisors(const Window& w, bool include_pad) {
  Window counted = w;
  if (include_pad) {
    for (std::size_t d = 0; d < kMaxSpatial; ++d) {
      counted.in[d] += w.pad_begin[d] + w.pad_end[d];
      counted.pad_begin[d] = 0;
    }
  }
  std::vector<float> counts(static_cast<std::size_t>(w.out_size()), 0.0F);
  for_each_tap(counted, [&](std::int64_t, std::int64_t out, std::int64_t, std::int64_t n) {
    for (std::int64_t j = 0; j < n; ++j) counts[static_cast<std::size_t>(out + j)] += 1.0F;
  });
  return counts;
}

void average_pool(const EvalContext& context) {
  const Window w = pool_window(context.node(), context.in(0).shape());
  const auto counts = divisors(w, context.node().int_or("count_include_pad", 0) != 0);
  const float* x = context.in(0).view<float>().data();
  float* y = context.out().view<float>().data();
  for_each_plane(context, [&](std::int64_t i) {
    const float* from = x + i * w.in_size();
    float* to = y + i * w.out_size();
    for_each_tap(w, [&](std::int64_t, std::int64_t out, std::int64_t in, std::int64_t n) {
      for (std::int64_t j = 0; j < n; ++j) to[out + j] += from[in + j * w.stride[2]];
    });
    for (std::size_t p = 0; p < counts.size(); ++p) to[p] /= counts[p];
  });
}

std::vector<TensorType> infer_global(const InferContext& context) {
  context.want_float(0);
  TensorType type = context.type(0);
  if (type.shape.size() < 3 || element_count(type.shape) == 0) {
    fail("the input has the shape " + shape_text(type.shape) + ", without spatial dimensions");
  }
  std::fill(type.shape.begin() + 2, type.shape.end(), 1);
  return {type};
}

template <class F>
void global_pool(const EvalContext& context, F reduce) {
  const auto x = context.in(0).view<float>();
  const auto y = context.out().view<float>();
  const std::size_t plane = x.size() / y.size();
  parallel_for(context.threads(), y.size(),
               [&](std::size_t i) { y[i] = reduce(x.subspan(i * plane, plane)); });
}

void global_average_pool(const EvalContext& context) {
  global_pool(context, [](std::span<const float> plane) {
    double sum = 0.0;
    for (const float x : plane) sum += x;
    return static_cast<float>(sum / static_cast<double>(plane.size()));
  });
}

void global_max_pool(const EvalContext& context) {
  global_pool(context, [](std::span<const float> plane) {
    return *std::max_element(plane.begin(), plane.end());
  });
}

OpDef row(std::string_view name, std::vector<AttributeDef> attributes,
          std::vector<TensorType> (*infer)(const InferContext&), void (*eval)(const EvalContext&)) {
  return op_row(name, 1, {1, 1}, FoldRule::kNever, std::move(attributes), infer, eval);
}

}  // namespace

std::vector<OpDef> pool_ops() {
  std::vector<AttributeDef> attributes = {{.name = "auto_pad", .kind = AttributeKind::kString},
                                          {.name = "ceil_mode", .kind = AttributeKind::kInt},
                                          {.name = "dilations", .kind = AttributeKind::kInts},
                                          {.name = "kernel_shape", .kind = AttributeKind::kInts},
                                          {.name = "pads", .kind = AttributeKind::kInts},
                                          {.name = "strides", .kind = AttributeKind::kInts}};
  auto max_attributes = attributes;
  max_attributes.push_back({.name = "storage_order", .kind = AttributeKind::kInt});
  auto average_attributes = std::move(attributes);
  for (AttributeDef& attribute : average_attributes) {
    if (attribute.name == "dilations") attribute.since = 19;
  }
  average_attributes.push_back({.name = "count_include_pad", .kind = AttributeKind::kInt});
  return {row("MaxPool", std::move(max_attributes), infer_max_pool, max_pool),
          row("AveragePool", std::move(average_attributes), infer_average_pool, average_pool),
          row("GlobalAveragePool", {}, infer_global, global_average_pool),
          row("GlobalMaxPool", {}, infer_global, global_max_pool)};
}

}  // namespace slalom::importer
