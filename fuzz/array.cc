// SPDX-License-Identifier: Apache-2.0
// Arrays: .npy, .npz, IDX and gzip. The first byte chooses the decoder.
#include "cli/array.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <variant>

namespace {

void check(const slalom::cli::Array& array) {
  std::size_t n = 1;
  for (const std::size_t d : array.shape) n *= d;
  if (std::visit([](const auto& values) { return values.size(); }, array.values) != n) std::abort();
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  switch (data[0] % 4) {
    case 0:
      if (auto array = slalom::cli::decode_npy(bytes); array.ok()) check(*array);
      break;
    case 1:
      if (auto arrays = slalom::cli::decode_npz(bytes); arrays.ok()) {
        for (const auto& array : *arrays) check(array);
      }
      break;
    case 2:
      if (auto array = slalom::cli::decode_idx(bytes); array.ok()) check(*array);
      break;
    default: {
      constexpr std::uint64_t kMax = 1U << 20U;
      // A megabyte of steps past the limit is allowed, never more.
      if (auto out = slalom::cli::gunzip(bytes, kMax); out.ok() && out->size() > 2 * kMax + size) {
        std::abort();
      }
    }
  }
  return 0;
}
