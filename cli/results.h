// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "cli/modes.h"
#include "cli/scores.h"
#include "cli/session.h"

// How results are printed: the JSON object of `run` (docs/cli.md) and the summary for people.

namespace slalom::cli {

// image_json describes one image: its input's name, its outputs (a list of {name, shape, scale,
// zero_point, codes}; null if nothing was released, with `error`), and the best classes.
nlohmann::json image_json(const model::Plan& plan, const std::string& input, const Answer& answer,
                          std::span<const Ranked> float_top, Scoring scoring, std::size_t k);

// run_json is the whole object, from the image objects.
nlohmann::json run_json(Session& session, const ModeOptions& mode, const std::string& plan_file,
                        nlohmann::json images, const runtime::Stats& stats, double pads_s);

// checks_json, timing_json and memory_json are its parts of these names.
nlohmann::json memory_json(const host::MemoryUse& use);
nlohmann::json checks_json(const runtime::Stats& stats);
nlohmann::json timing_json(const runtime::Stats& stats, double pads_s);

// print_json writes to stdout, one line, closed by a newline.
void print_json(const nlohmann::json& object);

// print_summary writes two lines to stdout: rate and checks.
void print_summary(const ModeOptions& mode, const runtime::Stats& stats, double pads_s);

// images_per_s while the network ran; 0 if nothing ran.
double images_per_s(const runtime::Stats& stats);
// amortised_images_per_s counts the time that pads took beforehand as well.
double amortised_images_per_s(const runtime::Stats& stats, double pads_s);

// hex of a digest.
std::string hex(const model::Digest& digest);

}  // namespace slalom::cli
