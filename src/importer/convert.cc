// SPDX-License-Identifier: Apache-2.0
#include "importer/convert.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "importer/fold.h"
#include "importer/onnx_reader.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

std::string hexadecimal(const model::Digest& digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte b : digest) {
    const auto v = std::to_integer<unsigned>(b);
    text += kDigits[v >> 4U];
    text += kDigits[v & 15U];
  }
  return text;
}

std::string side_text(std::uint32_t h, std::uint32_t w) {
  return std::to_string(h) + "x" + std::to_string(w);
}

// attach puts picture preparation and labels into the plan; they are part of its digest.
void attach(model::Plan& plan, const ConvertOptions& options) {
  const model::Shape& in = plan.tensors[plan.inputs[0]].shape;
  if (options.preprocess) {
    const model::Preprocess& p = *options.preprocess;
    if (plan.inputs.size() != 1) fail("a network with several inputs takes no pictures");
    if (p.crop_h != in.h || p.crop_w != in.w || p.mean.size() != in.c) {
      fail("pictures of " + side_text(p.crop_h, p.crop_w) + " with " +
           std::to_string(p.mean.size()) + " channels do not fit the network's input of " +
           side_text(in.h, in.w) + " with " + std::to_string(in.c));
    }
    plan.preprocess = p;
  }
  const std::size_t scores = plan.tensors[plan.outputs[0].tensor].shape.elements();
  if (!options.labels.empty() && options.labels.size() != scores) {
    fail("there are " + std::to_string(options.labels.size()) + " labels for " +
         std::to_string(scores) + " scores");
  }
  plan.labels = options.labels;
  if (const Status status = model::validate(plan); !status.ok()) fail(status.error().message);
}

ConvertOutput encoded(Quantised quantised) {
  ConvertOutput output{model::encode_plan(quantised.plan), std::move(quantised.report)};
  const auto digest = model::plan_digest(output.plan);
  if (!digest.ok()) fail(digest.error().message);
  output.report.digest = hexadecimal(digest.value());
  return output;
}

// pixel_range is the range of real values that pictures can have.
std::pair<double, double> pixel_range(const model::Preprocess& p) {
  std::pair<double, double> range = {0.0, 0.0};
  for (std::size_t c = 0; c < p.mean.size(); ++c) {
    range.first = std::min(range.first, (0.0 - p.mean[c]) / p.std[c]);
    range.second = std::max(range.second, (255.0 - p.mean[c]) / p.std[c]);
  }
  return range;
}

ConvertOutput convert_or_fail(const ConvertOptions& options) {
  if (options.quantise.progress) options.quantise.progress("reading", 0, 1);
  ImportResult<Graph> file = read_onnx(options.path);
  if (!file) throw Failure(file.error());
  FoldOptions fold_options;
  fold_options.input_shapes = options.input_shapes;
  ImportResult<Graph> folded = fold(std::move(file).value(), fold_options);
  if (!folded) throw Failure(folded.error());
  Graph graph = std::move(folded).value();
  graph.name =
      options.name.empty() ? std::filesystem::path(options.path).stem().string() : options.name;
  QuantiseOptions quantise_options = options.quantise;
  if (options.preprocess && quantise_options.input_ranges.empty()) {
    quantise_options.input_ranges = {pixel_range(*options.preprocess)};
  }
  ImportResult<Quantised> quantised = quantise(graph, options.samples, quantise_options);
  if (!quantised) throw Failure(quantised.error());
  Quantised result = std::move(quantised).value();
  attach(result.plan, options);
  return encoded(std::move(result));
}

}  // namespace

ImportResult<ConvertOutput> convert(const ConvertOptions& options) {
  try {
    return convert_or_fail(options);
  } catch (const Failure& failure) {
    return failure.error();
  }
}

ImportResult<ConvertOutput> make_model(std::string_view name, const ZooOptions& options,
                                       const QuantiseOptions& quantise_options) {
  constexpr std::size_t kSamples = 2;
  try {
    ImportResult<Graph> graph = zoo_graph(name, options, quantise_options.progress);
    if (!graph) return graph.error();
    ImportResult<Quantised> quantised =
        quantise(graph.value(), zoo_samples(options.seed, kSamples), quantise_options);
    if (!quantised) return quantised.error();
    return encoded(std::move(quantised).value());
  } catch (const Failure& failure) {
    return failure.error();
  }
}

ImportResult<Sample> picture_sample(std::span<const InputInfo> inputs, const model::Shape& shape,
                                    std::span<const float> pixels) {
  const auto wrong = [&]() -> Error {
    return {.what = "a picture of " + side_text(shape.h, shape.w) + " with " +
                    std::to_string(shape.c) + " channels does not fit the network's input" +
                    (inputs.empty() ? "" : " of the shape " + shape_text(inputs[0].shape)),
            .node = {},
            .op = {}};
  };
  if (inputs.size() != 1 || inputs[0].shape.size() != 4 || pixels.size() != shape.elements() ||
      inputs[0].dtype != DType::kFloat32) {
    return wrong();
  }
  const Shape first = {1, shape.c, shape.h, shape.w};
  const Shape last = {1, shape.h, shape.w, shape.c};
  if (inputs[0].shape == last && inputs[0].shape != first) {
    return Sample{Tensor::of(last, pixels)};
  }
  if (inputs[0].shape != first) return wrong();
  Tensor tensor(DType::kFloat32, first);
  const auto values = tensor.view<float>();
  const std::size_t positions = shape.positions();
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    values[i % shape.c * positions + i / shape.c] = pixels[i];
  }
  return Sample{std::move(tensor)};
}

}  // namespace slalom::importer
