// SPDX-License-Identifier: Apache-2.0
// Any bytes, read as an ONNX network: either one Error, or a graph that keeps its invariants; the
// same for folding; and what folds also runs if it is small.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "importer/fold.h"
#include "importer/interpreter.h"
#include "importer/onnx_reader.h"

namespace {

namespace importer = slalom::importer;

void require(bool condition) {
  if (!condition) std::abort();
}

// check_graph aborts unless every value that is read was made before (graph.h).
void check_graph(const importer::Graph& graph) {
  std::vector<bool> made(graph.values.size(), false);
  const auto make = [&](importer::ValueId id) {
    require(id >= 0 && static_cast<std::size_t>(id) < made.size());
    require(!made[static_cast<std::size_t>(id)]);
    made[static_cast<std::size_t>(id)] = true;
  };
  for (const auto id : graph.inputs) make(id);
  for (const auto& [id, tensor] : graph.initialisers) {
    make(id);
    require(graph.value(id).shape == tensor.shape());
  }
  for (const auto& node : graph.nodes) {
    for (const auto id : node.inputs) {
      require(id == importer::kNoValue || made.at(static_cast<std::size_t>(id)));
    }
    for (const auto id : node.outputs) {
      if (id != importer::kNoValue) make(id);
    }
  }
  for (const auto id : graph.outputs) require(made.at(static_cast<std::size_t>(id)));
}

// small says whether running the graph takes no noticeable time.
bool small(const importer::Graph& graph) {
  if (graph.nodes.size() > 20) return false;
  for (const auto& value : graph.values) {
    const std::int64_t count = importer::element_count(value.shape);
    if (count < 0 || count > 2000) return false;
  }
  for (const auto& node : graph.nodes) {
    for (const auto& [name, attribute] : node.attributes) {
      const auto* list = std::get_if<std::vector<std::int64_t>>(&attribute);
      if (list != nullptr && std::any_of(list->begin(), list->end(),
                                         [](std::int64_t v) { return v < -16 || v > 16; })) {
        return false;
      }
    }
  }
  return true;
}

void run_small(const importer::Graph& graph) {
  std::vector<importer::Tensor> inputs;
  for (const auto id : graph.inputs) {
    const auto& value = graph.value(id);
    inputs.emplace_back(value.dtype, value.shape);
  }
  importer::RunOptions options;
  options.threads = 1;
  options.max_tensor_bytes = 1 << 20;
  const auto outputs = importer::run(graph, inputs, options);
  if (!outputs) {
    require(!outputs.error().message().empty());
    return;
  }
  // What runs has the shapes that folding said.
  for (std::size_t i = 0; i < outputs.value().size(); ++i) {
    require(outputs.value()[i].shape() == graph.value(graph.outputs[i]).shape);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const importer::ReadLimits limits{.max_constant_bytes = 1 << 20, .max_nodes = 200};
  const auto graph =
      importer::parse_onnx(std::as_bytes(std::span(data, size)), std::nullopt, limits);
  if (!graph) {
    require(!graph.error().message().empty());
    return 0;
  }
  check_graph(graph.value());
  for (const bool lift : {true, false}) {
    importer::FoldOptions options;
    options.lift_batch = lift;
    options.max_folded_bytes = 1 << 22;
    const auto folded = importer::fold(graph.value(), options);
    if (!folded) {
      require(!folded.error().message().empty());
      continue;
    }
    check_graph(folded.value());
    if (small(folded.value())) run_small(folded.value());
  }
  return 0;
}
