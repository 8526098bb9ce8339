// SPDX-License-Identifier: Apache-2.0
// run_network raw|folded MODEL INPUT.pb... : runs a network and writes its outputs next to the
// first input, as output_0.pb, output_1.pb, ... (ONNX TensorProto). The Python tests compare these
// with ONNX Runtime's.
#include <onnx/onnx_pb.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "importer/fold.h"
#include "importer/interpreter.h"
#include "importer/node_cases.h"
#include "importer/onnx_reader.h"

namespace slalom::importer {
namespace {

int onnx_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return onnx::TensorProto::FLOAT;
    case DType::kInt8:
      return onnx::TensorProto::INT8;
    case DType::kUint8:
      return onnx::TensorProto::UINT8;
    case DType::kInt32:
      return onnx::TensorProto::INT32;
    case DType::kInt64:
      return onnx::TensorProto::INT64;
    case DType::kBool:
      return onnx::TensorProto::BOOL;
  }
  return onnx::TensorProto::UNDEFINED;
}

bool write_tensor(const Tensor& tensor, const std::string& path) {
  onnx::TensorProto proto;
  proto.set_data_type(onnx_type(tensor.dtype()));
  for (const std::int64_t dim : tensor.shape()) proto.add_dims(dim);
  proto.set_raw_data(tensor.bytes().data(), tensor.bytes().size());
  std::ofstream file(path, std::ios::binary);
  return proto.SerializeToOstream(&file);
}

int report(const Error& error) {
  (void)std::fprintf(stderr, "run_network: %s\n", error.message().c_str());
  return 2;
}

int run_main(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2 || (arguments[0] != "raw" && arguments[0] != "folded")) {
    (void)std::fprintf(stderr, "usage: run_network raw|folded MODEL INPUT.pb...\n");
    return 1;
  }
  auto graph = read_onnx(arguments[1]);
  if (graph && arguments[0] == "folded") graph = fold(std::move(graph).value());
  if (!graph) return report(graph.error());
  std::vector<Tensor> inputs;
  for (std::size_t i = 2; i < arguments.size(); ++i) {
    auto tensor = parse_tensor(testing::read_bytes(arguments[i]));
    if (!tensor) return report(tensor.error());
    inputs.push_back(std::move(tensor).value());
  }
  const auto outputs = run(graph.value(), inputs);
  if (!outputs) return report(outputs.error());
  const std::string first = arguments.size() > 2 ? arguments[2] : arguments[1];
  const std::string folder = first.substr(0, first.rfind('/') + 1);
  for (std::size_t i = 0; i < outputs.value().size(); ++i) {
    if (!write_tensor(outputs.value()[i], folder + "output_" + std::to_string(i) + ".pb")) {
      return report({.what = "cannot write to " + folder});
    }
  }
  return 0;
}

}  // namespace
}  // namespace slalom::importer

int main(int argc, char** argv) {
  try {
    return slalom::importer::run_main(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    (void)std::fprintf(stderr, "run_network: %s\n", error.what());
    return 5;
  }
}
