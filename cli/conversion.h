// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "cli/failure.h"
#include "cli/terminal.h"
#include "importer/convert.h"

// What `convert` and `model` share.

namespace slalom::cli {

// unwrap_import returns the value, or throws Stop with the importer's sentence: kMalformed, or
// kUnavailable without memory.
template <class T>
T unwrap_import(importer::ImportResult<T> result, std::string_view file) {
  if (!result.ok()) {
    throw Stop(result.error().no_memory ? Errc::kUnavailable : Errc::kMalformed,
               std::string(file) + ": " + result.error().message());
  }
  return std::move(result).value();
}

// StageProgress shows the stages of a conversion as one bar after another.
class StageProgress {
 public:
  [[nodiscard]] importer::Progress callback();
  void end() { bar_.reset(); }

 private:
  std::string stage_;
  std::unique_ptr<Progress> bar_;
};

// save_plan writes the plan, and the report as JSON if a file is named, and prints the report.
void save_plan(const importer::ConvertOutput& made, const std::string& plan_file,
               const std::string& report_file);

}  // namespace slalom::cli
