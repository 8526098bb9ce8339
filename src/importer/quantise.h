// SPDX-License-Identifier: Apache-2.0
// quantise turns a folded float graph into a plan: int8 weights per output channel, 8-bit
// activations, proven bounds (docs/quantisation.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "importer/error.h"
#include "importer/graph.h"
#include "importer/report.h"
#include "model/plan.h"

namespace slalom::importer {

// Calibrator chooses the range of an activation tensor from what the samples showed.
enum class Calibrator : std::uint8_t {
  kMinMax,      // everything seen
  kPercentile,  // cuts the tails: `percentile` of the values stay inside
  kMse,         // the range with the least mean squared error at 8 bits
};

// Equalise says whether neighbouring layers are rescaled against each other, channel by channel,
// before anything is quantised (Nagel et al., "Data-Free Quantization Through Weight Equalization
// and Bias Correction", 2019, section 4.1).
enum class Equalise : std::uint8_t {
  kOff,
  kAuto,  // if the network has depthwise convolutions
  kOn,
};

// Progress is called now and then from the calling thread: `done` of `total` steps of a stage are
// over. Stages follow one another.
using Progress = std::function<void(std::string_view stage, std::size_t done, std::size_t total)>;

struct QuantiseOptions {
  Calibrator calibrator = Calibrator::kMse;
  double percentile = 99.99;  // for kPercentile; 50 < percentile <= 100
  Equalise equalise = Equalise::kAuto;
  // Correct each bias by the mean error that rounding the weights causes on the samples (the same
  // paper, section 4.2).
  bool correct_bias = true;
  // Run a depthwise convolution that is followed directly by a 1x1 convolution as one separable
  // layer where its range can be proven.
  bool fuse_separable = true;
  // The real range of each graph input where it is known otherwise than from samples (pixels are
  // 0..255 whatever the samples show); missing entries are taken from the samples.
  std::vector<std::optional<std::pair<double, double>>> input_ranges;
  // Samples over which integer and float activations are compared for the report; 0: none.
  std::size_t report_samples = 4;
  unsigned threads = 0;  // 0: as many as the machine has
  Progress progress;
};

// InputInfo describes one input of the network: the shape at batch 1, in the network's own order.
struct InputInfo {
  std::string name;
  Shape shape;
  DType dtype = DType::kFloat32;
};

// Sample holds one tensor for each graph input, batch 1, real values of the input's own type.
using Sample = std::vector<Tensor>;
// SampleSource gives the sample of an index below `count`; the same index always gives the same
// sample, and it may be asked for several times.
struct SampleSource {
  std::size_t count = 0;
  std::function<ImportResult<Sample>(std::span<const InputInfo> inputs, std::size_t index)> get;
};

struct Quantised {
  model::Plan plan;
  Report report;
};

// input_info lists the inputs of a folded graph.
std::vector<InputInfo> input_info(const Graph& graph);

// quantise makes a plan of a graph that fold() returned. Plan inputs and outputs keep the order of
// the graph's; tensors are channels-last (model/plan.h), outputs of rank 2 and 3 keep their order.
// A graph with QuantizeLinear, DequantizeLinear or QLinearConv keeps the scales and zero points it
// has and needs samples only for values without them.
// Errors name the node: an operator, attribute or shape that a plan cannot express, missing
// samples, a sample that does not fit, values that are not finite.
ImportResult<Quantised> quantise(const Graph& graph, const SampleSource& samples,
                                 const QuantiseOptions& options = {});

}  // namespace slalom::importer
