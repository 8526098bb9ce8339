// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/equalise.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <vector>

#include "importer/interpreter.h"
#include "importer/ops/op.h"
#include "importer/quant/calibrate.h"

namespace slalom::importer {
namespace {

// Pair is two convolutions and the value that the second reads.
struct Pair {
  std::size_t first, second;  // nodes
  ValueId between;
};

bool homogeneous(std::string_view op) {
  return op == "Relu" || op == "LeakyRelu" || op == "PRelu" || op == "MaxPool" ||
         op == "AveragePool" || op == "GlobalAveragePool";
}

bool is_conv(const Graph& graph, const Node& node) {
  if (node.op != "Conv") return false;
  const Tensor* weights = graph.constant(node.input(1));
  const bool bias_known = node.input(2) == kNoValue || graph.constant(node.input(2)) != nullptr;
  return weights != nullptr && weights->dtype() == DType::kFloat32 && bias_known;
}

std::vector<Pair> find_pairs(const Graph& graph) {
  const Links links = link(graph);
  // A constant that several nodes share must not change under one of them.
  const auto only_here = [&](ValueId id) {
    return id == kNoValue || links.consumers[static_cast<std::size_t>(id)].size() == 1;
  };
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& second = graph.nodes[i];
    if (!is_conv(graph, second) || !only_here(second.input(1))) continue;
    ValueId id = second.input(0);
    while (true) {
      const auto at = static_cast<std::size_t>(id);
      const std::size_t maker = links.producer[at];
      if (maker == kNoNode || links.consumers[at].size() != 1 || links.is_output[at]) break;
      const Node& node = graph.nodes[maker];
      if (is_conv(graph, node) && only_here(node.input(1)) && only_here(node.input(2))) {
        pairs.push_back({maker, i, second.input(0)});
        break;
      }
      if (!homogeneous(node.op)) break;
      id = node.input(0);
    }
  }
  return pairs;
}

// ChannelPeaks keeps the largest magnitude of each channel (dimension 1).
void add_peaks(const Tensor& tensor, std::vector<double>& peaks) {
  const auto channels = static_cast<std::size_t>(tensor.shape()[1]);
  const auto values = tensor.view<float>();
  peaks.resize(channels, 0.0);
  const auto batch = static_cast<std::size_t>(tensor.shape()[0]);
  const std::size_t inner = values.size() / std::max<std::size_t>(1, channels * batch);
  for (std::size_t i = 0; i < values.size(); ++i) {
    double& peak = peaks[i / inner % channels];
    peak = std::max<double>(peak, std::fabs(values[i]));
  }
}

// InputChannels visits the weights of the second convolution by input channel.
template <class F>
void for_each_weight(const Tensor& weights, std::size_t groups, F&& f) {
  const auto outputs = static_cast<std::size_t>(weights.shape()[0]);
  const auto inner = static_cast<std::size_t>(weights.shape()[1]);
  const std::size_t taps = weights.size() / std::max<std::size_t>(1, outputs * inner);
  for (std::size_t o = 0; o < outputs; ++o) {
    const std::size_t base = o / (outputs / groups) * inner;
    for (std::size_t i = 0; i < inner; ++i) {
      for (std::size_t t = 0; t < taps; ++t) f(base + i, (o * inner + i) * taps + t);
    }
  }
}

// factors are the s_c of a pair, the largest being 1; a channel that never fires keeps 1.
std::vector<double> factors(const Tensor& second, std::size_t groups,
                            const std::vector<double>& peaks) {
  std::vector<double> weight_peaks(peaks.size(), 0.0);
  const auto values = second.view<float>();
  for_each_weight(second, groups, [&](std::size_t c, std::size_t at) {
    weight_peaks[c] = std::max<double>(weight_peaks[c], std::fabs(values[at]));
  });
  std::vector<double> result(peaks.size(), 0.0);
  double largest = 0.0;
  for (std::size_t c = 0; c < peaks.size(); ++c) {
    if (!(peaks[c] > 0.0) || !(weight_peaks[c] > 0.0)) continue;
    const bool depthwise = groups == peaks.size();
    result[c] = depthwise ? peaks[c] : std::sqrt(peaks[c] / weight_peaks[c]);
    largest = std::max(largest, result[c]);
  }
  constexpr double kLeast = 1.0 / 256;  // beyond it rounding noise would be blown up, not signal
  for (double& s : result) s = s > 0.0 ? std::max(s / largest, kLeast) : 1.0;
  return result;
}

void rescale(Graph& graph, const Pair& pair, const std::vector<double>& peaks) {
  const Node& first = graph.nodes[pair.first];
  const Node& second = graph.nodes[pair.second];
  Tensor& after = graph.initialisers.at(second.input(1));
  const auto groups = static_cast<std::size_t>(second.int_or("group", 1));
  const std::vector<double> s = factors(after, groups, peaks);
  Tensor& before = graph.initialisers.at(first.input(1));
  if (static_cast<std::size_t>(before.shape()[0]) != s.size()) return;
  const auto scale = [](float& value, double factor) {
    value = static_cast<float>(value * factor);
  };
  const auto before_values = before.view<float>();
  const std::size_t row = before_values.size() / s.size();
  for (std::size_t i = 0; i < before_values.size(); ++i) scale(before_values[i], 1.0 / s[i / row]);
  if (first.input(2) != kNoValue) {
    const auto bias = graph.initialisers.at(first.input(2)).view<float>();
    for (std::size_t c = 0; c < bias.size(); ++c) scale(bias[c], 1.0 / s[c]);
  }
  const auto after_values = after.view<float>();
  for_each_weight(after, groups,
                  [&](std::size_t c, std::size_t at) { scale(after_values[at], s[c]); });
}

}  // namespace

bool has_depthwise(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
    const Tensor* weights = node.op == "Conv" ? graph.constant(node.input(1)) : nullptr;
    return weights != nullptr && node.int_or("group", 1) > 1 && weights->shape()[1] == 1;
  });
}

std::size_t equalise(Graph& graph, const SampleSource& samples, const QuantiseOptions& options) {
  const std::vector<Pair> pairs = find_pairs(graph);
  if (pairs.empty()) return 0;
  std::map<ValueId, std::vector<double>> peaks;
  for (const Pair& pair : pairs) peaks[pair.between] = {};
  RunOptions run_options;
  run_options.threads = options.threads;
  run_options.observer = [&](ValueId id, const Tensor& tensor) {
    if (const auto it = peaks.find(id); it != peaks.end()) add_peaks(tensor, it->second);
  };
  for (std::size_t i = 0; i < samples.count; ++i) {
    if (options.progress) options.progress("equalising", i, samples.count);
    const auto outputs = importer::run(graph, checked_sample(graph, samples, i), run_options);
    if (!outputs) throw Failure(outputs.error());
  }
  if (options.progress) options.progress("equalising", samples.count, samples.count);
  for (const Pair& pair : pairs) rescale(graph, pair, peaks.at(pair.between));
  return pairs.size();
}

}  // namespace slalom::importer
