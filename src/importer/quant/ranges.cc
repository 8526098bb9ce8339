// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/ranges.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

// Scores are i32 tensors with about this many steps to the largest seen, so that the order of
// classes is the float network's and not that of 8-bit codes.
constexpr double kScoreSteps = 1 << 20;

bool clamps_only(const NetOp& op) {
  if (const auto* linear = std::get_if<NetLinear>(&op)) return linear->post.clamp;
  return std::holds_alternative<NetAdd>(op) || std::holds_alternative<NetMul>(op) ||
         std::holds_alternative<NetAveragePool>(op);
}

// is_scores: an output that nothing else reads, from an operator that can write integers: raw sums
// of a Linear, or a vector.
std::vector<bool> score_tensors(const Net& net) {
  std::vector<bool> scores(net.tensors.size(), false);
  const std::vector<std::size_t> readers = net.readers();
  const std::vector<std::size_t> producers = net.producers();
  for (const NetOutput& output : net.outputs) {
    const NetTensor& tensor = net.tensors[output.tensor];
    const std::size_t maker = producers[output.tensor];
    if (maker == kNoNode || readers[output.tensor] != 1 || tensor.fixed) continue;
    const NetOp& op = net.nodes[maker].op;
    if (!clamps_only(op)) continue;
    const auto* linear = std::get_if<NetLinear>(&op);
    const bool raw = linear != nullptr && linear->post.identity();
    scores[output.tensor] = raw || tensor.shape.positions() == 1;
  }
  return scores;
}

class UnionFind {
 public:
  explicit UnionFind(std::size_t count) : parent_(count) {
    for (std::size_t i = 0; i < count; ++i) parent_[i] = static_cast<TensorIndex>(i);
  }
  TensorIndex find(TensorIndex i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void unite(TensorIndex a, TensorIndex b) { parent_[find(a)] = find(b); }

 private:
  std::vector<TensorIndex> parent_;
};

// joins_output: an operand of a Concat that takes on the result's quantisation.
bool joins_output(const Net& net, const std::vector<std::size_t>& readers,
                  const std::vector<std::size_t>& producers, TensorIndex operand,
                  TensorIndex output) {
  const NetTensor& in = net.tensors[operand];
  const NetTensor& out = net.tensors[output];
  const std::size_t maker = producers[operand];
  const bool softmax = maker != kNoNode && std::holds_alternative<NetSoftmax>(net.nodes[maker].op);
  return readers[operand] == 1 && maker != kNoNode && !softmax && !in.fixed && !out.fixed;
}

RealRange range_of_values(const std::vector<float>& values) {
  RealRange range;
  for (const float v : values) {
    if (!std::isfinite(v)) fail("a constant is not finite");
    range = join(range, {std::min<double>(v, 0.0), std::max<double>(v, 0.0)});
  }
  return range;
}

// table_range cuts off the ends of a range where the function's 8-bit result no longer changes, so
// that the codes before the table are spent where they matter.
RealRange table_range(const RealRange& range, const Unary& f, const Quant& out) {
  constexpr int kPoints = 4096;
  const auto code = [&](int i) {
    const double x = range.lo + (range.hi - range.lo) * i / kPoints;
    return std::clamp(std::nearbyint(f(x) / out.scale) + out.zero_point, 0.0, 255.0);
  };
  int first = 0;
  int last = kPoints;
  while (first < last && code(first + 1) == code(0)) ++first;
  while (last > first && code(last - 1) == code(kPoints)) --last;
  const double step = (range.hi - range.lo) / kPoints;
  return {std::min(0.0, range.lo + step * first), std::max(0.0, range.lo + step * last)};
}

// Chooser holds what choose_quants works with.
struct Chooser {
  const Net& net;
  const Statistics& statistics;
  const QuantiseOptions& options;

  [[nodiscard]] RealRange range_of(ValueId value, const NetNode* maker) const {
    const auto it = statistics.histograms.find(value);
    if (it != statistics.histograms.end() && value != kNoValue) {
      return calibrated_range(it->second, options);
    }
    const std::string what =
        "the range of its result is not known: calibration samples are needed (--calibrate)";
    if (maker == nullptr) fail(what);
    throw Failure(blame(Error{.what = what, .node = {}, .op = {}}, maker->origin));
  }

  [[nodiscard]] Quant input_quant(std::size_t i) const {
    const TensorIndex id = net.inputs[i];
    if (i < options.input_ranges.size() && options.input_ranges[i]) {
      const auto& [lo, hi] = *options.input_ranges[i];
      return quant_of({std::min(0.0, lo), std::max(0.0, hi)});
    }
    // Pictures use their whole range; nothing is cut.
    const auto it = statistics.histograms.find(net.tensors[id].value);
    if (it == statistics.histograms.end()) {
      fail("the range of the input '" + net.tensors[id].name +
           "' is not known: calibration samples are needed (--calibrate)");
    }
    return quant_of(it->second.min_max());
  }
};

}  // namespace

Quant quant_of(const RealRange& range) {
  const double width = range.hi - range.lo;
  if (!(width > 0.0)) return {1.0F, 0};
  // Ends that are far apart in size leave the scale representable.
  const auto scale = static_cast<float>(std::max(width / 255.0, 1e-30));
  const double zero_point = std::clamp(std::nearbyint(-range.lo / scale), 0.0, 255.0);
  return {scale, static_cast<std::int32_t>(zero_point)};
}

std::vector<TensorIndex> shared_groups(const Net& net) {
  UnionFind groups(net.tensors.size());
  const std::vector<std::size_t> readers = net.readers();
  const std::vector<std::size_t> producers = net.producers();
  for (const NetNode& node : net.nodes) {
    if (keeps_codes(node.op)) groups.unite(node.inputs[0], node.output);
    if (!std::holds_alternative<NetConcat>(node.op)) continue;
    for (const TensorIndex operand : node.inputs) {
      if (joins_output(net, readers, producers, operand, node.output)) {
        groups.unite(operand, node.output);
      }
    }
  }
  std::vector<TensorIndex> result(net.tensors.size());
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = groups.find(static_cast<TensorIndex>(i));
  }
  return result;
}

std::vector<ValueId> wanted_values(const Net& net) {
  std::vector<ValueId> values;
  for (const NetTensor& tensor : net.tensors) {
    if (tensor.value != kNoValue && !tensor.fixed) values.push_back(tensor.value);
  }
  for (const NetNode& node : net.nodes) {
    const auto* linear = std::get_if<NetLinear>(&node.op);
    if (linear != nullptr && !linear->post.clamp && !linear->fixed_before_post &&
        linear->before_post != kNoValue) {
      values.push_back(linear->before_post);
    }
  }
  return values;
}

Quants choose_quants(const Net& net, const Statistics& statistics, const QuantiseOptions& options) {
  const Chooser chooser{net, statistics, options};
  Quants quants{.tensors = std::vector<Quant>(net.tensors.size()),
                .integers = score_tensors(net),
                .before_table = {}};
  const std::vector<TensorIndex> group = shared_groups(net);
  const std::vector<std::size_t> producers = net.producers();
  const std::vector<std::size_t> readers = net.readers();
  std::vector<std::optional<Quant>> fixed(net.tensors.size());
  std::vector<std::optional<RealRange>> ranges(net.tensors.size());
  for (std::size_t i = 0; i < net.tensors.size(); ++i) {
    if (net.tensors[i].fixed && !fixed[group[i]]) fixed[group[i]] = net.tensors[i].fixed;
  }
  for (std::size_t i = 0; i < net.inputs.size(); ++i) {
    const TensorIndex g = group[net.inputs[i]];
    if (!fixed[g]) fixed[g] = chooser.input_quant(i);
  }
  for (const NetNode& node : net.nodes) {
    if (std::holds_alternative<NetSoftmax>(node.op)) {
      fixed[group[node.output]] = Quant{1.0F / 256, 0};
    }
  }
  // A group's range is the union of what its tensors hold; operands of a Concat are in its result.
  for (const NetNode& node : net.nodes) {
    const TensorIndex g = group[node.output];
    if (fixed[g]) continue;
    const auto widen = [&](const RealRange& range) {
      ranges[g] = ranges[g] ? join(*ranges[g], range) : range;
    };
    if (const auto* constant = std::get_if<NetConstant>(&node.op)) {
      widen(range_of_values(constant->values));
      continue;
    }
    if (const auto* pad = std::get_if<NetPad>(&node.op)) {
      widen({std::min(0.0, pad->value), std::max(0.0, pad->value)});
    }
    const NetTensor& tensor = net.tensors[node.output];
    const bool moved = keeps_codes(node.op);
    if (tensor.value == kNoValue || (moved && ranges[g])) continue;
    widen(chooser.range_of(tensor.value, &node));
  }
  for (std::size_t i = 0; i < net.tensors.size(); ++i) {
    const TensorIndex g = group[i];
    if (fixed[g]) {
      quants.tensors[i] = *fixed[g];
    } else if (ranges[g]) {
      quants.tensors[i] = quant_of(*ranges[g]);
    }
    if (quants.integers[i]) {
      const RealRange range = chooser.range_of(net.tensors[i].value, &net.nodes[producers[i]]);
      const double largest = std::max({range.hi, -range.lo, 1e-20});
      quants.tensors[i] = {static_cast<float>(largest / kScoreSteps), 0};
    }
  }
  for (std::size_t i = 0; i < net.nodes.size(); ++i) {
    const auto* linear = std::get_if<NetLinear>(&net.nodes[i].op);
    if (linear == nullptr || linear->post.clamp) continue;
    if (linear->fixed_before_post) {
      quants.before_table[i] = *linear->fixed_before_post;
      continue;
    }
    const RealRange range = chooser.range_of(linear->before_post, &net.nodes[i]);
    quants.before_table[i] =
        quant_of(table_range(range, linear->post, quants.tensors[net.nodes[i].output]));
  }
  return quants;
}

}  // namespace slalom::importer
