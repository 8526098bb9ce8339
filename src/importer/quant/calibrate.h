// SPDX-License-Identifier: Apache-2.0
// Calibration: what values the samples show in each tensor, and which range of them to represent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "importer/graph.h"
#include "importer/quant/view.h"
#include "importer/quantise.h"

namespace slalom::importer {

// RealRange is an interval of real values that holds 0.
struct RealRange {
  double lo = 0.0;
  double hi = 0.0;
};
RealRange join(const RealRange& a, const RealRange& b) noexcept;

// Histogram counts magnitudes in bins of one width, a power of two that grows with what is added;
// zeros are counted apart, since 0 is always represented exactly.
class Histogram {
 public:
  Histogram();
  // REQUIRES: finite values (fails otherwise).
  void add(std::span<const float> values);

  [[nodiscard]] RealRange min_max() const noexcept { return {min_, max_}; }
  // percentile cuts (100 - percent)/2 percent of the values off either end; off one end only if
  // all are of one sign.
  [[nodiscard]] RealRange percentile(double percent) const;
  // least_error is the range with the least sum of squared differences between the values and
  // their 8-bit codes.
  [[nodiscard]] RealRange least_error() const;

 private:
  void grow(double largest);
  [[nodiscard]] double error(const RealRange& range) const;

  int exponent_ = -40;  // width of a bin is 2^exponent_
  std::vector<std::uint64_t> negative_, positive_;
  std::uint64_t zeros_ = 0;
  double min_ = 0.0, max_ = 0.0;
};

RealRange calibrated_range(const Histogram& histogram, const QuantiseOptions& options);

// ChannelMean accumulates the mean of each channel of a tensor: channel = position in memory
// modulo the number of channels.
class ChannelMean {
 public:
  ChannelMean(View view, std::size_t channels);
  void add(std::span<const float> values);
  [[nodiscard]] std::vector<double> mean() const;

 private:
  View view_;
  std::vector<double> sums_;
  std::uint64_t count_ = 0;  // of values for each channel
};

struct Statistics {
  std::map<ValueId, Histogram> histograms;
  std::map<ValueId, ChannelMean> means;
};

// collect runs the graph over all samples and fills the entries of `statistics`, which the caller
// has put there empty. Throws Failure.
void collect(const Graph& graph, const SampleSource& samples, const QuantiseOptions& options,
             Statistics& statistics);

// checked_sample gets a sample and checks its types and shapes against the graph's inputs.
Sample checked_sample(const Graph& graph, const SampleSource& samples, std::size_t index);

}  // namespace slalom::importer
