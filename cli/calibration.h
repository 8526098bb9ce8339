// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/inputs.h"
#include "importer/quantise.h"
#include "model/plan.h"

namespace slalom::cli {

// Calibration is the sample source of a conversion: what the user named (inputs.h), in the order
// and layout of the ONNX network's own inputs. random:N gives random pictures if there is a
// preprocess, else values in -2..2.
class Calibration {
 public:
  // Throws Stop if an input of the network is neither picture, sequence nor vector, or a file is
  // wrong.
  Calibration(const std::vector<importer::InputInfo>& inputs,
              std::optional<model::Preprocess> preprocess, const std::vector<std::string>& names);

  // source gives at most `limit` samples (0: all), spread evenly over all that there are. Valid for
  // the life of this object; a file that turns out to be bad is an importer error that names it.
  [[nodiscard]] importer::SampleSource source(std::size_t limit) const;

 private:
  [[nodiscard]] importer::Sample sample(std::size_t image) const;

  std::vector<importer::InputInfo> inputs_;
  std::optional<model::Preprocess> preprocess_;
  std::vector<InputSpec> specs_;
  std::unique_ptr<InputSet> images_;
};

}  // namespace slalom::cli
