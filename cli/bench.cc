// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <vector>

#include "cli/bench_measure.h"
#include "cli/bench_micro.h"
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/modes.h"

namespace slalom::cli {
namespace {

int bench(const BenchOptions& o) {
  if (o.what == "micro") return bench_micro(o.filter, o.json);
  const std::vector<BenchRow> rows = measure_modes(o);
  if (o.json) {
    print_bench_json(o, rows);
  } else {
    print_bench(o, rows);
  }
  return 0;
}

}  // namespace

Action define_bench(CLI::App& app) {
  const auto o = std::make_shared<BenchOptions>();
  app.add_option("MODEL", o->what, "A plan file, or micro for the kernels")
      ->type_name("MODEL|micro")
      ->required();
  app.add_option("--repeat", o->repeat,
                 "Rounds: every mode is measured once in each, and medians are shown")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--seconds", o->seconds, "Time for each mode in each round, after a warm-up")
      ->type_name("S")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str();
  app.add_option("--latency", o->latency_seconds,
                 "Time for one image at a time in each mode, at least 50 images if they take no "
                 "more than five times that; 0: do not measure it")
      ->type_name("S")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  app.add_option("--link", o->link_gbs,
                 "What the link to the device carries each way, to show how full it is")
      ->type_name("GB/s")
      ->check(CLI::Range(0.001, 1e6));
  app.add_option("--only", o->filter,
                 "Only modes (micro: kernels) with this in their name; several with | between")
      ->type_name("TEXT");
  app.add_flag("--json", o->json, "Print one JSON object instead of text");
  add_tuning_options(app, o->mode);
  app.footer(
      "Runs a network in every mode beside the two baselines that compute everything inside the\n"
      "trusted process, on random inputs. The answers are checked as always. Where placements are\n"
      "planned, one is made for the rates and one for one image at a time (--optimise latency).\n\n"
      "Examples:\n"
      "  slalom bench vgg16.slalom\n"
      "  slalom bench vgg16.slalom --only \"trusted|verified, pre\" --micro-batch 8\n"
      "  slalom bench vgg16.slalom --repeat 1 --latency 0\n"
      "  slalom bench micro                         passes over words: GB/s, ns and cycles a word\n"
      "  slalom bench micro --only \"vgg16/auto/requant/threads:1\"    linear layers inside");
  return [o] { return bench(*o); };
}

}  // namespace slalom::cli
