// SPDX-License-Identifier: Apache-2.0
// Conversion of ONNX protobuf tensors. Only the reader's own files include this: protobuf stays
// out of the importer's headers.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <optional>
#include <string>

#include "importer/graph.h"

namespace slalom::importer {

// TensorSource says where external data may lie and how much may still be read.
struct TensorSource {
  std::optional<std::string> folder;  // absent: external data is refused
  std::int64_t bytes_left = 0;        // reduced by every tensor
};

// dtype_from_onnx maps TensorProto.DataType; fails for types that are not imported.
DType dtype_from_onnx(int data_type);

// convert_tensor checks and copies a tensor. Throws Failure.
Tensor convert_tensor(const onnx::TensorProto& proto, TensorSource& source);

}  // namespace slalom::importer
