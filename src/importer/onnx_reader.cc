// SPDX-License-Identifier: Apache-2.0
#include "importer/onnx_reader.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <new>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "importer/external_data.h"
#include "importer/onnx_tensor.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

// Protobuf refuses larger messages.
constexpr std::int64_t kMaxFileBytes = std::numeric_limits<std::int32_t>::max();

bool is_default_domain(const std::string& domain) { return domain.empty() || domain == "ai.onnx"; }

std::int64_t opset_of(const onnx::ModelProto& model) {
  std::int64_t opset = 0;
  for (const auto& import : model.opset_import()) {
    if (!is_default_domain(import.domain())) continue;
    if (opset != 0) fail("the network names its operator set twice");
    opset = import.version();
    if (opset < kMinOpset || opset > kMaxOpset) {
      fail("the network uses operator set " + std::to_string(opset) + "; " +
           std::to_string(kMinOpset) + " to " + std::to_string(kMaxOpset) + " are supported");
    }
  }
  if (opset == 0) fail("the network does not name its operator set");
  return opset;
}

AttributeKind kind_of(const onnx::AttributeProto& proto) {
  switch (proto.type()) {
    case onnx::AttributeProto::INT:
      return AttributeKind::kInt;
    case onnx::AttributeProto::FLOAT:
      return AttributeKind::kFloat;
    case onnx::AttributeProto::STRING:
      return AttributeKind::kString;
    case onnx::AttributeProto::INTS:
      return AttributeKind::kInts;
    case onnx::AttributeProto::FLOATS:
      return AttributeKind::kFloats;
    case onnx::AttributeProto::TENSOR:
      return AttributeKind::kTensor;
    default:
      fail("the attribute '" + proto.name() + "' has a type that is not supported");
  }
}

// Builder makes a Graph of a GraphProto, whose weights it frees one by one on the way.
class Builder {
 public:
  Builder(onnx::GraphProto& proto, std::int64_t opset, TensorSource source,
          const ReadLimits& limits)
      : proto_(proto), source_(std::move(source)), limits_(limits) {
    graph_.name = proto.name();
    graph_.opset = opset;
  }

  Graph build() {
    if (proto_.sparse_initializer_size() > 0) fail("sparse initialisers are not supported");
    if (static_cast<std::size_t>(proto_.node_size()) > limits_.max_nodes) {
      fail("the network has " + std::to_string(proto_.node_size()) + " nodes; " +
           std::to_string(limits_.max_nodes) + " are supported");
    }
    for (auto& tensor : *proto_.mutable_initializer()) {
      add_initialiser(tensor);
      onnx::TensorProto().Swap(&tensor);
    }
    for (const auto& input : proto_.input()) add_input(input);
    for (const auto& node : proto_.node()) declare_outputs(node);
    for (const auto& node : proto_.node()) add_node(node);
    for (const auto& output : proto_.output()) graph_.outputs.push_back(find(output.name()));
    if (graph_.outputs.empty()) fail("the network has no output");
    sort_nodes();
    return std::move(graph_);
  }

 private:
  ValueId declare(const std::string& name) {
    const auto id = static_cast<ValueId>(graph_.values.size());
    if (!ids_.emplace(name, id).second) fail("the value '" + name + "' is defined twice");
    graph_.values.push_back(Value{.name = name, .typed = false, .shape = {}});
    return id;
  }

  ValueId find(const std::string& name) const {
    const auto it = ids_.find(name);
    if (it == ids_.end()) fail("nothing computes the value '" + name + "'");
    return it->second;
  }

  void add_initialiser(const onnx::TensorProto& proto) {
    if (proto.name().empty()) fail("an initialiser has no name");
    const ValueId id = declare(proto.name());
    try {
      Tensor tensor = convert_tensor(proto, source_);
      Value& value = graph_.value(id);
      value.typed = true;
      value.dtype = tensor.dtype();
      value.shape = tensor.shape();
      graph_.initialisers.emplace(id, std::move(tensor));
    } catch (const Failure& failure) {
      fail("the initialiser '" + proto.name() + "': " + failure.error().what);
    }
  }

  void add_input(const onnx::ValueInfoProto& proto) {
    // Before IR version 4 initialisers were listed as inputs too.
    if (const auto it = ids_.find(proto.name());
        it != ids_.end() && graph_.initialisers.contains(it->second)) {
      return;
    }
    const ValueId id = declare(proto.name());
    const auto bad = [&proto](const std::string& what) {
      fail("the input '" + proto.name() + "' " + what);
    };
    if (!proto.type().has_tensor_type()) bad("is not a tensor");
    const auto& type = proto.type().tensor_type();
    if (!type.has_shape()) bad("has no shape");
    if (type.shape().dim_size() > static_cast<int>(kMaxRank)) bad("has more than 8 dimensions");
    Value& value = graph_.value(id);
    try {
      value.dtype = dtype_from_onnx(type.elem_type());
    } catch (const Failure& failure) {
      bad("is refused: " + failure.error().what);
    }
    for (const auto& dim : type.shape().dim()) {
      // Named dimensions are open, and so are those that exporters write as 0 or -1.
      value.shape.push_back(dim.dim_value() > 0 ? dim.dim_value() : -1);
    }
    Shape closed = value.shape;
    std::replace(closed.begin(), closed.end(), std::int64_t{-1}, std::int64_t{1});
    if (element_count(closed) < 0) bad("has the shape " + shape_text(value.shape));
    value.typed = true;
    graph_.inputs.push_back(id);
  }

  void declare_outputs(const onnx::NodeProto& node) {
    for (const auto& name : node.output()) {
      if (!name.empty()) declare(name);
    }
  }

  void add_node(const onnx::NodeProto& proto) {
    Node node;
    node.name = proto.name();
    if (node.name.empty() && proto.output_size() > 0) node.name = proto.output(0);
    node.op = is_default_domain(proto.domain()) ? proto.op_type()
                                                : proto.domain() + "::" + proto.op_type();
    node.opset = graph_.opset;
    try {
      fill_node(proto, node);
    } catch (const Failure& failure) {
      throw Failure(blame(failure.error(), node));
    }
    graph_.nodes.push_back(std::move(node));
  }

  void fill_node(const onnx::NodeProto& proto, Node& node) {
    const OpDef* op = find_op(node.op);
    if (op == nullptr || op->min_opset == 0) fail("the operator is not supported");
    if (node.opset < op->min_opset) {
      fail("the operator exists from operator set " + std::to_string(op->min_opset) + " on");
    }
    if (node.opset > op->max_opset) {
      fail("the operator exists up to operator set " + std::to_string(op->max_opset));
    }
    for (const auto& name : proto.input()) {
      node.inputs.push_back(name.empty() ? kNoValue : find(name));
    }
    for (const auto& name : proto.output()) {
      node.outputs.push_back(name.empty() ? kNoValue : find(name));
    }
    check_arity(*op, node);
    for (const auto& attribute : proto.attribute()) add_attribute(*op, attribute, node);
  }

  static void check_arity(const OpDef& op, Node& node) {
    while (!node.inputs.empty() && node.inputs.back() == kNoValue) node.inputs.pop_back();
    while (!node.outputs.empty() && node.outputs.back() == kNoValue) node.outputs.pop_back();
    if (node.outputs.empty()) fail("it has no output");
    if (node.outputs.size() > op.max_outputs) {
      fail("it has " + std::to_string(node.outputs.size()) + " outputs; " +
           std::to_string(op.max_outputs) + " are supported");
    }
    if (node.inputs.size() < op.min_inputs || node.inputs.size() > op.max_inputs) {
      fail("it has " + std::to_string(node.inputs.size()) + " inputs");
    }
    const bool variadic = op.max_inputs == kVariadic;
    const std::size_t required = variadic ? node.inputs.size() : op.min_inputs;
    for (std::size_t i = 0; i < required; ++i) {
      if (node.inputs[i] == kNoValue) fail("input " + std::to_string(i + 1) + " is missing");
    }
  }

  void add_attribute(const OpDef& op, const onnx::AttributeProto& proto, Node& node) {
    const auto known =
        std::find_if(op.attributes.begin(), op.attributes.end(),
                     [&](const AttributeDef& def) { return def.name == proto.name(); });
    if (known == op.attributes.end()) {
      fail("the attribute '" + proto.name() + "' is not supported");
    }
    if (node.opset < known->since) {
      fail("the attribute '" + proto.name() + "' exists from operator set " +
           std::to_string(known->since) + " on");
    }
    if (kind_of(proto) != known->kind) {
      fail("the attribute '" + proto.name() + "' has the wrong type");
    }
    if (!node.attributes.emplace(proto.name(), convert(proto)).second) {
      fail("the attribute '" + proto.name() + "' is given twice");
    }
  }

  Attribute convert(const onnx::AttributeProto& proto) {
    switch (kind_of(proto)) {
      case AttributeKind::kInt:
        return proto.i();
      case AttributeKind::kFloat:
        return proto.f();
      case AttributeKind::kString:
        return proto.s();
      case AttributeKind::kInts:
        return std::vector<std::int64_t>(proto.ints().begin(), proto.ints().end());
      case AttributeKind::kFloats:
        return std::vector<float>(proto.floats().begin(), proto.floats().end());
      case AttributeKind::kTensor:
        break;
    }
    return convert_tensor(proto.t(), source_);
  }

  // sort_nodes brings the nodes into topological order, the file's order where there is a choice
  // (A. Kahn, "Topological sorting of large networks", CACM 5(11), 1962).
  void sort_nodes() {
    const Links links = link(graph_);
    std::vector<std::size_t> waiting(graph_.nodes.size(), 0);
    std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> ready;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const ValueId id : graph_.nodes[i].inputs) {
        if (id != kNoValue && links.producer[static_cast<std::size_t>(id)] != kNoNode) {
          ++waiting[i];
        }
      }
      if (waiting[i] == 0) ready.push(i);
    }
    std::vector<Node> sorted;
    sorted.reserve(graph_.nodes.size());
    while (!ready.empty()) {
      const std::size_t i = ready.top();
      ready.pop();
      for (const ValueId id : graph_.nodes[i].outputs) {
        if (id == kNoValue) continue;
        for (const std::size_t reader : links.consumers[static_cast<std::size_t>(id)]) {
          if (--waiting[reader] == 0) ready.push(reader);
        }
      }
      sorted.push_back(std::move(graph_.nodes[i]));
    }
    if (sorted.size() != graph_.nodes.size()) fail("the nodes of the network form a circle");
    graph_.nodes = std::move(sorted);
  }

  onnx::GraphProto& proto_;
  TensorSource source_;
  const ReadLimits& limits_;
  Graph graph_;
  std::unordered_map<std::string, ValueId> ids_;
};

onnx::ModelProto decode(std::span<const std::byte> bytes) {
  if (static_cast<std::int64_t>(bytes.size()) > kMaxFileBytes) fail("the file is too large");
  onnx::ModelProto model;
  if (bytes.empty() || !model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      !model.has_graph()) {
    fail("the file is not an ONNX network");
  }
  return model;
}

Graph build(onnx::ModelProto model, const std::optional<std::string>& folder,
            const ReadLimits& limits) {
  const std::int64_t opset = opset_of(model);
  return Builder(*model.mutable_graph(), opset,
                 {.folder = folder, .bytes_left = limits.max_constant_bytes}, limits)
      .build();
}

// guarded turns exceptions into the Error that is returned.
template <class F>
auto guarded(F body) -> ImportResult<decltype(body())> {
  try {
    return body();
  } catch (const Failure& failure) {
    return failure.error();
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& error) {
    return Error{.what = std::string("the file cannot be read: ") + error.what()};
  }
}

}  // namespace

ImportResult<Graph> read_onnx(const std::string& path, const ReadLimits& limits) {
  return guarded([&] {
    // The bytes are freed before the graph is built: a large network is in memory twice, not
    // thrice.
    onnx::ModelProto model = decode(read_file(path, kMaxFileBytes));
    const std::size_t slash = path.rfind('/');
    std::string folder = ".";
    if (slash != std::string::npos) folder = slash == 0 ? "/" : path.substr(0, slash);
    return build(std::move(model), folder, limits);
  });
}

ImportResult<Graph> parse_onnx(std::span<const std::byte> bytes,
                               const std::optional<std::string>& folder, const ReadLimits& limits) {
  return guarded([&] { return build(decode(bytes), folder, limits); });
}

ImportResult<Tensor> parse_tensor(std::span<const std::byte> bytes, const ReadLimits& limits) {
  return guarded([&] {
    onnx::TensorProto proto;
    if (static_cast<std::int64_t>(bytes.size()) > kMaxFileBytes ||
        !proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      fail("the file is not an ONNX tensor");
    }
    TensorSource source{.folder = std::nullopt, .bytes_left = limits.max_constant_bytes};
    return convert_tensor(proto, source);
  });
}

}  // namespace slalom::importer
