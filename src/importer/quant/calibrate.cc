// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/calibrate.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "importer/interpreter.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

constexpr std::size_t kBins = 4096;

}  // namespace

RealRange join(const RealRange& a, const RealRange& b) noexcept {
  return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
}

Histogram::Histogram() : negative_(kBins, 0), positive_(kBins, 0) {}

void Histogram::grow(double largest) {
  while (largest >= std::ldexp(static_cast<double>(kBins), exponent_)) {
    for (auto* bins : {&negative_, &positive_}) {
      for (std::size_t i = 0; i < kBins / 2; ++i) (*bins)[i] = (*bins)[2 * i] + (*bins)[2 * i + 1];
      std::fill(bins->begin() + kBins / 2, bins->end(), 0);
    }
    ++exponent_;
  }
}

void Histogram::add(std::span<const float> values) {
  float low = 0.0F;
  float high = 0.0F;
  bool finite = true;
  for (const float x : values) {
    low = std::min(low, x);
    high = std::max(high, x);
    finite = finite && std::isfinite(x);
  }
  if (!finite) fail("a value is not finite");
  min_ = std::min<double>(min_, low);
  max_ = std::max<double>(max_, high);
  grow(std::max<double>(high, -static_cast<double>(low)));
  const float per_width = static_cast<float>(std::ldexp(1.0, -exponent_));
  for (const float x : values) {
    if (x == 0.0F) {
      ++zeros_;
      continue;
    }
    const auto bin = std::min(static_cast<std::size_t>(std::fabs(x) * per_width), kBins - 1);
    ++(x < 0.0F ? negative_ : positive_)[bin];
  }
}

RealRange Histogram::percentile(double percent) const {
  std::uint64_t total = zeros_;
  for (std::size_t i = 0; i < kBins; ++i) total += negative_[i] + positive_[i];
  const bool two_sided = min_ < 0.0 && max_ > 0.0;
  const double cut =
      static_cast<double>(total) * (100.0 - percent) / 100.0 / (two_sided ? 2.0 : 1.0);
  const double width = std::ldexp(1.0, exponent_);
  const auto end = [&](const std::vector<std::uint64_t>& bins, double extreme) {
    double beyond = 0.0;
    for (std::size_t i = kBins; i-- > 0;) {
      beyond += static_cast<double>(bins[i]);
      if (beyond > cut) return std::min(extreme, static_cast<double>(i + 1) * width);
    }
    return 0.0;
  };
  return {-end(negative_, -min_), end(positive_, max_)};
}

double Histogram::error(const RealRange& range) const {
  const double scale = (range.hi - range.lo) / 255.0;
  if (!(scale > 0.0)) return max_ - min_ > 0.0 ? HUGE_VAL : 0.0;
  const double width = std::ldexp(1.0, exponent_);
  const double zero_point = std::nearbyint(-range.lo / scale);
  // A magnitude x becomes min(round(x / scale), steps) * scale.
  const auto side = [&](const std::vector<std::uint64_t>& bins, double extreme, double steps) {
    const auto end = std::min(kBins, static_cast<std::size_t>(extreme / width) + 1);
    double sum = 0.0;
    for (std::size_t i = 0; i < end; ++i) {
      const double x = (static_cast<double>(i) + 0.5) * width;
      const double code = std::min(x / scale + 0.5, steps);
      const double difference = static_cast<double>(static_cast<int>(code)) * scale - x;
      sum += static_cast<double>(bins[i]) * difference * difference;
    }
    return sum;
  };
  return side(negative_, -min_, zero_point) + side(positive_, max_, 255.0 - zero_point);
}

RealRange Histogram::least_error() const {
  RealRange best = min_max();
  double best_error = error(best);
  // Shrink one end at a time; two rounds settle.
  constexpr int kSteps = 96;
  for (int round = 0; round < 2; ++round) {
    for (const bool upper : {true, false}) {
      const double extreme = upper ? max_ : min_;
      if (extreme == 0.0) continue;
      for (int step = 8; step <= kSteps; ++step) {
        RealRange candidate = best;
        (upper ? candidate.hi : candidate.lo) = extreme * step / kSteps;
        const double candidate_error = error(candidate);
        if (candidate_error < best_error) {
          best = candidate;
          best_error = candidate_error;
        }
      }
    }
  }
  return best;
}

RealRange calibrated_range(const Histogram& histogram, const QuantiseOptions& options) {
  switch (options.calibrator) {
    case Calibrator::kMinMax:
      return histogram.min_max();
    case Calibrator::kPercentile:
      return histogram.percentile(options.percentile);
    case Calibrator::kMse:
      return histogram.least_error();
  }
  return histogram.min_max();
}

ChannelMean::ChannelMean(View view, std::size_t channels)
    : view_(std::move(view)), sums_(channels, 0.0) {}

void ChannelMean::add(std::span<const float> values) {
  std::size_t i = 0;
  for_each_element(view_, [&](std::size_t at) { sums_[at % sums_.size()] += values[i++]; });
  count_ += values.size() / sums_.size();
}

std::vector<double> ChannelMean::mean() const {
  std::vector<double> result = sums_;
  for (double& m : result) m /= static_cast<double>(std::max<std::uint64_t>(count_, 1));
  return result;
}

Sample checked_sample(const Graph& graph, const SampleSource& samples, std::size_t index) {
  const std::vector<InputInfo> inputs = input_info(graph);
  ImportResult<Sample> sample = samples.get(inputs, index);
  if (!sample) throw Failure(sample.error());
  if (sample.value().size() != inputs.size()) {
    fail("sample " + std::to_string(index) + " does not have one tensor for each input");
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& tensor = sample.value()[i];
    if (tensor.dtype() != inputs[i].dtype || tensor.shape() != inputs[i].shape) {
      fail("sample " + std::to_string(index) + " is " + std::string(dtype_name(tensor.dtype())) +
           shape_text(tensor.shape()) + ", but the input '" + inputs[i].name + "' is " +
           std::string(dtype_name(inputs[i].dtype)) + shape_text(inputs[i].shape));
    }
  }
  return std::move(sample).value();
}

void collect(const Graph& graph, const SampleSource& samples, const QuantiseOptions& options,
             Statistics& statistics) {
  RunOptions run_options;
  run_options.threads = options.threads;
  run_options.observer = [&](ValueId id, const Tensor& tensor) {
    if (tensor.dtype() != DType::kFloat32) return;
    const auto values = tensor.view<float>();
    if (const auto it = statistics.histograms.find(id); it != statistics.histograms.end()) {
      if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) {
        fail("on a sample the value '" + graph.value(id).name + "' is infinite or not a number");
      }
      it->second.add(values);
    }
    if (const auto it = statistics.means.find(id); it != statistics.means.end()) {
      it->second.add(values);
    }
  };
  for (std::size_t i = 0; i < samples.count; ++i) {
    if (options.progress) options.progress("calibrating", i, samples.count);
    const auto outputs = importer::run(graph, checked_sample(graph, samples, i), run_options);
    if (!outputs) throw Failure(outputs.error());
  }
  if (options.progress) options.progress("calibrating", samples.count, samples.count);
}

}  // namespace slalom::importer
