// SPDX-License-Identifier: Apache-2.0
// Files that a network names: tensors may lie outside of the ONNX file ("External Data" in
// https://github.com/onnx/onnx/blob/main/docs/ExternalData.md). The names come from an untrusted
// file, so they may lead nowhere but below the folder of the network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace slalom::importer {

struct ExternalRange {
  std::string location;                // relative to the folder, with '/' between components
  std::int64_t offset = 0;             // bytes
  std::optional<std::int64_t> length;  // bytes; absent: as many as the tensor needs
};

// read_external returns `wanted` bytes from the range. Throws Failure unless the location is a
// relative path of plain components (no "..", no "."), each of them is a folder, the last a
// regular file, none a symbolic link (components are opened one by one without following links,
// so nothing can be exchanged between check and use), and the range has the size wanted and lies
// in the file. No memory is taken before that is known.
std::vector<std::byte> read_external(const std::string& folder, const ExternalRange& range,
                                     std::int64_t wanted);

// read_file returns a whole file. Throws Failure if it cannot be read, is not a regular file or
// is larger than max_bytes.
std::vector<std::byte> read_file(const std::string& path, std::int64_t max_bytes);

}  // namespace slalom::importer
