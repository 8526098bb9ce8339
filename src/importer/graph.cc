// SPDX-License-Identifier: Apache-2.0
#include "importer/graph.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace slalom::importer {
namespace {

constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;

// A broken precondition is a bug of ours: stop before it becomes a wrong answer.
void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

std::string_view dtype_name(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kInt8:
      return "int8";
    case DType::kUint8:
      return "uint8";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kBool:
      return "bool";
  }
  std::abort();
}

std::size_t element_bytes(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kInt64:
      return 8;
    case DType::kInt8:
    case DType::kUint8:
    case DType::kBool:
      return 1;
  }
  std::abort();
}

std::int64_t element_count(const Shape& shape) noexcept {
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t dim : shape) {
    if (dim < 0) return -1;
    if (dim == 0) {
      empty = true;  // the other dimensions still have to be sane
      continue;
    }
    if (dim > kMaxElements / count) return -1;
    count *= dim;
  }
  return empty ? 0 : count;
}

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (const std::int64_t dim : shape) {
    if (text.size() > 1) text += ',';
    text += std::to_string(dim);
  }
  return text + ']';
}

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(std::move(shape)) {
  const std::int64_t count = element_count(shape_);
  require(count >= 0);
  bytes_.resize(static_cast<std::size_t>(count) * element_bytes(dtype));
}

template <class T>
Tensor Tensor::of(Shape shape, std::span<const T> values) {
  Tensor tensor(dtype_of<T>, std::move(shape));
  require(tensor.size() == values.size());
  if (!values.empty()) std::memcpy(tensor.bytes_.data(), values.data(), values.size_bytes());
  return tensor;
}

template Tensor Tensor::of(Shape, std::span<const float>);
template Tensor Tensor::of(Shape, std::span<const std::int8_t>);
template Tensor Tensor::of(Shape, std::span<const std::uint8_t>);
template Tensor Tensor::of(Shape, std::span<const std::int32_t>);
template Tensor Tensor::of(Shape, std::span<const std::int64_t>);
template Tensor Tensor::of(Shape, std::span<const bool>);

void Tensor::reshape(Shape shape) {
  require(element_count(shape) == static_cast<std::int64_t>(size()));
  shape_ = std::move(shape);
}

void Tensor::check_dtype(DType wanted) const { require(wanted == dtype_); }

std::int64_t Node::int_or(std::string_view key, std::int64_t otherwise) const {
  const auto* value = attribute<std::int64_t>(key);
  return value == nullptr ? otherwise : *value;
}

float Node::float_or(std::string_view key, float otherwise) const {
  const auto* value = attribute<float>(key);
  return value == nullptr ? otherwise : *value;
}

std::string Node::string_or(std::string_view key, std::string_view otherwise) const {
  const auto* value = attribute<std::string>(key);
  return value == nullptr ? std::string(otherwise) : *value;
}

std::vector<std::int64_t> Node::ints_or(std::string_view key,
                                        std::vector<std::int64_t> otherwise) const {
  const auto* value = attribute<std::vector<std::int64_t>>(key);
  if (value != nullptr) return *value;
  return otherwise;
}

const Tensor* Graph::constant(ValueId id) const {
  const auto it = initialisers.find(id);
  return it == initialisers.end() ? nullptr : &it->second;
}

ValueId Graph::add_value(std::string_view base_name) {
  const auto taken = [this](const std::string& wanted) {
    return std::any_of(values.begin(), values.end(),
                       [&](const Value& value) { return value.name == wanted; });
  };
  std::string unique(base_name);
  for (std::size_t i = values.size(); taken(unique); ++i) {
    unique = std::string(base_name) + "." + std::to_string(i);
  }
  values.push_back(Value{.name = std::move(unique), .typed = false, .shape = {}});
  return static_cast<ValueId>(values.size() - 1);
}

ValueId Graph::add_initialiser(std::string_view base_name, Tensor tensor) {
  const ValueId id = add_value(base_name);
  value(id).typed = true;
  value(id).dtype = tensor.dtype();
  value(id).shape = tensor.shape();
  initialisers.emplace(id, std::move(tensor));
  return id;
}

Links link(const Graph& graph) {
  Links links{.producer = std::vector<std::size_t>(graph.values.size(), kNoNode),
              .consumers = std::vector<std::vector<std::size_t>>(graph.values.size()),
              .is_output = std::vector<bool>(graph.values.size(), false)};
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const ValueId id : graph.nodes[i].outputs) {
      if (id != kNoValue) links.producer[static_cast<std::size_t>(id)] = i;
    }
    for (const ValueId id : graph.nodes[i].inputs) {
      if (id != kNoValue) links.consumers[static_cast<std::size_t>(id)].push_back(i);
    }
  }
  for (const ValueId id : graph.outputs) links.is_output[static_cast<std::size_t>(id)] = true;
  return links;
}

}  // namespace slalom::importer
