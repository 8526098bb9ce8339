// SPDX-License-Identifier: Apache-2.0
// The importer's own picture of a float network: plain values, no protobuf, no ownership to
// think about. Tensors flow between nodes through numbered values; a graph is copied, moved and
// edited like any other value.
//
// Operators keep their ONNX names, attributes and meaning (https://onnx.ai/onnx/operators/). One
// operator is ours: "Swish", y = x * sigmoid(x), which fold() makes of the two nodes it is
// exported as.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace slalom::importer {

// DType is the type of an element. ONNX float16, bfloat16 and double tensors are read as
// kFloat32 (the double ones rounded to nearest even); no other type is imported.
enum class DType : std::uint8_t { kFloat32, kInt8, kUint8, kInt32, kInt64, kBool };

// dtype_name returns "float32", "int8", ...
std::string_view dtype_name(DType dtype) noexcept;
// element_bytes returns the size of one element as stored in a Tensor.
std::size_t element_bytes(DType dtype) noexcept;

// dtype_of<T> is the DType stored as T: float, std::int8_t, std::uint8_t, std::int32_t,
// std::int64_t or bool.
template <class T>
inline constexpr DType dtype_of = DType::kFloat32;
template <>
inline constexpr DType dtype_of<std::int8_t> = DType::kInt8;
template <>
inline constexpr DType dtype_of<std::uint8_t> = DType::kUint8;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::kInt32;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::kInt64;
template <>
inline constexpr DType dtype_of<bool> = DType::kBool;

// Shape lists the dimensions, outermost first; the empty shape is a scalar.
using Shape = std::vector<std::int64_t>;

// element_count multiplies the dimensions. A negative dimension or a product above 2^40 is
// refused with -1: nothing that fits a machine is larger, and byte sizes then cannot overflow.
std::int64_t element_count(const Shape& shape) noexcept;
// shape_text formats a shape as "[1,3,224,224]".
std::string shape_text(const Shape& shape);

// Tensor is a dense row-major array that owns its elements. The number of bytes always fits the
// type and the shape.
class Tensor {
 public:
  // A float32 tensor of shape [0].
  Tensor() : shape_{0} {}
  // Zeros. REQUIRES: element_count(shape) >= 0. Throws std::bad_alloc.
  Tensor(DType dtype, Shape shape);
  // of copies `values`. REQUIRES: values.size() == element_count(shape).
  template <class T>
  static Tensor of(Shape shape, std::span<const T> values);
  template <class T>
  static Tensor of(Shape shape, const std::vector<T>& values) {
    return of(std::move(shape), std::span<const T>(values));
  }
  template <class T>
  static Tensor scalar(T value) {
    return of(Shape{}, std::span<const T>(&value, 1));
  }

  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::size_t rank() const noexcept { return shape_.size(); }
  // Number of elements.
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size() / element_bytes(dtype_); }

  // view gives the elements. REQUIRES: dtype_of<T> == dtype(); aborts otherwise.
  template <class T>
  [[nodiscard]] std::span<const T> view() const {
    check_dtype(dtype_of<T>);
    return {reinterpret_cast<const T*>(bytes_.data()), size()};
  }
  template <class T>
  [[nodiscard]] std::span<T> view() {
    check_dtype(dtype_of<T>);
    return {reinterpret_cast<T*>(bytes_.data()), size()};
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::span<std::byte> bytes() noexcept { return bytes_; }

  // reshape changes the shape and keeps the elements. REQUIRES: the same number of elements.
  void reshape(Shape shape);

  // Equal type, shape and bytes: -0 differs from 0, and a NaN equals itself.
  friend bool operator==(const Tensor&, const Tensor&) = default;

 private:
  void check_dtype(DType wanted) const;

  DType dtype_ = DType::kFloat32;
  Shape shape_;
  std::vector<std::byte> bytes_;  // aligned as operator new does: enough for every element type
};

using Attribute = std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>,
                               std::vector<float>, Tensor>;

// ValueId indexes Graph::values. kNoValue stands for an optional input or output left out.
using ValueId = std::int32_t;
inline constexpr ValueId kNoValue = -1;

struct Node {
  std::string name;  // as in the file, or made from the first output's name; not always unique
  std::string op;
  std::int64_t opset = 0;  // the version of the default operator set that the network asks for
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::map<std::string, Attribute, std::less<>> attributes;

  // attribute returns the attribute if it is there with this type, else nullptr.
  template <class T>
  [[nodiscard]] const T* attribute(std::string_view key) const {
    const auto it = attributes.find(key);
    return it == attributes.end() ? nullptr : std::get_if<T>(&it->second);
  }
  // The same with a default.
  [[nodiscard]] std::int64_t int_or(std::string_view key, std::int64_t otherwise) const;
  [[nodiscard]] float float_or(std::string_view key, float otherwise) const;
  [[nodiscard]] std::string string_or(std::string_view key, std::string_view otherwise) const;
  [[nodiscard]] std::vector<std::int64_t> ints_or(std::string_view key,
                                                  std::vector<std::int64_t> otherwise) const;
  // input returns the value at position i, or kNoValue if it was left out.
  [[nodiscard]] ValueId input(std::size_t i) const noexcept {
    return i < inputs.size() ? inputs[i] : kNoValue;
  }
};

// Value is an edge of the graph.
struct Value {
  std::string name;
  // Type and shape are known for inputs and initialisers after reading, for all values after
  // fold(). Before fold(), -1 is a dimension that the file leaves open.
  bool typed = false;
  DType dtype = DType::kFloat32;
  Shape shape;
  // After fold(): the dimension that grows with the batch, or -1 for a value that is the same
  // for every image. `shape` is then the shape at batch 1; at batch n the dimension is n times
  // as large. It is 0 unless the network transposes its batch away.
  int batch_axis = -1;
};

// Graph invariants: nodes are sorted topologically; every value is a graph input, an initialiser
// or the output of exactly one node; names of values are unique.
struct Graph {
  std::string name;
  std::int64_t opset = 0;
  std::vector<Value> values;
  std::vector<ValueId> inputs;   // what the caller gives; initialisers are not among them
  std::vector<ValueId> outputs;  // in the file's order
  std::vector<Node> nodes;
  std::map<ValueId, Tensor> initialisers;

  [[nodiscard]] const Value& value(ValueId id) const {
    return values[static_cast<std::size_t>(id)];
  }
  [[nodiscard]] Value& value(ValueId id) { return values[static_cast<std::size_t>(id)]; }

  // constant returns the initialiser behind a value, or nullptr; kNoValue gives nullptr.
  [[nodiscard]] const Tensor* constant(ValueId id) const;
  // add_value appends an untyped value. The name is made unique by a suffix.
  ValueId add_value(std::string_view base_name);
  // add_initialiser appends a constant with its type and shape.
  ValueId add_initialiser(std::string_view base_name, Tensor tensor);
};

inline constexpr std::size_t kNoNode = static_cast<std::size_t>(-1);

// Links answers who makes and who reads each value; valid until the graph is edited.
struct Links {
  std::vector<std::size_t> producer;                // by ValueId: index of the node, or kNoNode
  std::vector<std::vector<std::size_t>> consumers;  // by ValueId: a node once for each use
  std::vector<bool> is_output;                      // by ValueId: a graph output
};
Links link(const Graph& graph);

}  // namespace slalom::importer
