// SPDX-License-Identifier: Apache-2.0
#include "importer/report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>

namespace slalom::importer {
namespace {

std::string field_text(const NodeReport& node) {
  if (!node.field) return "none";
  return *node.field == field::Field::kP24 ? "p24" : "p31";
}

bool is_linear(const NodeReport& node) { return node.op == "Linear" || node.op == "Separable"; }

// fraction is the bound as a share of what the field allows.
double fraction(const NodeReport& node) {
  const double limit = node.field ? (field::modulus(*node.field) - 1) / 2.0 : 2147483647.0;
  return static_cast<double>(node.bound) / limit;
}

std::string shape_text(const model::Shape& s) {
  return std::to_string(s.h) + "x" + std::to_string(s.w) + "x" + std::to_string(s.c);
}

std::string fixed_text(double value, int digits) {
  std::array<char, 64> text{};
  const int length = std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return {text.data(), std::min(static_cast<std::size_t>(std::max(length, 0)), text.size() - 1)};
}

// Rows of cells become lines of aligned columns; numbers lean right.
std::string align(const std::vector<std::vector<std::string>>& rows, std::size_t left_columns) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      line += i < left_columns ? row[i] + padding : padding + row[i];
      line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

// shortened keeps the end of a long name, where names of layers differ.
std::string shortened(const std::string& name) {
  constexpr std::size_t kWidth = 36;
  return name.size() <= kWidth ? name : "..." + name.substr(name.size() - (kWidth - 3));
}

}  // namespace

std::string report_json(const Report& report) {
  nlohmann::ordered_json json = {{"name", report.name},
                                 {"digest", report.digest},
                                 {"calibrator", report.calibrator},
                                 {"samples", report.samples},
                                 {"report_samples", report.report_samples},
                                 {"macs", report.macs},
                                 {"weight_bytes", report.weights},
                                 {"notes", report.notes},
                                 {"nodes", nlohmann::ordered_json::array()}};
  for (const NodeReport& node : report.nodes) {
    nlohmann::ordered_json entry = {
        {"name", node.name}, {"op", node.op}, {"shape", {node.out.h, node.out.w, node.out.c}}};
    if (is_linear(node)) {
      entry["macs"] = node.macs;
      entry["field"] = field_text(node);
      entry["bound"] = node.bound;
      entry["bound_of_field"] = fraction(node);
      entry["scale_loss"] = node.scale_loss;
      entry["channels_scaled"] = node.channels_scaled;
    }
    if (node.snr_db) entry["snr_db"] = *node.snr_db;
    json["nodes"].push_back(std::move(entry));
  }
  // A name may hold bytes that are not UTF-8; they are replaced, never thrown over.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string report_table(const Report& report) {
  std::vector<std::vector<std::string>> rows = {
      {"node", "op", "output", "field", "MMAC", "bound", "of field", "scale lost", "SNR dB"}};
  std::array<std::size_t, 3> layers{};  // p24, p31, none
  for (const NodeReport& node : report.nodes) {
    std::vector<std::string> row = {shortened(node.name), node.op, shape_text(node.out)};
    if (is_linear(node)) {
      ++layers[!node.field ? 2 : (*node.field == field::Field::kP24 ? 0 : 1)];
      row.insert(row.end(),
                 {field_text(node), fixed_text(static_cast<double>(node.macs) / 1e6, 2),
                  std::to_string(node.bound), fixed_text(fraction(node) * 100, 1) + "%",
                  node.channels_scaled == 0 ? "-" : fixed_text(node.scale_loss * 100, 1) + "%"});
    } else {
      row.insert(row.end(), {"", "", "", "", ""});
    }
    row.push_back(node.snr_db ? fixed_text(*node.snr_db, 1) : "");
    rows.push_back(std::move(row));
  }
  std::string text = report.name + ": " + fixed_text(static_cast<double>(report.macs) / 1e6, 1) +
                     " MMAC, " + std::to_string(report.weights) + " weights; layers in p24 " +
                     std::to_string(layers[0]) + ", in p31 " + std::to_string(layers[1]) +
                     ", without a field " + std::to_string(layers[2]) +
                     "; calibration: " + report.calibrator + " over " +
                     std::to_string(report.samples) + " samples\n\n";
  text += align(rows, 3);
  for (const std::string& note : report.notes) text += "note: " + note + "\n";
  if (!report.digest.empty()) text += "digest: " + report.digest + "\n";
  return text;
}

}  // namespace slalom::importer
