// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "slalom/result.h"

// NumPy arrays (.npy, format versions 1.0 to 3.0; .npz, a zip file of them), IDX files (the MNIST
// family's format) and gzip, from bytes that anybody may have made.

namespace slalom::cli {

// Array is a dense row-major array of binary32 values or of bytes.
struct Array {
  std::string name;  // its name inside an .npz, else empty
  std::vector<std::size_t> shape;
  std::variant<std::vector<float>, std::vector<std::uint8_t>> values;

  [[nodiscard]] bool is_codes() const noexcept { return values.index() == 1; }
  // image_elements is the number of elements behind the first dimension.
  [[nodiscard]] std::size_t image_elements() const noexcept;
};

inline constexpr std::uint64_t kMaxArrayBytes = std::uint64_t{4} << 30U;

// decode_npy reads one array: types <f2, <f4, <f8 (converted to binary32, to nearest even), |u1 and
// |b1, C order or Fortran order (converted). kMalformed for anything else, trailing bytes included.
Result<Array> decode_npy(std::span<const std::byte> bytes);

// decode_npz reads all arrays of an .npz file, stored or deflated, in the file's order.
Result<std::vector<Array>> decode_npz(std::span<const std::byte> bytes);

// decode_idx reads an IDX file of unsigned bytes (magic 0x0000 08 nd).
Result<Array> decode_idx(std::span<const std::byte> bytes);

// gunzip undoes gzip; bytes that are not gzip are returned as they are. kMalformed: damaged, cut
// off, or longer than max_bytes.
Result<std::vector<std::byte>> gunzip(std::span<const std::byte> bytes, std::uint64_t max_bytes);

}  // namespace slalom::cli
