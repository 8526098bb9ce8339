// SPDX-License-Identifier: Apache-2.0
// Helpers to write a kernel once for several element types.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <type_traits>

#include "importer/graph.h"

namespace slalom::importer {

// with_type calls f(std::type_identity<T>{}) for the C++ type of the dtype.
template <class F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(std::type_identity<float>{});
    case DType::kInt8:
      return f(std::type_identity<std::int8_t>{});
    case DType::kUint8:
      return f(std::type_identity<std::uint8_t>{});
    case DType::kInt32:
      return f(std::type_identity<std::int32_t>{});
    case DType::kInt64:
      return f(std::type_identity<std::int64_t>{});
    case DType::kBool:
      return f(std::type_identity<bool>{});
  }
  std::abort();
}

// saturate converts to T: integers outside of T's range become its nearest end.
template <class T>
T saturate(std::int64_t value) noexcept {
  if (value < std::int64_t{std::numeric_limits<T>::min()}) return std::numeric_limits<T>::min();
  if (value > std::int64_t{std::numeric_limits<T>::max()}) return std::numeric_limits<T>::max();
  return static_cast<T>(value);
}

// truncate converts a float to an integer type towards zero; what lies outside becomes the
// nearest end of the range, NaN becomes 0 (a plain conversion would be undefined).
template <class T>
T truncate(double value) noexcept {
  if (value != value) return 0;
  if (value <= static_cast<double>(std::numeric_limits<T>::min())) {
    return std::numeric_limits<T>::min();
  }
  if (value >= static_cast<double>(std::numeric_limits<T>::max())) {
    return std::numeric_limits<T>::max();
  }
  return static_cast<T>(value);
}

}  // namespace slalom::importer
