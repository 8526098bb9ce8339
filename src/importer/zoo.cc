// SPDX-License-Identifier: Apache-2.0
#include "importer/zoo.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "importer/ops/op.h"
#include "importer/zoo/builder.h"

namespace slalom::importer {
namespace {

constexpr std::array<std::string_view, 10> kNames = {
    "vgg16",    "vgg19",    "mobilenet", "mobilenet_sep", "resnet18",
    "resnet34", "resnet50", "resnet101", "resnet152",     "inception_v3"};

constexpr std::uint32_t kLargestInput = 4096;
constexpr std::uint32_t kMostClasses = 1U << 20;

Graph build(std::string_view name, const ZooOptions& options) {
  if (name == "vgg16") return make_vgg(name, 16, options);
  if (name == "vgg19") return make_vgg(name, 19, options);
  if (name == "mobilenet") return make_mobilenet(name, false, options);
  if (name == "mobilenet_sep") return make_mobilenet(name, true, options);
  if (name == "resnet18") return make_resnet(name, 18, options);
  if (name == "resnet34") return make_resnet(name, 34, options);
  if (name == "resnet50") return make_resnet(name, 50, options);
  if (name == "resnet101") return make_resnet(name, 101, options);
  if (name == "resnet152") return make_resnet(name, 152, options);
  return make_inception_v3(name, options);
}

void check(std::string_view name, const ZooOptions& options) {
  if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
    std::string known;
    for (const std::string_view other : kNames) known += " " + std::string(other);
    fail("there is no architecture '" + std::string(name) + "'; there are" + known);
  }
  if (options.input_size > kLargestInput) {
    fail("the input size is above " + std::to_string(kLargestInput));
  }
  if (options.top && (options.classes == 0 || options.classes > kMostClasses)) {
    fail("the number of classes is not between 1 and " + std::to_string(kMostClasses));
  }
}

// picture draws soft patches of colour (a coarse random grid, interpolated) and some noise.
Tensor picture(const Shape& shape, std::uint64_t seed) {
  constexpr std::size_t kGrid = 9;
  Random random(seed);
  Tensor tensor(DType::kFloat32, shape);
  const auto values = tensor.view<float>();
  const auto height = static_cast<std::size_t>(shape[2]);
  const auto width = static_cast<std::size_t>(shape[3]);
  std::size_t at = 0;
  for (std::int64_t c = 0; c < shape[1]; ++c) {
    std::array<std::array<float, kGrid>, kGrid> grid{};
    for (auto& row : grid) {
      for (float& v : row) v = static_cast<float>(3.6 * random.uniform() - 1.8);
    }
    for (std::size_t y = 0; y < height; ++y) {
      const float gy = static_cast<float>(y) * (kGrid - 1) / static_cast<float>(height);
      const auto iy = static_cast<std::size_t>(gy);
      const float fy = gy - static_cast<float>(iy);
      for (std::size_t x = 0; x < width; ++x) {
        const float gx = static_cast<float>(x) * (kGrid - 1) / static_cast<float>(width);
        const auto ix = static_cast<std::size_t>(gx);
        const float fx = gx - static_cast<float>(ix);
        const float top = grid[iy][ix] * (1.0F - fx) + grid[iy][ix + 1] * fx;
        const float bottom = grid[iy + 1][ix] * (1.0F - fx) + grid[iy + 1][ix + 1] * fx;
        values[at++] =
            top * (1.0F - fy) + bottom * fy + static_cast<float>(0.4 * random.uniform() - 0.2);
      }
    }
  }
  return tensor;
}

std::uint64_t sample_seed(std::uint64_t seed, std::size_t index) {
  return seed * 0x9e3779b97f4a7c15ULL + 0x73616d706c65ULL + index;
}

}  // namespace

std::span<const std::string_view> zoo_names() { return kNames; }

SampleSource zoo_samples(std::uint64_t seed, std::size_t count) {
  return {
      .count = count,
      .get = [seed](std::span<const InputInfo> inputs, std::size_t index) -> ImportResult<Sample> {
        return Sample{picture(inputs[0].shape, sample_seed(seed, index))};
      }};
}

QuantiseOptions zoo_quantise_options() {
  QuantiseOptions options;
  options.calibrator = Calibrator::kMinMax;
  options.equalise = Equalise::kOff;
  options.correct_bias = false;
  options.report_samples = 1;
  return options;
}

ImportResult<Graph> zoo_graph(std::string_view name, const ZooOptions& options,
                              const Progress& progress) {
  try {
    check(name, options);
    Graph graph = build(name, options);
    const Tensor sample = picture(graph.value(graph.inputs[0]).shape, sample_seed(options.seed, 0));
    normalise(graph, sample, options.seed, progress);
    return graph;
  } catch (const Failure& failure) {
    return failure.error();
  }
}

}  // namespace slalom::importer
