// SPDX-License-Identifier: Apache-2.0
#include "cli/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "cli/terminal.h"

namespace slalom::cli {
namespace {

nlohmann::json ranked_json(const model::Plan& plan, std::span<const Ranked> ranked) {
  nlohmann::json out = nlohmann::json::array();
  for (const Ranked& r : ranked) {
    out.push_back({{"class", r.index}, {"label", label_of(plan, r.index)}, {"score", r.score}});
  }
  return out;
}

nlohmann::json output_json(const model::TensorInfo& tensor, std::span<const std::int32_t> codes) {
  return {{"name", tensor.name},
          {"shape", {tensor.shape.h, tensor.shape.w, tensor.shape.c}},
          {"scale", tensor.scale},
          {"zero_point", tensor.zero_point},
          {"codes", codes}};
}

// summary_of_none says why there was no check.
std::string summary_of_none(const ModeOptions& mode, const runtime::Stats& stats) {
  if (stats.bytes_out == 0) return "every layer ran in the trusted process: nothing to check";
  if (mode.integrity == model::Integrity::kOff) {
    return styled(stdout, Style::kWarn, "no results were checked: the device may have lied");
  }
  return "no device gave an answer to check";
}

}  // namespace

nlohmann::json image_json(const model::Plan& plan, const std::string& input, const Answer& answer,
                          std::span<const Ranked> float_top, Scoring scoring, std::size_t k) {
  nlohmann::json out{{"input", input}, {"outputs", nullptr}};
  if (answer.error) {
    out["error"] = answer.error->message;
  } else {
    out["outputs"] = nlohmann::json::array();
    for (std::size_t o = 0; o < answer.outputs.size(); ++o) {
      out["outputs"].push_back(
          output_json(plan.tensors[plan.outputs[o].tensor], answer.outputs[o]));
    }
    if (is_classifier(plan)) {
      out["top"] = ranked_json(plan, top(scores(plan, scoring, answer.outputs[0]), k));
    }
  }
  if (!float_top.empty()) out["float_top"] = ranked_json(plan, float_top);
  return out;
}

nlohmann::json checks_json(const runtime::Stats& stats) {
  return {{"layers", stats.layers_checked},
          {"performed", stats.checks_performed},
          {"failed", stats.checks_failed},
          {"soundness_bits", stats.soundness_bits}};
}

nlohmann::json timing_json(const runtime::Stats& stats, double pads_s) {
  return {{"wall_s", stats.wall_s},
          {"images_per_s", images_per_s(stats)},
          {"trusted_s", stats.trusted_s},
          // What was waited for beyond the device's own time: the way there and back.
          {"link_s", std::max(0.0, stats.wait_s - stats.device_s)},
          {"device_s", stats.device_s},
          {"pad_s", stats.pad_s + pads_s},
          {"pads_before_s", pads_s},
          {"amortised_images_per_s", amortised_images_per_s(stats, pads_s)}};
}

nlohmann::json memory_json(const host::MemoryUse& use) {
  const auto one = [](const std::optional<host::Memory>& m) -> nlohmann::json {
    if (!m) return nullptr;
    return {{"bytes", m->bytes}, {"peak_bytes", m->peak_bytes}, {"data_bytes", m->data_bytes}};
  };
  nlohmann::json workers = nlohmann::json::array();
  for (const auto& worker : use.workers) workers.push_back(one(worker));
  return {{"trusted", one(use.trusted)}, {"workers", std::move(workers)}};
}

nlohmann::json run_json(Session& session, const ModeOptions& mode, const std::string& plan_file,
                        nlohmann::json images, const runtime::Stats& stats, double pads_s) {
  const model::Plan& plan = session.plan();
  nlohmann::json inputs = nlohmann::json::array();
  nlohmann::json outputs = nlohmann::json::array();
  nlohmann::json tops = nlohmann::json::array();
  nlohmann::json float_tops = nlohmann::json::array();
  nlohmann::json errors = nlohmann::json::array();
  for (nlohmann::json& image : images) {
    inputs.push_back(std::move(image["input"]));
    outputs.push_back(std::move(image["outputs"]));
    if (image.contains("top")) tops.push_back(std::move(image["top"]));
    if (image.contains("float_top")) float_tops.push_back(std::move(image["float_top"]));
    errors.push_back(image.contains("error") ? std::move(image["error"]) : nlohmann::json());
  }
  nlohmann::json out{
      {"model", plan.name},
      {"plan", {{"file", plan_file}, {"sha256", hex(session.engine().digest())}}},
      {"mode",
       {{"name", mode_text(mode)},
        {"integrity", integrity_name(mode.integrity)},
        {"privacy", privacy_name(mode.privacy)},
        {"precision", mode.precision == Precision::kFp32 ? "fp32" : "int8"}}},
      {"device", mode.devices.empty() ? std::vector<std::string>{"cpu"} : mode.devices},
      {"images", stats.images},
      {"inputs", std::move(inputs)},
      {"outputs", std::move(outputs)},
      {"errors", std::move(errors)},
      {"checks", checks_json(stats)},
      {"pads", {{"used", stats.pads_used}, {"inline", stats.pads_inline}}},
      {"traffic", {{"bytes_out", stats.bytes_out}, {"bytes_in", stats.bytes_in}}},
      {"memory", memory_json(session.engine().memory())},
      {"timing", timing_json(stats, pads_s)}};
  if (!tops.empty()) out["top"] = std::move(tops);
  if (!float_tops.empty()) out["float_top"] = std::move(float_tops);
  return out;
}

void print_json(const nlohmann::json& object) {
  // Names of files may be in any encoding; what is not UTF-8 is replaced.
  fmt::print("{}\n", object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

double images_per_s(const runtime::Stats& stats) {
  return stats.wall_s > 0 ? static_cast<double>(stats.images) / stats.wall_s : 0;
}

double amortised_images_per_s(const runtime::Stats& stats, double pads_s) {
  return stats.wall_s > 0 ? static_cast<double>(stats.images) / (stats.wall_s + pads_s) : 0;
}

void print_summary(const ModeOptions& mode, const runtime::Stats& stats, double pads_s) {
  fmt::print("\n{}: {} in {}, {} images/s", styled(stdout, Style::kBold, mode_text(mode)),
             counted(stats.images, "image"), human_time(stats.wall_s),
             human_rate(images_per_s(stats)));
  if (pads_s > 0) {
    fmt::print(" ({} with the {} that the pads took before)",
               human_rate(amortised_images_per_s(stats, pads_s)), human_time(pads_s));
  }
  fmt::print("\n");
  if (stats.checks_performed == 0) {
    fmt::print("{}\n", summary_of_none(mode, stats));
  } else {
    const std::string checks =
        fmt::format("{} ({}), {} failed", counted(stats.checks_performed, "check"),
                    counted(stats.layers_checked, "layer"), human_count(stats.checks_failed));
    fmt::print("{}; a lie passes with probability at most 2^-{:.1f}\n",
               styled(stdout, stats.checks_failed > 0 ? Style::kBad : Style::kGood, checks),
               stats.soundness_bits);
  }
}

std::string hex(const model::Digest& digest) {
  std::string out;
  for (const std::byte b : digest) out += fmt::format("{:02x}", static_cast<unsigned>(b));
  return out;
}

}  // namespace slalom::cli
