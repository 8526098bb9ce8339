// SPDX-License-Identifier: Apache-2.0
// The two text files that may go into a plan: picture preparation and labels.
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "importer/convert.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

using Json = nlohmann::json;

constexpr std::uint32_t kMaxSide = 1U << 20;

std::uint32_t side(const Json& value, const char* key) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
      value.get<std::int64_t>() > kMaxSide) {
    fail(std::string("\"") + key + "\" is not a number of pixels");
  }
  return value.get<std::uint32_t>();
}

void read_crop(const Json& value, model::Preprocess& p) {
  if (value.is_array() && value.size() == 2) {
    p.crop_h = side(value[0], "crop");
    p.crop_w = side(value[1], "crop");
  } else {
    p.crop_h = p.crop_w = side(value, "crop");
  }
  if (p.crop_h == 0 || p.crop_w == 0) fail("\"crop\" is empty");
}

std::string text_of(const Json& value, const char* key) {
  if (!value.is_string()) fail(std::string("\"") + key + "\" is not a word");
  return value.get<std::string>();
}

std::vector<float> numbers(const Json& object, const char* key, std::size_t count,
                           float otherwise) {
  std::vector<float> values(count, otherwise);
  if (!object.contains(key)) return values;
  const Json& list = object.at(key);
  if (!list.is_array() || list.size() != count) {
    fail(std::string("\"") + key + "\" is not a list of " + std::to_string(count) + " numbers");
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (!list[i].is_number())
      fail(std::string("\"") + key + "\" holds something else than numbers");
    values[i] = list[i].get<float>();
    if (!std::isfinite(values[i])) fail(std::string("\"") + key + "\" holds no finite number");
  }
  return values;
}

model::Interpolation interpolation(const std::string& name) {
  if (name == "nearest") return model::Interpolation::kNearest;
  if (name == "bilinear") return model::Interpolation::kBilinear;
  if (name == "bicubic") return model::Interpolation::kBicubic;
  fail("\"interpolation\" is none of nearest, bilinear and bicubic");
}

model::Preprocess preprocess_of(const Json& object) {
  if (!object.is_object()) fail("it is not an object");
  static const std::set<std::string> known = {"crop",   "resize_shorter", "interpolation",
                                              "layout", "mean",           "std"};
  for (const auto& [key, value] : object.items()) {
    if (known.count(key) == 0) fail("\"" + key + "\" is not known");
  }
  model::Preprocess p;
  if (!object.contains("crop")) fail("\"crop\" is missing");
  read_crop(object.at("crop"), p);
  if (object.contains("resize_shorter")) {
    p.resize_shorter = side(object.at("resize_shorter"), "resize_shorter");
  }
  if (object.contains("interpolation")) {
    p.interpolation = interpolation(text_of(object.at("interpolation"), "interpolation"));
  }
  const std::string layout =
      object.contains("layout") ? text_of(object.at("layout"), "layout") : "RGB";
  if (layout != "RGB" && layout != "BGR" && layout != "L") {
    fail("\"layout\" is none of RGB, BGR and L");
  }
  p.bgr = layout == "BGR";
  const std::size_t channels = layout == "L" ? 1 : 3;
  p.mean = numbers(object, "mean", channels, 0.0F);
  p.std = numbers(object, "std", channels, 1.0F);
  for (const float s : p.std) {
    if (!(s > 0.0F)) fail("\"std\" holds a number that is not positive");
  }
  return p;
}

}  // namespace

ImportResult<model::Preprocess> parse_preprocess(std::string_view json) {
  try {
    const Json object = Json::parse(json, nullptr, false);
    if (object.is_discarded()) fail("it is not JSON");
    return preprocess_of(object);
  } catch (const Failure& failure) {
    Error error = failure.error();
    error.what = "the description of the pictures cannot be used: " + error.what;
    return error;
  }
}

ImportResult<std::vector<std::string>> parse_labels(std::string_view text) {
  constexpr std::size_t kMaxLabel = 4096;
  std::vector<std::string> labels;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const std::string where = "line " + std::to_string(labels.size() + 1) + " of the labels";
    if (line.size() > kMaxLabel) return Error{.what = where + " is too long", .node = {}, .op = {}};
    for (const char c : line) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
        return Error{.what = where + " holds a control character", .node = {}, .op = {}};
      }
    }
    labels.emplace_back(line);
  }
  return labels;
}

}  // namespace slalom::importer
