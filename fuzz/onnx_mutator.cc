// SPDX-License-Identifier: Apache-2.0
// Changes ONNX networks as networks: random bytes rarely get past the protobuf decoder, let alone
// the shape functions. A quarter of the time libFuzzer's own mutations are used.
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "importer/ops/op.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using slalom::importer::AttributeDef;
using slalom::importer::AttributeKind;
using slalom::importer::OpDef;

class Mutator {
 public:
  Mutator(onnx::ModelProto& model, unsigned seed)
      : model_(model), graph_(*model.mutable_graph()), random_(seed) {}

  void mutate() {
    const std::size_t count = 1 + pick(3);
    for (std::size_t i = 0; i < count; ++i) mutate_once();
  }

 private:
  void mutate_once() {
    switch (pick(10)) {
      case 0:
        return change_opset();
      case 1:
        return change_input_shape();
      case 2:
        return change_initialiser_shape();
      case 3:
        return change_initialiser_value();
      case 4:
        return change_operator();
      case 5:
        return change_operand();
      case 6:
        return change_attribute();
      case 7:
        return add_attribute();
      case 8:
        return add_node();
      default:
        return change_output();
    }
  }

  std::size_t pick(std::size_t count) {
    return std::uniform_int_distribution<std::size_t>(0, count - 1)(random_);
  }

  std::int64_t number() {
    constexpr std::array<std::int64_t, 16> kEdges = {0,
                                                     1,
                                                     2,
                                                     3,
                                                     4,
                                                     5,
                                                     -1,
                                                     -2,
                                                     255,
                                                     -128,
                                                     1 << 16,
                                                     std::int64_t{1} << 31,
                                                     1000,
                                                     4096,
                                                     std::int64_t{1} << 62,
                                                     std::numeric_limits<std::int64_t>::min()};
    return pick(3) == 0 ? kEdges.at(pick(kEdges.size())) : static_cast<std::int64_t>(pick(6));
  }

  std::string value_name() {
    std::vector<std::string> names = {""};
    for (const auto& input : graph_.input()) names.push_back(input.name());
    for (const auto& tensor : graph_.initializer()) names.push_back(tensor.name());
    for (const auto& node : graph_.node()) {
      names.insert(names.end(), node.output().begin(), node.output().end());
    }
    return names[pick(names.size())];
  }

  onnx::NodeProto* any_node() {
    if (graph_.node_size() == 0) return nullptr;
    return graph_.mutable_node(
        static_cast<int>(pick(static_cast<std::size_t>(graph_.node_size()))));
  }

  const OpDef& any_op() {
    const auto ops = slalom::importer::all_ops();
    return ops[pick(ops.size())];
  }

  void change_opset() {
    if (model_.opset_import_size() == 0) model_.add_opset_import();
    model_.mutable_opset_import(0)->set_version(static_cast<std::int64_t>(10 + pick(13)));
  }

  void change_input_shape() {
    if (graph_.input_size() == 0) return;
    auto& shape = *graph_.mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape();
    if (shape.dim_size() == 0 || pick(6) == 0) {
      shape.add_dim()->set_dim_value(number());
    } else if (pick(6) == 0) {
      shape.mutable_dim()->RemoveLast();
    } else {
      shape.mutable_dim(static_cast<int>(pick(static_cast<std::size_t>(shape.dim_size()))))
          ->set_dim_value(number());
    }
  }

  onnx::TensorProto* any_initialiser() {
    if (graph_.initializer_size() == 0) return nullptr;
    return graph_.mutable_initializer(
        static_cast<int>(pick(static_cast<std::size_t>(graph_.initializer_size()))));
  }

  // change_initialiser_shape gives a tensor another shape and data that fits it.
  void change_initialiser_shape() {
    onnx::TensorProto* tensor = any_initialiser();
    if (tensor == nullptr) return;
    std::vector<std::int64_t> dims(tensor->dims().begin(), tensor->dims().end());
    if (pick(3) == 0) std::shuffle(dims.begin(), dims.end(), random_);
    if (dims.empty() || pick(4) == 0) dims.push_back(1);
    dims[pick(dims.size())] = static_cast<std::int64_t>(pick(5));
    std::size_t count = 1;
    for (const std::int64_t dim : dims)
      count *= static_cast<std::size_t>(std::clamp<std::int64_t>(dim, 0, 8));
    if (count > 1000) return;
    tensor->clear_dims();
    for (const std::int64_t dim : dims) tensor->add_dims(std::clamp<std::int64_t>(dim, 0, 8));
    const bool wide = tensor->data_type() == onnx::TensorProto::INT64;
    const bool narrow = tensor->data_type() == onnx::TensorProto::INT8 ||
                        tensor->data_type() == onnx::TensorProto::UINT8;
    std::string raw = tensor->raw_data();
    raw.resize(count * (wide ? 8 : narrow ? 1 : 4), '\1');
    tensor->set_raw_data(raw);
  }

  void change_initialiser_value() {
    onnx::TensorProto* tensor = any_initialiser();
    if (tensor == nullptr || tensor->raw_data().size() < 8) return;
    std::string raw = tensor->raw_data();
    const std::int64_t value = number();
    const std::size_t at = pick(raw.size() / 8) * 8;
    std::copy_n(reinterpret_cast<const char*>(&value), 8,
                raw.begin() + static_cast<std::ptrdiff_t>(at));
    tensor->set_raw_data(raw);
  }

  void change_operator() {
    if (onnx::NodeProto* node = any_node()) node->set_op_type(std::string(any_op().name));
  }

  void change_operand() {
    onnx::NodeProto* node = any_node();
    if (node == nullptr) return;
    if (node->input_size() == 0 || pick(4) == 0) {
      node->add_input(value_name());
    } else if (pick(4) == 0) {
      node->mutable_input()->RemoveLast();
    } else {
      node->set_input(static_cast<int>(pick(static_cast<std::size_t>(node->input_size()))),
                      value_name());
    }
  }

  void change_attribute() {
    onnx::NodeProto* node = any_node();
    if (node == nullptr || node->attribute_size() == 0) return;
    auto& attribute = *node->mutable_attribute(
        static_cast<int>(pick(static_cast<std::size_t>(node->attribute_size()))));
    attribute.set_i(number());
    attribute.set_f(static_cast<float>(number()) * 0.25F);
    if (attribute.ints_size() > 0) {
      attribute.set_ints(static_cast<int>(pick(static_cast<std::size_t>(attribute.ints_size()))),
                         number());
    }
    if (pick(6) == 0) attribute.add_ints(number());
  }

  void add_attribute() {
    onnx::NodeProto* node = any_node();
    if (node == nullptr) return;
    const OpDef* op = slalom::importer::find_op(node->op_type());
    if (op == nullptr || op->attributes.empty()) return;
    const AttributeDef& def = op->attributes[pick(op->attributes.size())];
    auto& attribute = *node->add_attribute();
    attribute.set_name(std::string(def.name));
    switch (def.kind) {
      case AttributeKind::kInt:
        attribute.set_type(onnx::AttributeProto::INT);
        attribute.set_i(number());
        return;
      case AttributeKind::kFloat:
        attribute.set_type(onnx::AttributeProto::FLOAT);
        attribute.set_f(static_cast<float>(number()) * 0.25F);
        return;
      case AttributeKind::kString:
        attribute.set_type(onnx::AttributeProto::STRING);
        attribute.set_s(
            std::array{"SAME_UPPER", "SAME_LOWER", "VALID", "reflect", "edge", "wrap"}[pick(6)]);
        return;
      case AttributeKind::kInts:
        attribute.set_type(onnx::AttributeProto::INTS);
        for (std::size_t i = pick(5); i > 0; --i) attribute.add_ints(number());
        return;
      default:
        attribute.set_type(onnx::AttributeProto::TENSOR);
        attribute.mutable_t()->set_data_type(onnx::TensorProto::INT64);
        attribute.mutable_t()->add_int64_data(number());
        attribute.mutable_t()->add_dims(1);
    }
  }

  void add_node() {
    const OpDef& op = any_op();
    const std::string name = "n" + std::to_string(random_());
    auto& node = *graph_.add_node();
    node.set_op_type(std::string(op.name));
    const std::size_t inputs = op.min_inputs + pick(2);
    for (std::size_t i = 0; i < inputs; ++i) node.add_input(value_name());
    node.add_output(name);
    if (onnx::NodeProto* reader = any_node(); reader != &node && reader->input_size() > 0) {
      reader->set_input(0, name);
    }
  }

  void change_output() {
    if (graph_.output_size() == 0) graph_.add_output();
    graph_.mutable_output(0)->set_name(value_name());
  }

  onnx::ModelProto& model_;
  onnx::GraphProto& graph_;
  std::minstd_rand random_;
};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  onnx::ModelProto model;
  if (seed % 4 == 0 || !model.ParseFromArray(data, static_cast<int>(size)) || !model.has_graph()) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  Mutator(model, seed).mutate();
  const std::string text = model.SerializeAsString();
  if (text.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::copy(text.begin(), text.end(), data);
  return text.size();
}
