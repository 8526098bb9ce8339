// SPDX-License-Identifier: Apache-2.0
#include "cli/conversion.h"

#include <fmt/format.h>

#include <cstdio>
#include <span>

#include "cli/files.h"

namespace slalom::cli {

importer::Progress StageProgress::callback() {
  return [this](std::string_view stage, std::size_t done, std::size_t total) {
    if (stage != stage_ || !bar_) {
      stage_ = stage;
      bar_.reset();  // the old line goes before the new one comes
      bar_ = std::make_unique<Progress>(stage_, total, "steps");
    }
    bar_->set(done);
  };
}

void save_plan(const importer::ConvertOutput& made, const std::string& plan_file,
               const std::string& report_file) {
  write_file(plan_file, made.plan);
  if (!report_file.empty()) {
    const std::string json = importer::report_json(made.report);
    write_file(report_file, std::as_bytes(std::span(json)));
  }
  fmt::print("{}", importer::report_table(made.report));
  fmt::print("{} {} ({})\n", styled(stdout, Style::kGood, "wrote"), plan_file,
             human_bytes(made.plan.size()));
}

}  // namespace slalom::cli
