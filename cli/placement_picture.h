// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "model/plan.h"
#include "untrusted/planner/planner.h"

namespace slalom::cli {

// write_picture draws a placement as SVG: one row a layer, its trusted time and its device time as
// bars, those that were not chosen in outline. Throws Stop if the file cannot be written.
void write_picture(const std::string& file, const model::Plan& plan,
                   const planner::Planned& planned, const std::string& mode);

}  // namespace slalom::cli
