// SPDX-License-Identifier: Apache-2.0
// quantise_network MODEL INPUT.pb...: quantises a network over the images of its inputs (dimension
// 0), runs the plan on them with the reference interpreter and writes the real values of its
// outputs, in the network's own order, next to the first input as output_0.pb, ... (ONNX
// TensorProto). The Python tests compare them with ONNX Runtime's.
#include <onnx/onnx_pb.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "importer/convert.h"
#include "importer/fold.h"
#include "importer/node_cases.h"
#include "importer/onnx_reader.h"
#include "importer/reference.h"

namespace slalom::importer {
namespace {

// image cuts image i out of a batch.
Tensor image(const Tensor& batch, std::size_t i) {
  Shape shape = batch.shape();
  const auto count = static_cast<std::size_t>(shape[0]);
  shape[0] = 1;
  Tensor one(batch.dtype(), shape);
  const std::size_t bytes = batch.bytes().size() / count;
  std::memcpy(one.bytes().data(), batch.bytes().data() + i * bytes, bytes);
  return one;
}

// is_channels_last: a plan's tensor holds a network's [1,C,H,W] as {H,W,C}.
bool is_channels_last(const Shape& network, const model::Shape& plan) {
  if (network.size() != 4) return false;
  const bool same = network[1] == plan.h && network[2] == plan.w && network[3] == plan.c;
  return !same && network[1] == plan.c && network[2] == plan.h && network[3] == plan.w;
}

// to_network and to_plan reorder the elements of one image.
std::vector<float> to_network(const std::vector<float>& values, const model::Shape& s) {
  std::vector<float> ordered(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ordered[i % s.c * s.positions() + i / s.c] = values[i];
  }
  return ordered;
}
std::vector<float> to_plan(std::span<const float> values, const model::Shape& s) {
  std::vector<float> ordered(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ordered[i] = values[i % s.c * s.positions() + i / s.c];
  }
  return ordered;
}

Codes codes_of(const model::TensorInfo& info, const Tensor& tensor) {
  const auto reals = tensor.view<float>();
  if (is_channels_last(tensor.shape(), info.shape)) {
    return encode_reals(info, to_plan(reals, info.shape));
  }
  return encode_reals(info, reals);
}

bool write(const std::string& path, const Shape& shape, const std::vector<float>& values) {
  onnx::TensorProto proto;
  proto.set_data_type(onnx::TensorProto::FLOAT);
  for (const std::int64_t dim : shape) proto.add_dims(dim);
  proto.set_raw_data(values.data(), values.size() * sizeof(float));
  std::ofstream file(path, std::ios::binary);
  return proto.SerializeToOstream(&file);
}

int report(const Error& error) {
  (void)std::fprintf(stderr, "quantise_network: %s\n", error.message().c_str());
  return 2;
}

int run_main(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) {
    (void)std::fprintf(stderr, "usage: quantise_network MODEL INPUT.pb...\n");
    return 1;
  }
  std::vector<Tensor> batches;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    auto tensor = parse_tensor(testing::read_bytes(arguments[i]));
    if (!tensor) return report(tensor.error());
    batches.push_back(std::move(tensor).value());
  }
  auto file = read_onnx(arguments[0]);
  if (!file) return report(file.error());
  const auto graph = fold(std::move(file).value());
  if (!graph) return report(graph.error());
  const auto count = static_cast<std::size_t>(batches[0].shape()[0]);
  const auto sample = [&](std::size_t i) {
    Sample tensors;
    for (const Tensor& batch : batches) tensors.push_back(image(batch, i));
    return tensors;
  };
  const SampleSource samples = {
      .count = count,
      .get = [&](std::span<const InputInfo>, std::size_t i) -> ImportResult<Sample> {
        return sample(i);
      }};
  QuantiseOptions options;
  options.calibrator = Calibrator::kMinMax;
  options.report_samples = 0;
  const auto quantised = quantise(graph.value(), samples, options);
  if (!quantised) return report(quantised.error());
  const model::Plan& plan = quantised.value().plan;
  std::vector<std::vector<float>> outputs(plan.outputs.size());
  for (std::size_t i = 0; i < count; ++i) {
    const Sample tensors = sample(i);
    std::vector<Codes> codes;
    for (std::size_t k = 0; k < tensors.size(); ++k) {
      codes.push_back(codes_of(plan.tensors[plan.inputs[k]], tensors[k]));
    }
    const std::vector<Codes> results = run_reference(plan, codes);
    for (std::size_t k = 0; k < results.size(); ++k) {
      const model::TensorInfo& info = plan.tensors[plan.outputs[k].tensor];
      std::vector<float> reals = decode_reals(info, results[k]);
      const Shape& shape = graph.value().value(graph.value().outputs[k]).shape;
      if (is_channels_last(shape, info.shape)) reals = to_network(reals, info.shape);
      outputs[k].insert(outputs[k].end(), reals.begin(), reals.end());
    }
  }
  const std::string folder = arguments[1].substr(0, arguments[1].rfind('/') + 1);
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    Shape shape = graph.value().value(graph.value().outputs[k]).shape;
    shape[0] *= static_cast<std::int64_t>(count);
    if (!write(folder + "output_" + std::to_string(k) + ".pb", shape, outputs[k])) {
      return report({.what = "cannot write to " + folder, .node = {}, .op = {}});
    }
    std::printf("%s\n", plan.outputs[k].function == model::Final::kNone      ? "none"
                        : plan.outputs[k].function == model::Final::kSoftmax ? "softmax"
                                                                             : "logsoftmax");
  }
  return 0;
}

}  // namespace
}  // namespace slalom::importer

int main(int argc, char** argv) {
  try {
    return slalom::importer::run_main(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    (void)std::fprintf(stderr, "quantise_network: %s\n", error.what());
    return 5;
  }
}
