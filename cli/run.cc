// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/float_network.h"
#include "cli/inputs.h"
#include "cli/modes.h"
#include "cli/results.h"
#include "cli/scores.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "cli/trace.h"

namespace slalom::cli {
namespace {

struct Options {
  std::string plan;
  std::vector<std::string> inputs;
  std::string float_network;
  std::size_t top = 5;
  bool softmax = false;
  bool json = false;
  std::string trace;
  ModeOptions mode;
};

std::string score_text(Scoring scoring, double score) {
  return scoring == Scoring::kRaw ? fmt::format("{:.3f}", score)
                                  : fmt::format("{:.1f}%", 100 * score);
}

// What a person sees of one image: the best classes, beside those of the float network if there is
// one; or, for other networks, what the outputs are.
void print_image(const model::Plan& plan, const std::string& name, const Answer& answer,
                 const std::vector<Ranked>& float_top, Scoring scoring, std::size_t k) {
  fmt::print("{}\n", styled(stdout, Style::kTitle, name));
  if (answer.error) {
    fmt::print("  {}\n", styled(stdout, Style::kBad, answer.error->message));
    return;
  }
  if (!is_classifier(plan)) {
    for (std::size_t o = 0; o < plan.outputs.size(); ++o) {
      const model::TensorInfo& tensor = plan.tensors[plan.outputs[o].tensor];
      fmt::print("  output {}: {} x {} x {} integers (--json prints them)\n", tensor.name,
                 tensor.shape.h, tensor.shape.w, tensor.shape.c);
    }
    return;
  }
  const auto best = top(scores(plan, scoring, answer.outputs[0]), k);
  Table table(float_top.empty() ? std::vector<std::string>{"", "score", "class"}
                                : std::vector<std::string>{"", "score", "class", "float",
                                                           "class of the float network"});
  for (std::size_t i = 0; i < best.size(); ++i) {
    std::vector<std::string> row{fmt::format("{}", i + 1), score_text(scoring, best[i].score),
                                 label_of(plan, best[i].index)};
    if (i < float_top.size()) {
      row.push_back(score_text(scoring, float_top[i].score));
      row.push_back(label_of(plan, float_top[i].index));
    }
    table.add(std::move(row));
  }
  fmt::print("{}", table.text(stdout));
  (void)std::fflush(stdout);  // what fails here fails at the end again
}

int run(Options o) {
  if (!o.trace.empty()) check_output(o.trace, std::span(&o.plan, 1));
  std::optional<Timeline> timeline;
  if (!o.trace.empty()) o.mode.trace = timeline.emplace(o.trace, o.mode).folder();
  const model::Plan plan = unwrap(host::read_plan(o.plan));
  const InputSet inputs(plan, o.inputs);
  const std::unique_ptr<FloatNetwork> float_network =
      o.float_network.empty() ? nullptr : std::make_unique<FloatNetwork>(o.float_network, plan);
  const Scoring scoring = scoring_of(plan, o.softmax);
  auto session = std::make_unique<Session>(o.plan, o.mode);
  const double pads_s = session->make_pads(inputs.count());

  nlohmann::json results = nlohmann::json::array();
  Tally tally;
  // Text appears image by image; a bar would only get between.
  const bool text_on_terminal = !o.json && is_terminal(stdout);
  const auto progress =
      text_on_terminal ? nullptr : std::make_unique<Progress>("Running", inputs.count());
  const auto take = [&](std::uint64_t image, const Answer& answer) {
    if (timeline) timeline->answered(image);
    std::vector<Ranked> float_top;
    if (float_network) float_top = top(float_network->scores(inputs.get(image), scoring), o.top);
    if (o.json) {
      results.push_back(image_json(plan, inputs.name(image), answer, float_top, scoring, o.top));
    } else {
      print_image(plan, inputs.name(image), answer, float_top, scoring, o.top);
    }
    tally.count(answer);
    if (progress) progress->add();
  };
  const host::Done done = session->run(inputs, take);
  const runtime::Stats stats = unwrap(session->engine().stats());
  if (o.json) {
    print_json(run_json(*session, o.mode, o.plan, std::move(results), stats, pads_s));
  } else {
    print_summary(o.mode, stats, pads_s);
  }
  session.reset();  // the workers leave their timelines
  if (timeline) timeline->write();
  finish(tally, done);
  return 0;
}

}  // namespace

Action define_run(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->plan, "Plan file, made by slalom convert or slalom model")
      ->type_name("MODEL")
      ->required();
  app.add_option("--input", o->inputs,
                 "Pictures (JPEG, PNG), folders of them, arrays (.npy, .npz), or random:N")
      ->type_name("FILE")
      ->required();
  app.add_option("--top", o->top, "How many classes to show")
      ->type_name("K")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--float", o->float_network,
                 "Also run this float network and show its answers beside")
      ->type_name("FILE.onnx");
  app.add_flag("--softmax", o->softmax,
               "Show probabilities: the softmax of the scores (as is done for networks that ended "
               "in one)");
  app.add_flag("--json", o->json, "Print one JSON object instead of text");
  app.add_option("--trace", o->trace,
                 "Write a timeline of the devices' jobs, for ui.perfetto.dev or chrome://tracing")
      ->type_name("FILE");
  app.add_option("--listen", o->mode.listen,
                 "Let slalom pads --attach PATH add pads while this runs")
      ->type_name("PATH");
  add_mode_options(app, o->mode);
  app.footer(
      "Arrays: float elements are real values of the network's input, uint8 elements are codes;\n"
      "shapes (N,C,H,W), (N,H,W,C) or without N.\n\n"
      "Examples:\n"
      "  slalom run net.slalom --input cat.jpg\n"
      "  slalom run net.slalom --input photos/ --privacy pads\n"
      "  slalom run net.slalom --input random:64 --integrity off --device none\n"
      "  slalom run net.slalom --input batch.npy --json > answers.json\n"
      "  slalom run net.slalom --input random:64 --trace trace.json");
  return [o] { return run(*o); };
}

}  // namespace slalom::cli
