// SPDX-License-Identifier: Apache-2.0
#include "importer/onnx_tensor.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>
#include <vector>

#include "importer/external_data.h"
#include "importer/ops/op.h"
#include "importer/ops/types.h"

namespace slalom::importer {
namespace {

static_assert(std::endian::native == std::endian::little, "ONNX data is little-endian");

constexpr std::array<std::string_view, 24> kOnnxTypes = {
    "undefined",      "float32",    "uint8",          "int8",       "uint16",   "int16",
    "int32",          "int64",      "string",         "bool",       "float16",  "float64",
    "uint32",         "uint64",     "complex64",      "complex128", "bfloat16", "float8e4m3fn",
    "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4",      "int4",     "float4e2m1"};

// float_from_half widens an IEEE binary16.
float float_from_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16U;
  const std::uint32_t exponent = (half >> 10U) & 0x1FU;
  const std::uint32_t fraction = half & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24, exact
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | wide << 23U | fraction << 13U);
}

float float_from_bfloat(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

// source_bytes is the size of an element in the file.
std::size_t source_bytes(int data_type) {
  switch (data_type) {
    case onnx::TensorProto::DOUBLE:
      return 8;
    case onnx::TensorProto::FLOAT16:
    case onnx::TensorProto::BFLOAT16:
      return 2;
    default:
      return element_bytes(dtype_from_onnx(data_type));
  }
}

// convert_raw converts little-endian elements of the file's type to the tensor's.
template <class From, class Convert>
void convert_raw(std::span<const std::byte> raw, Tensor& tensor, Convert convert) {
  const auto dst = tensor.view<float>();
  for (std::size_t i = 0; i < dst.size(); ++i) {
    From element{};
    std::memcpy(&element, raw.data() + i * sizeof(From), sizeof(From));
    dst[i] = convert(element);
  }
}

void fill_from_raw(int data_type, std::span<const std::byte> raw, Tensor& tensor) {
  switch (data_type) {
    case onnx::TensorProto::DOUBLE:
      return convert_raw<double>(raw, tensor, [](double x) { return static_cast<float>(x); });
    case onnx::TensorProto::FLOAT16:
      return convert_raw<std::uint16_t>(raw, tensor, float_from_half);
    case onnx::TensorProto::BFLOAT16:
      return convert_raw<std::uint16_t>(raw, tensor, float_from_bfloat);
    case onnx::TensorProto::BOOL: {
      const auto dst = tensor.view<bool>();
      for (std::size_t i = 0; i < dst.size(); ++i) dst[i] = raw[i] != std::byte{0};
      return;
    }
    default:
      if (!raw.empty()) std::memcpy(tensor.bytes().data(), raw.data(), raw.size());
  }
}

void want_count(int found, std::size_t wanted) {
  if (static_cast<std::size_t>(found) == wanted) return;
  fail("it has " + std::to_string(found) + " elements, but its shape needs " +
       std::to_string(wanted));
}

// copy_field copies a repeated field of exactly the tensor's size, element by element.
template <class T, class Field, class Convert>
void copy_field(const Field& field, Tensor& tensor, Convert convert) {
  const auto dst = tensor.view<T>();
  want_count(field.size(), dst.size());
  for (std::size_t i = 0; i < dst.size(); ++i) dst[i] = convert(field.Get(static_cast<int>(i)));
}

template <class T>
T narrow(std::int32_t value) {
  if (value < std::numeric_limits<T>::min() || value > std::numeric_limits<T>::max()) {
    fail("the element " + std::to_string(value) + " is out of range");
  }
  return static_cast<T>(value);
}

// fill_from_fields reads the typed fields; small types share int32_data (onnx.proto).
void fill_from_fields(const onnx::TensorProto& proto, Tensor& tensor) {
  const auto& ints = proto.int32_data();
  const auto same = [](auto x) { return x; };
  switch (proto.data_type()) {
    case onnx::TensorProto::FLOAT:
      return copy_field<float>(proto.float_data(), tensor, same);
    case onnx::TensorProto::DOUBLE:
      return copy_field<float>(proto.double_data(), tensor,
                               [](double x) { return static_cast<float>(x); });
    case onnx::TensorProto::INT64:
      return copy_field<std::int64_t>(proto.int64_data(), tensor, same);
    case onnx::TensorProto::INT32:
      return copy_field<std::int32_t>(ints, tensor, same);
    case onnx::TensorProto::INT8:
      return copy_field<std::int8_t>(ints, tensor, narrow<std::int8_t>);
    case onnx::TensorProto::UINT8:
      return copy_field<std::uint8_t>(ints, tensor, narrow<std::uint8_t>);
    case onnx::TensorProto::BOOL:
      return copy_field<bool>(ints, tensor, [](std::int32_t x) { return x != 0; });
    case onnx::TensorProto::FLOAT16:
      return copy_field<float>(
          ints, tensor, [](std::int32_t x) { return float_from_half(narrow<std::uint16_t>(x)); });
    default:  // BFLOAT16: no other type passes dtype_from_onnx
      return copy_field<float>(
          ints, tensor, [](std::int32_t x) { return float_from_bfloat(narrow<std::uint16_t>(x)); });
  }
}

std::int64_t parse_number(const std::string& key, const std::string& text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end || value < 0) {
    fail("the " + key + " of its external data is '" + text + "'");
  }
  return value;
}

ExternalRange external_range(const onnx::TensorProto& proto) {
  ExternalRange range;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") range.location = entry.value();
    if (entry.key() == "offset") range.offset = parse_number(entry.key(), entry.value());
    if (entry.key() == "length") range.length = parse_number(entry.key(), entry.value());
  }
  return range;
}

bool has_fields(const onnx::TensorProto& proto) {
  return proto.float_data_size() + proto.int32_data_size() + proto.int64_data_size() +
             proto.double_data_size() + proto.uint64_data_size() + proto.string_data_size() >
         0;
}

Tensor zeros(const onnx::TensorProto& proto) {
  return {dtype_from_onnx(proto.data_type()), Shape(proto.dims().begin(), proto.dims().end())};
}

Tensor from_external(const onnx::TensorProto& proto, const TensorSource& source,
                     std::int64_t bytes) {
  if (!source.folder) fail("it refers to external data, which is not allowed here");
  if (proto.has_raw_data() || has_fields(proto)) fail("it has both external and own data");
  const auto raw = read_external(*source.folder, external_range(proto), bytes);
  Tensor tensor = zeros(proto);
  fill_from_raw(proto.data_type(), raw, tensor);
  return tensor;
}

Tensor from_raw(const onnx::TensorProto& proto, std::int64_t bytes) {
  if (has_fields(proto)) fail("it has its data twice");
  const auto found = static_cast<std::int64_t>(proto.raw_data().size());
  if (found != bytes) {
    fail("it has " + std::to_string(found) + " bytes, but its shape needs " +
         std::to_string(bytes));
  }
  Tensor tensor = zeros(proto);
  fill_from_raw(proto.data_type(), std::as_bytes(std::span(proto.raw_data())), tensor);
  return tensor;
}

Tensor from_fields(const onnx::TensorProto& proto, std::int64_t count) {
  // A small file must not ask for much memory: first see what it brings.
  const int most = std::max({proto.float_data_size(), proto.int32_data_size(),
                             proto.int64_data_size(), proto.double_data_size()});
  if (count > most) {
    fail("it has " + std::to_string(most) + " elements, but its shape needs " +
         std::to_string(count));
  }
  Tensor tensor = zeros(proto);
  fill_from_fields(proto, tensor);
  return tensor;
}

}  // namespace

DType dtype_from_onnx(int data_type) {
  switch (data_type) {
    case onnx::TensorProto::FLOAT:
    case onnx::TensorProto::FLOAT16:
    case onnx::TensorProto::BFLOAT16:
    case onnx::TensorProto::DOUBLE:
      return DType::kFloat32;
    case onnx::TensorProto::INT8:
      return DType::kInt8;
    case onnx::TensorProto::UINT8:
      return DType::kUint8;
    case onnx::TensorProto::INT32:
      return DType::kInt32;
    case onnx::TensorProto::INT64:
      return DType::kInt64;
    case onnx::TensorProto::BOOL:
      return DType::kBool;
    default:
      break;
  }
  const bool known = data_type >= 0 && static_cast<std::size_t>(data_type) < kOnnxTypes.size();
  fail("the element type " +
       (known ? std::string(kOnnxTypes.at(static_cast<std::size_t>(data_type)))
              : std::to_string(data_type)) +
       " is not supported");
}

Tensor convert_tensor(const onnx::TensorProto& proto, TensorSource& source) {
  const DType dtype = dtype_from_onnx(proto.data_type());
  if (proto.has_segment()) fail("it is cut into segments, which is not supported");
  if (proto.dims_size() > static_cast<int>(kMaxRank)) fail("it has more than 8 dimensions");
  const Shape shape(proto.dims().begin(), proto.dims().end());
  const std::int64_t count = element_count(shape);
  if (count < 0) fail("its shape is " + shape_text(shape));
  const auto each = static_cast<std::int64_t>(source_bytes(proto.data_type()));
  const std::int64_t most = std::max(each, static_cast<std::int64_t>(element_bytes(dtype)));
  if (count > source.bytes_left / most) fail("the constants of the network are too large");
  source.bytes_left -= count * most;
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
    return from_external(proto, source, count * each);
  }
  if (proto.has_raw_data()) return from_raw(proto, count * each);
  return from_fields(proto, count);
}

}  // namespace slalom::importer
