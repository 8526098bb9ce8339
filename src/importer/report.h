// SPDX-License-Identifier: Apache-2.0
// The report of a conversion: what was proven about each layer and what quantisation cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/plan.h"

namespace slalom::importer {

// NodeReport describes one node of the plan.
struct NodeReport {
  std::string name;
  std::string op;  // "Linear", "Separable", "Add", ...
  model::Shape out;
  std::uint64_t macs = 0;  // multiplications of a Linear for one image

  // Of a Linear: the field, the largest |Y| that any input can cause, and the largest share of
  // weight scale that a channel gave up to stay in the field (0 = none, 0.75 = two bits).
  std::optional<field::Field> field;
  std::int64_t bound = 0;
  double scale_loss = 0.0;
  std::size_t channels_scaled = 0;

  // Signal-to-noise ratio of the output against the float network over the samples, in dB; empty
  // if the float network has no such value or no samples were compared.
  std::optional<double> snr_db;
};

struct Report {
  std::string name;
  std::string calibrator;
  std::size_t samples = 0;         // used to calibrate
  std::size_t report_samples = 0;  // used to compare
  std::uint64_t macs = 0;          // of all Linears, for one image
  std::uint64_t weights = 0;       // bytes
  std::vector<NodeReport> nodes;   // in the order of Plan::nodes
  std::vector<std::string> notes;  // what a person should know, one sentence each
  std::string digest;              // of the encoded plan, hexadecimal; empty if not encoded
};

// report_json is one JSON object, two spaces of indentation, closed by a newline.
std::string report_json(const Report& report);
// report_table is the same for a person: aligned columns, at most 130 wide (notes are sentences).
std::string report_table(const Report& report);

}  // namespace slalom::importer
