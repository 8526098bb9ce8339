// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>
#include <vector>

#include "importer/fold_rewrites.h"
#include "importer/graph_edit.h"
#include "importer/ops/conv.h"
#include "importer/ops/op.h"
#include "importer/ops/pad.h"
#include "importer/ops/window.h"

namespace slalom::importer {
namespace {

std::vector<std::int64_t> list(std::span<const std::int64_t> values) {
  return {values.begin(), values.end()};
}

void set_pads(Node& node, const Window& w) {
  std::vector<std::int64_t> pads = list(w.spatial(w.pad_begin));
  const auto end = w.spatial(w.pad_end);
  pads.insert(pads.end(), end.begin(), end.end());
  node.attributes.insert_or_assign("pads", std::move(pads));
}

void set_window(Node& node, const Window& w) {
  node.attributes.insert_or_assign("kernel_shape", list(w.spatial(w.kernel)));
  node.attributes.insert_or_assign("strides", list(w.spatial(w.stride)));
  node.attributes.insert_or_assign("dilations", list(w.spatial(w.dilation)));
  node.attributes.erase("auto_pad");
  set_pads(node, w);
}

void resolve_conv(const Graph& graph, Node& node) {
  const std::size_t weights = node.op == "QLinearConv" ? 3 : 1;
  const ConvGeometry g = conv_geometry(node, graph.value(node.inputs[0]).shape,
                                       graph.value(node.inputs[weights]).shape);
  set_window(node, g.window);
  node.attributes.insert_or_assign("group", g.groups);
}

void resolve_conv_transpose(const Graph& graph, Node& node) {
  const ConvGeometry g = conv_transpose_geometry(node, graph.value(node.inputs[0]).shape,
                                                 graph.value(node.inputs[1]).shape);
  node.attributes.insert_or_assign("group", g.groups);
  const Window& w = g.window;
  std::vector<std::int64_t> extra = node.ints_or("output_padding", {});
  extra.resize(w.rank, 0);
  for (std::size_t i = 0; i < w.rank; ++i) {
    const std::size_t d = kMaxSpatial - w.rank + i;
    const std::int64_t whole =
        w.stride[d] * (w.out[d] - 1) + (w.kernel[d] - 1) * w.dilation[d] + 1 + extra[i];
    // The size that was asked for is not reached by cutting: the excess is output padding.
    extra[i] += std::max<std::int64_t>(0, w.in[d] + w.pad_begin[d] + w.pad_end[d] - whole);
  }
  set_window(node, w);
  node.attributes.erase("output_shape");
  node.attributes.insert_or_assign("output_padding", std::move(extra));
}

// resolve_pool also turns ceil_mode into padding at the end that makes the last window fit. Only an
// average over padding keeps it, where the window reaches further than that: what lies beyond is
// not counted then.
void resolve_pool(const Graph& graph, Node& node) {
  const bool ceil_mode = node.int_or("ceil_mode", 0) != 0;
  Window w = make_window(node, std::span(graph.value(node.inputs[0]).shape).subspan(2),
                         node.ints_or("kernel_shape", {}), ceil_mode);
  bool keep = false;
  for (std::size_t d = 0; d < kMaxSpatial; ++d) {
    const std::int64_t reach = (w.out[d] - 1) * w.stride[d] + (w.kernel[d] - 1) * w.dilation[d] + 1;
    const std::int64_t missing = reach - w.in[d] - w.pad_begin[d] - w.pad_end[d];
    keep = keep || (missing > 0 && node.int_or("count_include_pad", 0) != 0);
    if (!keep) w.pad_end[d] += std::max<std::int64_t>(0, missing);
  }
  if (keep) {
    w = make_window(node, std::span(graph.value(node.inputs[0]).shape).subspan(2),
                    node.ints_or("kernel_shape", {}), ceil_mode);
  } else {
    node.attributes.erase("ceil_mode");
  }
  set_window(node, w);
  node.attributes.erase("storage_order");
}

// --- Pad ------------------------------------------------------------------------------------

bool pads_zeros(const Graph& graph, const Node& pad) {
  if (pad.string_or("mode", "constant") != "constant") return false;
  if (graph.value(pad.inputs[0]).dtype != DType::kFloat32) return false;
  if (pad.input(2) == kNoValue) return true;
  const Tensor* value = graph.constant(pad.inputs[2]);
  return value != nullptr && value->view<float>()[0] == 0.0F;
}

// spatial_pads returns the amounts of a Pad node for each spatial dimension; empty if it touches
// other dimensions, crops, or its amounts are not constant.
std::vector<PadAmount> spatial_pads(const Graph& graph, const Node& pad) {
  std::vector<OpInput> inputs(pad.inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const ValueId id = pad.inputs[i];
    if (id == kNoValue) continue;
    const Value& value = graph.value(id);
    inputs[i] = {.present = true,
                 .type = {.dtype = value.dtype, .shape = value.shape},
                 .data = graph.constant(id)};
    if (i > 0 && inputs[i].data == nullptr) return {};
  }
  auto pads = pad_amounts(InferContext(pad, inputs));
  for (std::size_t d = 0; d < pads.size(); ++d) {
    const bool allowed =
        d >= 2 ? pads[d].begin >= 0 && pads[d].end >= 0 : pads[d].begin == 0 && pads[d].end == 0;
    if (!allowed) return {};
  }
  pads.erase(pads.begin(), pads.begin() + std::min<std::ptrdiff_t>(2, std::ssize(pads)));
  return pads;
}

// add_pads returns the node's pads with the amounts added.
std::vector<std::int64_t> add_pads(const Node& node, const std::vector<PadAmount>& amounts) {
  auto pads = node.ints_or("pads", {});
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    pads[i] += amounts[i].begin;
    pads[amounts.size() + i] += amounts[i].end;
  }
  return pads;
}

// An average over padding counts it only with count_include_pad, and no window may lie in it.
bool average_may_pad(const Node& pool, const std::vector<std::int64_t>& pads) {
  if (pool.int_or("ceil_mode", 0) != 0) return false;
  const auto own = pool.ints_or("pads", {});
  const bool pads_itself =
      std::any_of(own.begin(), own.end(), [](std::int64_t pad) { return pad != 0; });
  if (pads_itself && pool.int_or("count_include_pad", 0) == 0) return false;
  const auto kernel = pool.ints_or("kernel_shape", {});
  const auto dilations = pool.ints_or("dilations", {});
  for (std::size_t i = 0; i < pads.size(); ++i) {
    const std::size_t d = i % kernel.size();
    if (pads[i] > (kernel[d] - 1) * dilations[d]) return false;
  }
  return true;
}

void merge_pad(Editor& editor, std::size_t i) {
  const Graph& graph = editor.graph();
  Node& node = editor.node(i);
  const ValueId padded = node.inputs[0];
  const Node* pad = editor.sole_producer(padded, "Pad");
  if (pad == nullptr || !pads_zeros(graph, *pad)) return;
  const auto amounts = spatial_pads(graph, *pad);
  if (amounts.empty()) return;
  auto pads = add_pads(node, amounts);
  if (node.op == "AveragePool") {
    if (!average_may_pad(node, pads)) return;
    node.attributes.insert_or_assign("count_include_pad", std::int64_t{1});
  }
  node.attributes.insert_or_assign("pads", std::move(pads));
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = pad->inputs[0];
  const std::size_t pad_index = editor.producer_index(padded);
  editor.set_inputs(i, std::move(inputs));
  editor.remove(pad_index);
}

}  // namespace

void resolve_windows(Graph& graph) {
  for (Node& node : graph.nodes) {
    if (node.op == "Conv" || node.op == "QLinearConv") resolve_conv(graph, node);
    if (node.op == "ConvTranspose") resolve_conv_transpose(graph, node);
    if (node.op == "MaxPool" || node.op == "AveragePool") resolve_pool(graph, node);
  }
}

void merge_pads(Graph& graph) {
  Editor editor(graph);
  for (std::size_t i = 0; i < editor.size(); ++i) {
    if (editor.node(i).op == "Conv" || editor.node(i).op == "AveragePool") merge_pad(editor, i);
  }
  editor.finish();
}

}  // namespace slalom::importer
