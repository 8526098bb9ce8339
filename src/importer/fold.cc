// SPDX-License-Identifier: Apache-2.0
#include "importer/fold.h"

#include <algorithm>
#include <exception>
#include <new>
#include <string>

#include "importer/fold_rewrites.h"
#include "importer/fold_types.h"
#include "importer/graph_edit.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

// give_shapes applies FoldOptions::input_shapes.
void give_shapes(Graph& graph, const FoldOptions& options) {
  for (const auto& [key, shape] : options.input_shapes) {
    const std::string& name = key;
    const auto id = std::find_if(graph.inputs.begin(), graph.inputs.end(),
                                 [&](ValueId input) { return graph.value(input).name == name; });
    if (id == graph.inputs.end()) fail("the network has no input '" + name + "'");
    Value& value = graph.value(*id);
    bool fits = shape.size() == value.shape.size() && element_count(shape) > 0;
    for (std::size_t d = 0; fits && d < shape.size(); ++d) {
      fits = (d == 0 && options.lift_batch) || value.shape[d] < 0 || value.shape[d] == shape[d];
    }
    if (!fits) {
      fail("the shape " + shape_text(shape) + " does not fit the input '" + name + "' of shape " +
           shape_text(value.shape));
    }
    const std::int64_t declared = shape.empty() ? -1 : value.shape[0];
    value.shape = shape;
    if (options.lift_batch) value.shape[0] = declared;
  }
}

void check_closed(const Value& value, std::size_t from) {
  for (std::size_t d = from; d < value.shape.size(); ++d) {
    if (value.shape[d] >= 0) continue;
    fail("the input '" + value.name + "' of shape " + shape_text(value.shape) +
         " leaves dimension " + std::to_string(d + 1) + " open: give its shape (--input-shape)");
  }
}

// lift_inputs makes the first dimension of every input the batch. Returns the batch size that the
// file fixes, or 0.
std::int64_t lift_inputs(Graph& graph) {
  std::int64_t declared = 0;
  for (const ValueId id : graph.inputs) {
    Value& value = graph.value(id);
    if (value.shape.empty()) fail("the input '" + value.name + "' is a scalar: it has no batch");
    check_closed(value, 1);
    const std::int64_t batch = std::max<std::int64_t>(value.shape[0], 0);
    if (id != graph.inputs.front() && batch != declared) {
      fail("the inputs have different batch sizes");
    }
    declared = batch;
    value.shape[0] = 1;
    value.batch_axis = 0;
  }
  return declared;
}

Graph fold_graph(Graph graph, const FoldOptions& options) {
  FoldBudget budget{.bytes_left = options.max_folded_bytes};
  give_shapes(graph, options);
  sweep(graph);
  std::int64_t declared = 0;
  if (options.lift_batch) {
    declared = lift_inputs(graph);
  } else {
    for (const ValueId id : graph.inputs) check_closed(graph.value(id), 0);
  }
  const auto set_types = [&](std::int64_t batch) {
    if (options.lift_batch) {
      fold_constants_batched(graph, batch, budget);
      check_images_apart(graph);
    } else {
      fold_constants(graph, budget);
    }
  };
  set_types(declared);
  remove_no_ops(graph);
  set_types(0);
  recognise_activations(graph);
  divisions_to_products(graph);
  fold_affine(graph);
  set_types(0);
  resolve_windows(graph);
  merge_pads(graph);
  set_types(0);
  return graph;
}

}  // namespace

ImportResult<Graph> fold(Graph graph, const FoldOptions& options) {
  try {
    return fold_graph(std::move(graph), options);
  } catch (const Failure& failure) {
    return failure.error();
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& error) {
    return Error{.what = std::string("the network cannot be folded: ") + error.what()};
  }
}

}  // namespace slalom::importer
