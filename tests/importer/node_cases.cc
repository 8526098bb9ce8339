// SPDX-License-Identifier: Apache-2.0
#include "importer/node_cases.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "importer/onnx_reader.h"

namespace slalom::importer::testing {
namespace {

bool close(float found, float expected) {
  if (std::isnan(found) || std::isnan(expected)) return std::isnan(found) && std::isnan(expected);
  if (std::isinf(found) || std::isinf(expected)) return found == expected;
  return std::fabs(found - expected) <= 1e-7F + 1e-3F * std::fabs(expected);
}

std::string at(std::size_t i, double found, double expected) {
  return "element " + std::to_string(i) + " is " + std::to_string(found) + ", not " +
         std::to_string(expected);
}

template <class T>
std::string code_difference(const Tensor& found, const Tensor& expected) {
  const auto x = found.view<T>();
  const auto y = expected.view<T>();
  std::size_t off_by_one = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const int distance = std::abs(static_cast<int>(x[i]) - static_cast<int>(y[i]));
    if (distance > 1) return at(i, x[i], y[i]);
    if (distance == 1 && ++off_by_one * 1000 > x.size()) return at(i, x[i], y[i]);
  }
  return {};
}

}  // namespace

std::vector<std::byte> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<std::byte> bytes(text.size());
  if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

ImportResult<std::vector<Tensor>> read_tensors(const std::string& dir, const std::string& prefix) {
  std::vector<Tensor> tensors;
  while (true) {
    const auto path =
        std::filesystem::path(dir) / (prefix + "_" + std::to_string(tensors.size()).append(".pb"));
    if (!std::filesystem::exists(path)) return tensors;
    ImportResult<Tensor> tensor = parse_tensor(read_bytes(path));
    if (!tensor) return tensor.error();
    tensors.push_back(std::move(tensor).value());
  }
}

std::vector<std::byte> with_opset(const std::vector<std::byte>& model, std::int64_t opset) {
  onnx::ModelProto proto;
  proto.ParseFromArray(model.data(), static_cast<int>(model.size()));
  proto.clear_opset_import();
  proto.add_opset_import()->set_version(opset);
  const std::string text = proto.SerializeAsString();
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

std::string difference(const Tensor& found, const Tensor& expected) {
  if (found.dtype() != expected.dtype()) {
    return "the type is " + std::string(dtype_name(found.dtype())) + ", not " +
           std::string(dtype_name(expected.dtype()));
  }
  if (found.shape() != expected.shape()) {
    return "the shape is " + shape_text(found.shape()) + ", not " + shape_text(expected.shape());
  }
  if (found.dtype() == DType::kUint8) return code_difference<std::uint8_t>(found, expected);
  if (found.dtype() == DType::kInt8) return code_difference<std::int8_t>(found, expected);
  if (found.dtype() != DType::kFloat32) {
    return found == expected ? "" : "an integer differs";
  }
  const auto x = found.view<float>();
  const auto y = expected.view<float>();
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!close(x[i], y[i])) return at(i, x[i], y[i]);
  }
  return {};
}

std::vector<std::string> subfolders(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.is_directory()) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace slalom::importer::testing
