// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>
#include <thread>

#include "importer/ops/op.h"
#include "importer/zoo/builder.h"

namespace slalom::importer {
namespace {

constexpr std::int64_t kMaxTensorBytes = std::int64_t{4} << 30;
// Fewer positions than this say little about a channel; the whole tensor is taken then.
constexpr std::size_t kFewPositions = 32;

struct Moments {
  double mean = 0.0;
  double deviation = 1.0;
};
Moments moments_of(std::span<const float> values) {
  double sum = 0.0;
  double squares = 0.0;
  for (const float v : values) {
    sum += v;
    squares += static_cast<double>(v) * v;
  }
  const auto n = static_cast<double>(values.size());
  const double mean = sum / n;
  const double variance = squares / n - mean * mean;
  return {mean, variance > 1e-12 ? std::sqrt(variance) : 1.0};
}

// normalise_layer gives the outputs of a Conv or Gemm new moments, in its weights and in `out`.
void normalise_layer(Graph& graph, const Node& node, Tensor& out, Random& random) {
  const auto weights = graph.initialisers.at(node.inputs[1]).view<float>();
  const auto bias = graph.initialisers.at(node.inputs[2]).view<float>();
  const auto values = out.view<float>();
  const std::size_t channels = bias.size();
  const std::size_t positions = values.size() / channels;
  const std::size_t terms = weights.size() / channels;
  const Moments whole = moments_of(values);
  for (std::size_t c = 0; c < channels; ++c) {
    const auto channel = values.subspan(c * positions, positions);
    const Moments now = positions < kFewPositions ? whole : moments_of(channel);
    // Trained batch normalisation differs from channel to channel.
    const double deviation = 0.75 + 0.5 * random.uniform();
    const double mean = 0.25 * random.normal();
    const double factor = deviation / now.deviation;
    const double shift = mean - now.mean * factor;
    for (float& w : weights.subspan(c * terms, terms)) w = static_cast<float>(w * factor);
    bias[c] = static_cast<float>(bias[c] * factor + shift);
    for (float& v : channel) v = static_cast<float>(v * factor + shift);
  }
}

}  // namespace

void normalise(Graph& graph, const Tensor& sample, std::uint64_t seed, const Progress& progress) {
  Random random(seed ^ 0x6e6f726d616c6973ULL);
  std::map<ValueId, Tensor> alive;
  alive[graph.inputs[0]] = sample;
  std::vector<std::size_t> uses(graph.values.size(), 0);
  for (const Node& node : graph.nodes) {
    for (const ValueId id : node.inputs) ++uses[static_cast<std::size_t>(id)];
  }
  const unsigned threads = std::max(1U, std::thread::hardware_concurrency());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (progress) progress("weights", i, graph.nodes.size());
    const Node& node = graph.nodes[i];
    std::vector<const Tensor*> inputs;
    for (const ValueId id : node.inputs) {
      const Tensor* constant = graph.constant(id);
      inputs.push_back(constant != nullptr ? constant : &alive.at(id));
    }
    Tensor out = std::move(evaluate(node, inputs, threads, kMaxTensorBytes)[0]);
    if (node.op == "Conv" || node.op == "Gemm") normalise_layer(graph, node, out, random);
    alive[node.outputs[0]] = std::move(out);
    for (const ValueId id : node.inputs) {
      if (--uses[static_cast<std::size_t>(id)] == 0) alive.erase(id);
    }
  }
  if (progress) progress("weights", graph.nodes.size(), graph.nodes.size());
}

}  // namespace slalom::importer
