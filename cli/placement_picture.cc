// SPDX-License-Identifier: Apache-2.0
#include "cli/placement_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

#include "cli/failure.h"
#include "cli/files.h"
#include "cli/placement.h"

namespace slalom::cli {
namespace {

constexpr int kRow = 18;
constexpr int kTop = 64;
constexpr int kNames = 210;
constexpr int kBars = 560;
constexpr const char* kInside = "#2f6f9f";
constexpr const char* kOutside = "#d98324";
constexpr const char* kDevice = "#8a8f98";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string text_at(int x, int y, const std::string& text, const char* extra = "") {
  return fmt::format("<text x=\"{}\" y=\"{}\" {}>{}</text>\n", x, y, extra, escaped(text));
}

std::string bar(double x, double y, double width, double height, const char* colour, bool chosen) {
  return fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" {}=\"{}\"/>\n", x, y,
      std::max(width, 0.5), height, chosen ? "fill" : "fill=\"none\" stroke", colour);
}

}  // namespace

void write_picture(const std::string& file, const model::Plan& plan,
                   const planner::Planned& planned, const std::string& mode) {
  const auto& layers = planned.costs.layers;
  double longest = 1;
  for (const planner::LayerCost& l : layers) {
    longest = std::max({longest, l.inside_ns, l.outside_ns, l.device_ns});
  }
  const double scale = kBars / longest;
  const int height = kTop + kRow * static_cast<int>(layers.size()) + 24;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" "
      "font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" "
      "fill=\"white\"/>\n",
      kNames + kBars + 90, height);
  const planner::Sample& used = planned.samples[planned.used];
  svg += text_at(12, 22, fmt::format("{}, {}: {:.0f} images/s", plan.name, mode, used.rate()),
                 "font-size=\"15\" font-weight=\"bold\"");
  int x = 12;
  for (const auto& [colour, label] :
       {std::pair(kInside, "trusted time, computed inside"),
        std::pair(kOutside, "trusted time, taken from a device and checked"),
        std::pair(kDevice, "device and link")}) {
    svg += bar(x, 34, 10, 10, colour, true) + text_at(x + 14, 43, label);
    x += 34 + 6 * static_cast<int>(std::string_view(label).size());
  }
  svg += text_at(x, 43, "outline: not chosen");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const planner::LayerCost& l = layers[i];
    const bool remote = planned.placement.remote[l.node];
    const int y = kTop + kRow * static_cast<int>(i);
    svg += text_at(12, y + 11, layer_name(plan, l.node).substr(0, 32));
    svg += bar(kNames, y, scale * l.inside_ns, 5, kInside, !remote);
    svg += bar(kNames, y + 5, scale * l.outside_ns, 5, kOutside, remote);
    svg += bar(kNames, y + 10, scale * l.device_ns, 4, kDevice, remote);
    svg += text_at(kNames + kBars + 8, y + 11,
                   fmt::format("{:.1f} us", (remote ? l.outside_ns : l.inside_ns) / 1e3));
  }
  svg += "</svg>\n";
  write_file(file, std::as_bytes(std::span(svg)));
}

}  // namespace slalom::cli
