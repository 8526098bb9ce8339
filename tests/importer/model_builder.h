// SPDX-License-Identifier: Apache-2.0
// Small ONNX files for tests, built message by message.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace slalom::importer::testing {

// ModelBuilder fills a ModelProto; `model` stays open to any damage a test wants to do. Dimensions
// below 1 are left open.
class ModelBuilder {
 public:
  explicit ModelBuilder(std::int64_t opset = 13) {
    model.set_ir_version(8);
    model.add_opset_import()->set_version(opset);
    graph().set_name("test");
  }

  onnx::GraphProto& graph() { return *model.mutable_graph(); }

  ModelBuilder& input(const std::string& name, std::initializer_list<std::int64_t> dims,
                      int type = onnx::TensorProto::FLOAT) {
    describe(*graph().add_input(), name, dims, type);
    return *this;
  }
  ModelBuilder& output(const std::string& name) {
    graph().add_output()->set_name(name);
    return *this;
  }
  onnx::TensorProto& floats(const std::string& name, std::initializer_list<std::int64_t> dims,
                            const std::vector<float>& values) {
    onnx::TensorProto& tensor = *graph().add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    for (const std::int64_t dim : dims) tensor.add_dims(dim);
    for (const float value : values) tensor.add_float_data(value);
    return tensor;
  }
  onnx::TensorProto& ints(const std::string& name, std::initializer_list<std::int64_t> dims,
                          const std::vector<std::int64_t>& values) {
    onnx::TensorProto& tensor = *graph().add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(onnx::TensorProto::INT64);
    for (const std::int64_t dim : dims) tensor.add_dims(dim);
    for (const std::int64_t value : values) tensor.add_int64_data(value);
    return tensor;
  }
  // node adds a node with one output, which is its name too.
  onnx::NodeProto& node(const std::string& op, std::initializer_list<const char*> inputs,
                        const std::string& result) {
    onnx::NodeProto& node = *graph().add_node();
    node.set_op_type(op);
    node.set_name(result);
    for (const char* name : inputs) node.add_input(name);
    node.add_output(result);
    return node;
  }
  [[nodiscard]] std::vector<std::byte> bytes() const {
    const std::string text = model.SerializeAsString();
    const auto* first = reinterpret_cast<const std::byte*>(text.data());
    return {first, first + text.size()};
  }

  onnx::ModelProto model;

 private:
  static void describe(onnx::ValueInfoProto& info, const std::string& name,
                       std::initializer_list<std::int64_t> dims, int type) {
    info.set_name(name);
    auto& tensor = *info.mutable_type()->mutable_tensor_type();
    tensor.set_elem_type(type);
    tensor.mutable_shape();
    for (const std::int64_t dim : dims) {
      auto& added = *tensor.mutable_shape()->add_dim();
      if (dim > 0) {
        added.set_dim_value(dim);
      } else {
        added.set_dim_param("N");
      }
    }
  }
};

inline void set_int(onnx::NodeProto& node, const std::string& name, std::int64_t value) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INT);
  attribute.set_i(value);
}

inline void set_float(onnx::NodeProto& node, const std::string& name, float value) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::FLOAT);
  attribute.set_f(value);
}

inline void set_ints(onnx::NodeProto& node, const std::string& name,
                     std::initializer_list<std::int64_t> values) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INTS);
  for (const std::int64_t value : values) attribute.add_ints(value);
}

inline void set_string(onnx::NodeProto& node, const std::string& name, const std::string& value) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::STRING);
  attribute.set_s(value);
}

}  // namespace slalom::importer::testing
