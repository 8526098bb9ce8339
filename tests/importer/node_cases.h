// SPDX-License-Identifier: Apache-2.0
// Access to the backend node tests of ONNX: folders with a network of one node, its inputs and the
// outputs that ONNX's own reference computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "importer/error.h"
#include "importer/graph.h"

namespace slalom::importer::testing {

// read_bytes returns a file; empty if it cannot be read.
std::vector<std::byte> read_bytes(const std::string& path);

// read_tensors reads DIR/PREFIX_0.pb, DIR/PREFIX_1.pb, ... in order.
ImportResult<std::vector<Tensor>> read_tensors(const std::string& dir, const std::string& prefix);

// with_opset returns the network with another version of the default operator set. It serves
// cases older than the oldest version that is read, of operators that did not change since.
std::vector<std::byte> with_opset(const std::vector<std::byte>& model, std::int64_t opset);

// difference describes the first element in which two tensors differ by more than the bounds of
// ONNX's own runner (relative 1e-3, absolute 1e-7), or is empty. One in a thousand quantised codes
// (8-bit) may differ by 1: ties fall either way in float arithmetic.
std::string difference(const Tensor& found, const Tensor& expected);

// subfolders lists the names of a folder's folders, sorted.
std::vector<std::string> subfolders(const std::string& path);

}  // namespace slalom::importer::testing
