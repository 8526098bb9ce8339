// SPDX-License-Identifier: Apache-2.0
#include "cli/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <system_error>
#include <utility>

#include "cli/failure.h"
#include "cli/files.h"
#include "untrusted/worker/trace.h"

namespace slalom::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 28;
constexpr int kHost = 0;
constexpr int kEachWorker = 10;  // process numbers of a worker's file are moved up by so many

bool is_ours(const std::string& device) { return device != "none" && !device.starts_with("unix:"); }

double micros(std::chrono::steady_clock::time_point at) {
  return std::chrono::duration<double, std::micro>(at.time_since_epoch()).count();
}

// add_worker appends the events of one worker's file.
void add_worker(json& events, const std::string& file, const std::string& device, int number) {
  const auto bytes = read_file(file, kMostBytes);
  const auto* const text = reinterpret_cast<const char*>(bytes.data());
  json trace = json::parse(text, text + bytes.size(), nullptr, false);
  if (!trace.is_object() || !trace.contains("traceEvents")) {
    throw Stop(Errc::kInternal, fmt::format("the worker of '{}' left a broken timeline", device));
  }
  for (json& event : trace["traceEvents"]) {
    event["pid"] = event["pid"].get<int>() + kEachWorker * number;
    events.push_back(std::move(event));
  }
  const auto left_out = trace["otherData"]["jobs_left_out"].get<std::uint64_t>();
  if (left_out > 0) {
    fmt::print(stderr, "The timeline has the first {} jobs of '{}' and not the {} after them.\n",
               worker::Trace::kMostJobs, device, left_out);
  }
}

}  // namespace

Timeline::Timeline(std::string file, const ModeOptions& mode)
    : file_(std::move(file)),
      devices_(mode.devices.empty() ? std::vector<std::string>{"cpu"} : mode.devices) {
  if (std::none_of(devices_.begin(), devices_.end(), is_ours)) {
    throw Stop(Errc::kInvalidArgument,
               "--trace shows what workers do that this command starts; with --device unix: give "
               "--trace to slalom device, with --device none there is nothing to show");
  }
  folder_ = temporary_folder("the timeline");
}

Timeline::~Timeline() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void Timeline::answered(std::uint64_t image) {
  answers_.push_back({image, std::chrono::steady_clock::now()});
}

void Timeline::write() const {
  json events = json::array();
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    const std::string file = (fs::path(folder_) / fmt::format("{}.json", i)).string();
    if (!is_ours(devices_[i])) continue;
    if (!fs::exists(file)) {
      throw Stop(Errc::kUnavailable,
                 fmt::format("the worker of '{}' left no timeline", devices_[i]));
    }
    add_worker(events, file, devices_[i], static_cast<int>(i));
  }
  double first = std::numeric_limits<double>::max();
  for (const json& event : events) {
    if (event.contains("ts")) first = std::min(first, event["ts"].get<double>());
  }
  for (json& event : events) {
    if (event.contains("ts")) event["ts"] = event["ts"].get<double>() - first;
  }
  events.push_back({{"ph", "M"},
                    {"pid", kHost},
                    {"tid", 0},
                    {"name", "process_name"},
                    {"args", {{"name", "this command: answers as they come"}}}});
  for (const Answered& a : answers_) {
    events.push_back({{"ph", "i"},
                      {"s", "t"},
                      {"pid", kHost},
                      {"tid", 0},
                      {"ts", std::max(0.0, micros(a.at) - first)},
                      {"name", fmt::format("image {}", a.image)}});
  }
  const std::string text =
      json{{"traceEvents", std::move(events)}}.dump(-1, ' ', false, json::error_handler_t::replace);
  write_file(file_, std::as_bytes(std::span(text)));
}

}  // namespace slalom::cli
