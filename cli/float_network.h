// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cli/inputs.h"
#include "cli/scores.h"
#include "model/plan.h"

namespace slalom::cli {

// FloatNetwork is the ONNX network that a plan was made of, run in binary32 by the importer's own
// interpreter, so that integer answers can be seen beside float ones.
class FloatNetwork {
 public:
  // Throws Stop: the file cannot be read (kInvalidArgument), or is not a network with the plan's
  // inputs and outputs (kMalformed).
  FloatNetwork(const std::string& onnx_file, const model::Plan& plan);
  ~FloatNetwork();
  FloatNetwork(const FloatNetwork&) = delete;
  FloatNetwork& operator=(const FloatNetwork&) = delete;

  // scores of the first output for one image, as slalom::cli::scores gives them for the plan.
  [[nodiscard]] std::vector<double> scores(std::span<const InputValue> values,
                                           Scoring scoring) const;

 private:
  struct Loaded;
  const model::Plan& plan_;
  std::unique_ptr<Loaded> loaded_;
};

}  // namespace slalom::cli
