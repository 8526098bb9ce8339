// SPDX-License-Identifier: Apache-2.0
#include "importer/quantise.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "importer/ops/op.h"
#include "importer/quant/annotate.h"
#include "importer/quant/calibrate.h"
#include "importer/quant/compare.h"
#include "importer/quant/emit.h"
#include "importer/quant/equalise.h"
#include "importer/quant/fuse.h"
#include "importer/quant/lower.h"
#include "importer/quant/ranges.h"

namespace slalom::importer {
namespace {

bool is_quantised(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return node.op == "QuantizeLinear" || node.op == "DequantizeLinear" || node.op == "QLinearConv";
  });
}

void check_options(const QuantiseOptions& options) {
  if (!(options.percentile > 50.0 && options.percentile <= 100.0)) {
    fail("the percentile is not above 50 and at most 100");
  }
}

std::string calibrator_text(const QuantiseOptions& options) {
  switch (options.calibrator) {
    case Calibrator::kMinMax:
      return "minmax";
    case Calibrator::kPercentile:
      return "percentile " + std::to_string(options.percentile);
    case Calibrator::kMse:
      return "mse";
  }
  return "";
}

// gather makes empty statistics for everything that is wanted and fills them from the samples.
Statistics gather(const Graph& graph, const Net& net, const SampleSource& samples,
                  const QuantiseOptions& options) {
  Statistics statistics;
  for (const ValueId id : wanted_values(net)) statistics.histograms.try_emplace(id);
  if (options.correct_bias) {
    for (const NetNode& node : net.nodes) {
      const auto* linear = std::get_if<NetLinear>(&node.op);
      if (linear == nullptr || linear->fixed) continue;
      const NetTensor& in = net.tensors[node.inputs[0]];
      if (in.value != kNoValue) statistics.means.try_emplace(in.value, in.view, in.shape.c);
    }
  }
  if (samples.count == 0) {
    statistics = {};  // nothing was seen: a missing range is an error, not an empty one
  } else if (!statistics.histograms.empty() || !statistics.means.empty()) {
    collect(graph, samples, options, statistics);
  }
  return statistics;
}

Quantised quantise_graph(const Graph& graph, const SampleSource& samples,
                         const QuantiseOptions& options) {
  check_options(options);
  const bool quantised = is_quantised(graph);
  const bool equalises = !quantised && samples.count != 0 &&
                         (options.equalise == Equalise::kOn ||
                          (options.equalise == Equalise::kAuto && has_depthwise(graph)));
  std::optional<Graph> changed;
  std::size_t pairs = 0;
  if (equalises) {
    changed = graph;
    pairs = equalise(*changed, samples, options);
  }
  const Graph& real = changed ? *changed : graph;
  std::optional<Annotated> annotated;
  if (quantised) annotated = annotate(real);
  const Annotations none;
  Net net = lower(annotated ? annotated->graph : real, annotated ? annotated->notes : none);
  fuse(net, options.fuse_separable && !quantised);
  const Statistics statistics = gather(real, net, samples, options);
  Quants quants = choose_quants(net, statistics, options);
  const std::size_t apart = split_unprovable(net, quants);
  if (apart != 0) quants = choose_quants(net, statistics, options);
  Emitted emitted = emit(net, quants, statistics, options);
  emitted.report.calibrator = quantised ? "as in the file" : calibrator_text(options);
  emitted.report.samples = samples.count;
  if (pairs != 0) {
    emitted.report.notes.push_back(std::to_string(pairs) + " pairs of convolutions were equalised");
  }
  if (apart != 0) {
    emitted.report.notes.push_back(
        std::to_string(apart) +
        " separable layers exceed the larger field; their depthwise halves stay in the trusted "
        "process");
  }
  compare(real, net, samples, options, emitted);
  return {std::move(emitted.plan), std::move(emitted.report)};
}

}  // namespace

std::vector<InputInfo> input_info(const Graph& graph) {
  std::vector<InputInfo> inputs;
  for (const ValueId id : graph.inputs) {
    const Value& value = graph.value(id);
    inputs.push_back({.name = value.name, .shape = value.shape, .dtype = value.dtype});
  }
  return inputs;
}

ImportResult<Quantised> quantise(const Graph& graph, const SampleSource& samples,
                                 const QuantiseOptions& options) {
  try {
    return quantise_graph(graph, samples, options);
  } catch (const Failure& failure) {
    return failure.error();
  }
}

}  // namespace slalom::importer
