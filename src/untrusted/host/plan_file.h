// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "model/plan.h"
#include "untrusted/host/outcome.h"

namespace slalom::host {

// PlanFile is a plan as it lies on disk, and decoded.
struct PlanFile {
  std::vector<std::byte> bytes;
  std::shared_ptr<const model::Plan> plan;
  model::Digest digest{};
};

// read_plan_file reads and decodes a plan. kInvalidArgument: the file cannot be read; kMalformed:
// it is no plan, or one that breaks a rule. The sentence names the file.
[[nodiscard]] Outcome<PlanFile> read_plan_file(const std::string& path);

}  // namespace slalom::host
