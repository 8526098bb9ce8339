// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/emit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "importer/ops/op.h"
#include "importer/quant/emit_ops.h"

namespace slalom::importer {
namespace {

std::string printable(std::string name) {
  for (char& c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '_';
  }
  if (name.size() > 4096) name.resize(4096);
  return name;
}

// in_context runs f and lays the blame for what it throws on the node.
template <class F>
auto in_context(const NetNode& node, F&& f) {
  try {
    return f();
  } catch (const Failure& failure) {
    throw Failure(blame(failure.error(), node.origin));
  }
}

// Emitter builds the plan.
class Emitter {
 public:
  Emitter(const Net& net, const Quants& quants, const Statistics& statistics,
          const QuantiseOptions& options)
      : net_(net), quants_(quants), statistics_(statistics), options_(options) {}

  Emitted run() {
    result_.plan.name = printable(net_.name);
    result_.report.name = result_.plan.name;
    number_tensors();
    choose_fields();
    for (std::size_t i = 0; i < net_.nodes.size(); ++i) {
      if (options_.progress) options_.progress("quantising", i, net_.nodes.size());
      const NetNode& node = net_.nodes[i];
      in_context(node, [&] { add_node(i, node); });
    }
    if (options_.progress) options_.progress("quantising", net_.nodes.size(), net_.nodes.size());
    for (const TensorIndex id : net_.inputs) result_.plan.inputs.push_back(number_[id]);
    for (const NetOutput& output : net_.outputs) {
      result_.plan.outputs.push_back({number_[output.tensor], output.function});
    }
    if (const Status status = model::validate(result_.plan); !status.ok()) {
      fail(std::string("the network does not make a valid plan: ") + status.error().message);
    }
    return std::move(result_);
  }

 private:
  void number_tensors() {
    number_.assign(net_.tensors.size(), 0);
    std::vector<bool> used(net_.tensors.size(), false);
    for (const TensorIndex id : net_.inputs) used[id] = true;
    for (const NetNode& node : net_.nodes) used[node.output] = true;
    for (TensorIndex id = 0; id < net_.tensors.size(); ++id) {
      if (!used[id]) continue;
      const NetTensor& tensor = net_.tensors[id];
      const Quant& quant = quants_.tensors[id];
      number_[id] = static_cast<model::TensorId>(result_.plan.tensors.size());
      result_.plan.tensors.push_back(
          {.name = printable(tensor.name),
           .shape = tensor.shape,
           .dtype = quants_.integers[id] ? model::Dtype::kI32 : model::Dtype::kU8,
           .scale = quant.scale,
           .zero_point = quant.zero_point});
      result_.source.push_back(id);
    }
  }

  [[nodiscard]] LinearContext context_of(const NetNode& node, bool correct) const {
    const TensorIndex in = node.inputs[0];
    LinearContext context{.in = quants_.tensors[in], .channel_mean = {}};
    if (!correct || !options_.correct_bias) return context;
    const auto mean = statistics_.means.find(net_.tensors[in].value);
    if (mean != statistics_.means.end()) context.channel_mean = mean->second.mean();
    return context;
  }

  // choose_fields gives layers that read one tensor the largest field that one of them wants.
  void choose_fields() {
    fields_.assign(net_.nodes.size(), std::nullopt);
    std::map<TensorIndex, field::Field> largest;
    for (std::size_t i = 0; i < net_.nodes.size(); ++i) {
      const NetNode& node = net_.nodes[i];
      const auto* linear = std::get_if<NetLinear>(&node.op);
      if (linear == nullptr || linear->local) continue;
      in_context(node, [&] { fields_[i] = wanted_field(*linear, context_of(node, false)); });
      if (!fields_[i]) continue;
      const auto [it, inserted] = largest.emplace(node.inputs[0], *fields_[i]);
      if (!inserted) it->second = std::max(it->second, *fields_[i]);
    }
    for (std::size_t i = 0; i < net_.nodes.size(); ++i) {
      if (fields_[i]) fields_[i] = largest.at(net_.nodes[i].inputs[0]);
    }
  }

  void add_node(std::size_t i, const NetNode& node) {
    NodeReport report{.name = printable(node.name),
                      .op = {},
                      .out = net_.tensors[node.output].shape,
                      .macs = 0,
                      .field = std::nullopt,
                      .bound = 0,
                      .scale_loss = 0.0,
                      .channels_scaled = 0,
                      .snr_db = std::nullopt};
    model::Node out{.name = report.name, .inputs = {}, .output = number_[node.output], .op = {}};
    for (const TensorIndex id : node.inputs) out.inputs.push_back(number_[id]);
    EmitContext context{.in = {},
                        .out = quants_.tensors[node.output],
                        .integers = quants_.integers[node.output],
                        .before_table = std::nullopt};
    for (const TensorIndex id : node.inputs) context.in.push_back(quants_.tensors[id]);
    if (const auto it = quants_.before_table.find(i); it != quants_.before_table.end()) {
      context.before_table = it->second;
    }
    if (const auto* linear = std::get_if<NetLinear>(&node.op)) {
      IntegerLinear integer = make_integer(*linear, context_of(node, true), fields_[i]);
      describe(integer, report);
      out.op = emit_linear(*linear, std::move(integer), context);
    } else {
      out.op = emit_op(node.op, context);
      report.op = op_name(out.op);
    }
    result_.plan.nodes.push_back(std::move(out));
    result_.report.nodes.push_back(std::move(report));
  }

  void describe(const IntegerLinear& integer, NodeReport& report) {
    report.op = integer.stages.size() == 2 ? "Separable" : "Linear";
    for (const model::ConvStage& stage : integer.stages) {
      report.macs += stage.conv.terms() * stage.conv.out.elements();
      result_.report.weights += stage.weights.size();
    }
    report.field = integer.field;
    report.bound = integer.bound;
    report.scale_loss = integer.scale_loss;
    report.channels_scaled = integer.channels_scaled;
    result_.report.macs += report.macs;
    if (integer.saturated != 0) {
      result_.report.notes.push_back(std::to_string(integer.saturated) + " weights of '" +
                                     report.name + "' were -128 and became -127");
    }
  }

  const Net& net_;
  const Quants& quants_;
  const Statistics& statistics_;
  const QuantiseOptions& options_;
  Emitted result_;
  std::vector<model::TensorId> number_;
  std::vector<std::optional<field::Field>> fields_;  // by node
};

}  // namespace

std::size_t split_unprovable(Net& net, const Quants& quants) {
  std::vector<NetNode> nodes;
  std::size_t count = 0;
  for (NetNode& node : net.nodes) {
    auto* linear = std::get_if<NetLinear>(&node.op);
    const bool separable = linear != nullptr && linear->stages.size() == 2;
    if (separable && !wanted_field(*linear, {quants.tensors[node.inputs[0]], {}})) {
      ++count;
      NetLinear depthwise;
      depthwise.stages.push_back(std::move(linear->stages.front()));
      depthwise.local = true;
      linear->stages.erase(linear->stages.begin());
      nodes.push_back({.name = node.name + "/depthwise",
                       .origin = node.origin,
                       .inputs = node.inputs,
                       .output = linear->between,
                       .op = std::move(depthwise)});
      node.inputs = {linear->between};
    }
    nodes.push_back(std::move(node));
  }
  net.nodes = std::move(nodes);
  return count;
}

Emitted emit(const Net& net, const Quants& quants, const Statistics& statistics,
             const QuantiseOptions& options) {
  return Emitter(net, quants, statistics, options).run();
}

}  // namespace slalom::importer
