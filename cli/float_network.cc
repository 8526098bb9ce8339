// SPDX-License-Identifier: Apache-2.0
#include "cli/float_network.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "cli/failure.h"
#include "cli/scores.h"
#include "importer/fold.h"
#include "importer/graph.h"
#include "importer/interpreter.h"
#include "importer/onnx_reader.h"

namespace slalom::cli {

struct FloatNetwork::Loaded {
  importer::Graph graph;
};

namespace {

// to_tensor puts channels-last values into the network's own order: (1, C, H, W) for rank 4.
importer::Tensor to_tensor(const InputValue& value, const model::TensorInfo& info,
                           const importer::Shape& shape) {
  std::vector<float> reals = value.reals;
  if (reals.empty()) {
    const std::vector<std::int32_t> codes(value.codes.begin(), value.codes.end());
    reals = real_values(info, codes);
  }
  if (shape.size() == 4) reals = channels_first(reals, info.shape);
  return importer::Tensor::of(shape, reals);
}

}  // namespace

FloatNetwork::FloatNetwork(const std::string& onnx_file, const model::Plan& plan) : plan_(plan) {
  if (::access(onnx_file.c_str(), R_OK) != 0) {
    throw Stop(
        Errc::kInvalidArgument,
        fmt::format("{} cannot be read; name the ONNX file of the float network", onnx_file));
  }
  auto graph = importer::read_onnx(onnx_file);
  if (graph.ok()) graph = importer::fold(std::move(graph).value());
  if (!graph.ok()) {
    throw Stop(Errc::kMalformed, fmt::format("{}: {}", onnx_file, graph.error().message()));
  }
  loaded_ = std::make_unique<Loaded>(Loaded{std::move(graph).value()});
  const importer::Graph& g = loaded_->graph;
  bool fits = g.inputs.size() == plan.inputs.size() && g.outputs.size() == plan.outputs.size();
  for (std::size_t i = 0; fits && i < plan.inputs.size(); ++i) {
    const importer::Shape& shape = g.value(g.inputs[i]).shape;
    fits = importer::element_count(shape) ==
           static_cast<std::int64_t>(plan.tensors[plan.inputs[i]].shape.elements());
  }
  if (!fits) {
    throw Stop(Errc::kMalformed,
               fmt::format("{} is not the network that this plan was made of", onnx_file));
  }
}

FloatNetwork::~FloatNetwork() = default;

std::vector<double> FloatNetwork::scores(std::span<const InputValue> values,
                                         Scoring scoring) const {
  const importer::Graph& g = loaded_->graph;
  std::vector<importer::Tensor> inputs;
  for (std::size_t i = 0; i < values.size(); ++i) {
    inputs.push_back(
        to_tensor(values[i], plan_.tensors[plan_.inputs[i]], g.value(g.inputs[i]).shape));
  }
  const auto outputs = importer::run(g, inputs);
  if (!outputs.ok()) {
    throw Stop(Errc::kInternal, "the float network failed: " + outputs.error().message());
  }
  const auto view = outputs.value().front().view<float>();
  std::vector<double> out(view.begin(), view.end());
  if (plan_.outputs[0].function == model::Final::kLogSoftmax) {
    std::transform(out.begin(), out.end(), out.begin(), [](double v) { return std::exp(v); });
  } else if (plan_.outputs[0].function == model::Final::kNone && scoring == Scoring::kSoftmax) {
    return softmax(view);
  }
  return out;  // a network that ended in a softmax still does
}

}  // namespace slalom::cli
