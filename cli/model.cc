// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "cli/choice.h"
#include "cli/command.h"
#include "cli/conversion.h"
#include "cli/failure.h"
#include "cli/files.h"

namespace slalom::cli {
namespace {

struct Options {
  std::string name;
  std::string output;
  std::string report;
  importer::ZooOptions zoo;
  unsigned threads = 0;
};

int model(const Options& o) {
  check_output(o.output, {});
  if (!o.report.empty()) check_output(o.report, std::span(&o.output, 1));
  StageProgress progress;
  importer::QuantiseOptions quantise = importer::zoo_quantise_options();
  quantise.threads = o.threads;
  quantise.progress = progress.callback();
  auto made = importer::make_model(o.name, o.zoo, quantise);
  // The name was checked, so what is left is a size that the architecture cannot have.
  if (!made.ok()) {
    throw Stop(made.error().no_memory ? Errc::kUnavailable : Errc::kInvalidArgument,
               o.name + ": " + made.error().message());
  }
  progress.end();
  save_plan(made.value(), o.output, o.report);
  return 0;
}

}  // namespace

Action define_model(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  std::vector<std::string> names;
  for (const std::string_view name : importer::zoo_names()) names.emplace_back(name);
  app.add_option("NAME", o->name, fmt::format("One of: {}", fmt::join(names, ", ")))
      ->type_name("NAME")
      ->required()
      ->check(one_of(names));
  app.add_option("-o,--output", o->output, "The plan file to write")
      ->type_name("OUT.slalom")
      ->required();
  app.add_option("--seed", o->zoo.seed, "Seed of the weights")
      ->type_name("N")
      ->check(CLI::Validator(
          [](std::string& word) {
            // CLI11 takes -1 for the largest number.
            std::uint64_t seed = 0;
            const char* const end = word.data() + word.size();
            const auto [at, error] = std::from_chars(word.data(), end, seed);
            return error == std::errc() && at == end ? std::string()
                                                     : word + " is no number from 0 to 2^64 - 1";
          },
          ""))
      ->capture_default_str();
  app.add_flag("!--no-top", o->zoo.top, "Leave out the classifier");
  app.add_option("--input-size", o->zoo.input_size, "Height and width of the input")
      ->type_name("S")
      ->check(CLI::Range(1, 4096))
      ->default_str("the architecture's own");
  app.add_option("--classes", o->zoo.classes, "Number of classes")
      ->type_name("C")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--report", o->report, "Also write bounds and fields per layer as JSON")
      ->type_name("FILE.json");
  app.add_option("--threads", o->threads, "Threads (0: all)")
      ->type_name("N")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.footer(
      "Builds a well-known architecture with synthetic weights: its speed is real, its answers "
      "mean\nnothing. The same name and seed give the same file.\n\n"
      "Examples:\n"
      "  slalom model resnet50 -o resnet50.slalom\n"
      "  slalom model vgg16 --no-top --input-size 64 -o small.slalom");
  return [o] { return model(*o); };
}

}  // namespace slalom::cli
