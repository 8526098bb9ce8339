// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "cli/array.h"
#include "cli/files.h"

// The files of tests/cli/vectors (written by make_vectors.py with Pillow and NumPy).

namespace slalom::cli {

inline std::string vector_path(const std::string& name) {
  return std::string(SLALOM_VECTORS) + "/" + name;
}

inline std::vector<std::byte> vector_bytes(const std::string& name) {
  return read_file(vector_path(name), 1U << 30U);
}

inline std::vector<Array> vector_arrays(const std::string& name) {
  return decode_npz(vector_bytes(name)).value();
}

// named returns the array of that name; ends the test program if there is none.
inline const Array& named(const std::vector<Array>& arrays, const std::string& name) {
  for (const Array& array : arrays) {
    if (array.name == name) return array;
  }
  std::abort();
}

}  // namespace slalom::cli
