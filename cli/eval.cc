// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/failure.h"
#include "cli/float_network.h"
#include "cli/inputs.h"
#include "cli/labels.h"
#include "cli/modes.h"
#include "cli/results.h"
#include "cli/scores.h"
#include "cli/session.h"
#include "cli/terminal.h"

namespace slalom::cli {
namespace {

struct Options {
  std::string plan;
  std::vector<std::string> data;
  std::string labels;
  std::string float_network;
  bool json = false;
  ModeOptions mode;
};

// Accuracy counts right answers among the best one and the best five.
struct Accuracy {
  std::uint64_t images = 0;
  std::uint64_t top1 = 0;
  std::uint64_t top5 = 0;

  void count(std::span<const double> values, const Accepted& accepted) {
    if (accepted.empty()) return;
    const auto best = top(values, 5);
    const auto right = [&](const Ranked& r) {
      return std::find(accepted.begin(), accepted.end(), r.index) != accepted.end();
    };
    ++images;
    top1 += right(best.front()) ? 1 : 0;
    top5 += std::any_of(best.begin(), best.end(), right) ? 1 : 0;
  }
  [[nodiscard]] double share(std::uint64_t n) const {
    return images == 0 ? 0 : static_cast<double>(n) / static_cast<double>(images);
  }
  [[nodiscard]] nlohmann::json json() const {
    return {{"images", images}, {"top1", share(top1)}, {"top5", share(top5)}};
  }
  [[nodiscard]] std::vector<std::string> row(const std::string& name) const {
    const auto cell = [&](std::uint64_t n) { return fmt::format("{:.2f}%", 100 * share(n)); };
    return {name, cell(top1), cell(top5), human_count(images)};
  }
};

// A folder with the four files of the MNIST family stands for its test images and their labels.
void expand_mnist(Options& o) {
  namespace fs = std::filesystem;
  if (o.data.size() != 1) return;
  for (const char* ending : {"", ".gz"}) {
    const fs::path images = fs::path(o.data[0]) / (std::string("t10k-images-idx3-ubyte") + ending);
    const fs::path labels = fs::path(o.data[0]) / (std::string("t10k-labels-idx1-ubyte") + ending);
    if (!fs::exists(images) || !fs::exists(labels)) continue;
    o.data = {images.string()};
    if (o.labels.empty()) o.labels = labels.string();
    return;
  }
}

int eval(Options& o) {
  const model::Plan plan = unwrap(host::read_plan(o.plan));
  if (!is_classifier(plan)) {
    throw Stop(Errc::kInvalidArgument,
               fmt::format("{} does not end in one score a class; use slalom run", o.plan));
  }
  expand_mnist(o);
  if (o.labels.empty()) throw Stop(Errc::kInvalidArgument, "name the labels with --labels FILE");
  const InputSet images(plan, o.data);
  const std::size_t classes = plan.tensors[plan.outputs[0].tensor].shape.c;
  const std::vector<Accepted> labels = read_labels(o.labels, images, classes);
  const auto float_network =
      o.float_network.empty() ? nullptr : std::make_unique<FloatNetwork>(o.float_network, plan);
  Session session(o.plan, o.mode);
  const double pads_s = session.make_pads(images.count());

  Accuracy integer;
  Accuracy real;
  Tally tally;
  host::Done done;
  {
    Progress progress("Evaluating", images.count());
    done = session.run(images, [&](std::uint64_t image, const Answer& answer) {
      tally.count(answer);
      if (!answer.error) {
        integer.count(scores(plan, Scoring::kRaw, answer.outputs[0]), labels[image]);
        if (float_network)
          real.count(float_network->scores(images.get(image), Scoring::kRaw), labels[image]);
      }
      progress.add();
    });
  }
  const runtime::Stats stats = unwrap(session.engine().stats());
  if (o.json) {
    nlohmann::json out = run_json(session, o.mode, o.plan, nlohmann::json::array(), stats, pads_s);
    for (const char* key : {"inputs", "outputs", "errors"}) out.erase(key);
    out["accuracy"] = integer.json();
    if (float_network) out["float_accuracy"] = real.json();
    print_json(out);
  } else {
    Table table({"network", "top-1", "top-5", "images"});
    const bool real_numbers = o.mode.precision == Precision::kFp32;
    table.add(integer.row((real_numbers ? "" : "integer, ") + mode_text(o.mode)));
    if (float_network) table.add(real.row("float"));
    fmt::print("{}", table.text(stdout));
    print_summary(o.mode, stats, pads_s);
  }
  finish(tally, done);
  return 0;
}

}  // namespace

Action define_eval(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->plan, "Plan file")->type_name("MODEL")->required();
  app.add_option("--data", o->data,
                 "Folder of pictures, IDX or array files, or a folder with the MNIST family's four "
                 "files")
      ->type_name("DIR")
      ->required();
  app.add_option("--labels", o->labels,
                 "Right classes: lines 'NAME CLASS...', one index a line, IDX, or .npy")
      ->type_name("FILE");
  app.add_option("--float", o->float_network, "Also evaluate this float network")
      ->type_name("FILE.onnx");
  app.add_flag("--json", o->json, "Print one JSON object instead of text");
  add_mode_options(app, o->mode);
  app.footer(
      "Examples:\n"
      "  slalom eval net.slalom --data val/ --labels val.txt\n"
      "  slalom eval vgg.slalom --data /usr/share/datasets/fashion-mnist --privacy pads");
  return [o] { return eval(*o); };
}

}  // namespace slalom::cli
