// SPDX-License-Identifier: Apache-2.0
#include "importer/interpreter.h"

#include <algorithm>
#include <exception>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

void check_input(const Value& value, const Tensor& tensor, std::int64_t& batch) {
  const auto bad = [&value](const std::string& what) {
    fail("the input '" + value.name + "' " + what);
  };
  if (!value.typed) return;
  if (tensor.dtype() != value.dtype) {
    bad("has the type " + std::string(dtype_name(tensor.dtype())) + ", not " +
        std::string(dtype_name(value.dtype)));
  }
  const std::string shapes =
      "has the shape " + shape_text(tensor.shape()) + ", not " + shape_text(value.shape);
  if (tensor.rank() != value.shape.size()) bad(shapes);
  for (std::size_t d = 0; d < value.shape.size(); ++d) {
    const std::int64_t expected = value.shape[d];
    const std::int64_t found = tensor.shape()[d];
    if (static_cast<int>(d) == value.batch_axis) {
      if (found < 1 || found % expected != 0) bad(shapes);
      if (batch == 0) batch = found / expected;
      if (batch != found / expected) bad("has another batch size than the inputs before it");
    } else if (expected >= 0 && found != expected) {
      bad(shapes);
    }
  }
}

// Execution is one run: the tensors that are alive, and when each of them dies.
class Execution {
 public:
  Execution(const Graph& graph, const RunOptions& options)
      : graph_(graph),
        options_(options),
        threads_(options.threads != 0 ? options.threads
                                      : std::max(1U, std::thread::hardware_concurrency())),
        owned_(graph.values.size()),
        known_(graph.values.size(), nullptr),
        uses_(graph.values.size(), 0) {
    for (const Node& node : graph.nodes) {
      for (const ValueId id : node.inputs) {
        if (id != kNoValue) ++uses_[index(id)];
      }
    }
    for (const ValueId id : graph.outputs) ++uses_[index(id)];  // never used up
    for (const auto& [id, tensor] : graph.initialisers) known_[index(id)] = &tensor;
  }

  std::vector<Tensor> run(std::span<const Tensor> inputs) {
    if (inputs.size() != graph_.inputs.size()) {
      fail("the network has " + std::to_string(graph_.inputs.size()) + " inputs, but " +
           std::to_string(inputs.size()) + " are given");
    }
    std::int64_t batch = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const ValueId id = graph_.inputs[i];
      check_input(graph_.value(id), inputs[i], batch);
      known_[index(id)] = &inputs[i];
      observe(id);
    }
    for (const Node& node : graph_.nodes) step(node);
    std::vector<Tensor> outputs;
    outputs.reserve(graph_.outputs.size());
    for (const ValueId id : graph_.outputs) outputs.push_back(*known_[index(id)]);
    return outputs;
  }

 private:
  static std::size_t index(ValueId id) { return static_cast<std::size_t>(id); }

  void observe(ValueId id) const {
    if (options_.observer) options_.observer(id, *known_[index(id)]);
  }

  void step(const Node& node) {
    std::vector<const Tensor*> inputs;
    inputs.reserve(node.inputs.size());
    for (const ValueId id : node.inputs) {
      inputs.push_back(id == kNoValue ? nullptr : known_[index(id)]);
    }
    std::vector<Tensor> results = evaluate(node, inputs, threads_, options_.max_tensor_bytes);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const ValueId id = node.outputs[i];
      if (id == kNoValue) continue;
      owned_[index(id)] = std::move(results[i]);
      known_[index(id)] = &owned_[index(id)];
      observe(id);
      if (uses_[index(id)] == 0) owned_[index(id)] = Tensor();
    }
    for (const ValueId id : node.inputs) {
      if (id != kNoValue && --uses_[index(id)] == 0) owned_[index(id)] = Tensor();
    }
  }

  const Graph& graph_;
  const RunOptions& options_;
  unsigned threads_;
  std::vector<Tensor> owned_;         // by ValueId
  std::vector<const Tensor*> known_;  // by ValueId; null before it is computed
  std::vector<std::size_t> uses_;     // by ValueId: how many are still to come
};

}  // namespace

ImportResult<std::vector<Tensor>> run(const Graph& graph, std::span<const Tensor> inputs,
                                      const RunOptions& options) {
  try {
    return Execution(graph, options).run(inputs);
  } catch (const Failure& failure) {
    return failure.error();
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& error) {
    return Error{.what = std::string("the network cannot be evaluated: ") + error.what()};
  }
}

}  // namespace slalom::importer
