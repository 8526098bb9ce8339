// SPDX-License-Identifier: Apache-2.0
// Reading of ONNX files (https://github.com/onnx/onnx/blob/main/docs/IR.md). The file is hostile
// until proven otherwise: whatever it holds, the answer is a Graph that keeps its invariants or
// one Error; sizes are checked before memory is taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "importer/error.h"
#include "importer/graph.h"

namespace slalom::importer {

// The operator sets of the default domain that are read. All operators below are known for all
// of them.
inline constexpr std::int64_t kMinOpset = 11;
inline constexpr std::int64_t kMaxOpset = 21;

// Limits on what a file may make the importer allocate.
struct ReadLimits {
  std::int64_t max_constant_bytes = std::int64_t{8} << 30;  // all initialisers together
  std::size_t max_nodes = 100'000;
};

// read_onnx reads a file. Tensors with external data are read from files in the same folder or
// below it: a location that is absolute, has a ".." component or passes through a symbolic link is
// refused, and so is an offset or length outside of the file.
// Thread safe.
ImportResult<Graph> read_onnx(const std::string& path, const ReadLimits& limits = {});

// parse_onnx reads a file's bytes. External data is refused without a `folder`.
ImportResult<Graph> parse_onnx(std::span<const std::byte> bytes,
                               const std::optional<std::string>& folder = std::nullopt,
                               const ReadLimits& limits = {});

// parse_tensor reads a serialised ONNX TensorProto, as in the node tests of ONNX.
ImportResult<Tensor> parse_tensor(std::span<const std::byte> bytes, const ReadLimits& limits = {});

}  // namespace slalom::importer
