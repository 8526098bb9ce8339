// SPDX-License-Identifier: Apache-2.0
// slalom: the command line. Exit status: 0 done, 1 usage, 2 bad input, 3 integrity rejected,
// 4 unavailable, 5 internal.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "cli/command.h"
#include "cli/failure.h"
#include "cli/help.h"
#include "cli/suggest.h"
#include "cli/terminal.h"

namespace slalom::cli {
namespace {

constexpr std::array kCommands{
    Command{"convert", "Quantise an ONNX network, prove its bounds, write a plan", define_convert},
    Command{"model", "Write a plan of a well-known architecture, synthetic weights", define_model},
    Command{"run", "Run a plan on pictures or arrays, in any mode", define_run},
    Command{"eval", "Top-1 and top-5 accuracy over labelled pictures", define_eval},
    Command{"plan", "Show which layers run where, and why", define_plan},
    Command{"pads", "Add one-time pads to a running slalom", define_pads},
    Command{"bench", "Measure modes side by side, or the kernels", define_bench},
    Command{"device", "Run a device worker by hand", define_device},
    Command{"doctor", "Say what this machine has and what will be used", define_doctor},
};

constexpr const char* kExamples =
    "Examples:\n"
    "  slalom doctor                                              what this machine can do\n"
    "  slalom convert net.onnx -o net.slalom --calibrate photos/  quantise a network\n"
    "  slalom run net.slalom --input cat.jpg                      every result checked\n"
    "  slalom run net.slalom --input cat.jpg --privacy pads       ... and the input hidden\n"
    "  slalom model vgg16 -o vgg16.slalom\n"
    "  slalom bench vgg16.slalom                                  all modes, one table\n"
    "`slalom COMMAND --help` says more.\n\n"
    "Exit status: 0 done, 1 usage, 2 bad input, 3 a device answered wrongly (nothing was\n"
    "released), 4 unavailable, 5 internal.";

int complain(Errc code, const std::string& message) {
  fmt::print(stderr, "{} {}\n", styled(stderr, Style::kBad, "slalom:"), message);
  return host::exit_code(code);
}

int usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  const std::string command = chosen.empty() ? std::string() : " " + chosen.front()->get_name();
  // CLI11 misses what is required before it looks at what it did not understand, which is often the
  // same thing misspelled.
  const std::vector<std::string> unknown = app.remaining(true);
  const auto option = std::find_if(unknown.begin(), unknown.end(),
                                   [](const std::string& word) { return word.starts_with("-"); });
  std::string what = error.what();
  if (option != unknown.end()) {
    std::vector<std::string> known;
    for (const CLI::Option* o : (chosen.empty() ? &app : chosen.front())->get_options()) {
      for (const std::string& name : o->get_lnames()) known.push_back("--" + name);
    }
    const std::string word = option->substr(0, option->find('='));
    what = "there is no option " + word + suggestion(word, known);
  }
  while (!what.empty() && (what.back() == '\n' || what.back() == '.')) what.pop_back();
  return complain(Errc::kInvalidArgument, fmt::format("{}; see slalom{} --help", what, command));
}

// Output that did not reach its file is a failure too: a full disk behind a redirection.
int flushed(int status) {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return complain(Errc::kUnavailable, "the output cannot be written; is the disk full?");
  }
  return status;
}

int run_command(int argc, char** argv) {
  CLI::App app("Neural networks on accelerators that nobody has to trust.", "slalom");
  app.footer(kExamples);
  app.require_subcommand(1);
  app.set_help_flag("-h,--help", "Show this help");
  app.set_version_flag("--version", std::string("slalom ") + SLALOM_VERSION, "Show the version");
  const auto help = std::make_shared<Help>();
  help->label("Subcommands", "Commands");
  app.formatter(help);
  Action action;
  std::array<Action, kCommands.size()> actions;
  for (std::size_t i = 0; i < kCommands.size(); ++i) {
    CLI::App* sub = app.add_subcommand(kCommands[i].name, kCommands[i].summary);
    actions[i] = kCommands[i].define(*sub);
    sub->callback([&action, &actions, i] { action = actions[i]; });
  }
  // CLI11 would only say that a subcommand is missing.
  const std::string first = argc > 1 ? argv[1] : "";
  if (!first.starts_with("-") && std::none_of(kCommands.begin(), kCommands.end(),
                                              [&](const Command& c) { return c.name == first; })) {
    std::vector<std::string> known;
    known.reserve(kCommands.size());
    for (const Command& c : kCommands) known.emplace_back(c.name);
    return complain(Errc::kInvalidArgument,
                    first.empty() ? "name a command, for example slalom doctor; see slalom --help"
                                  : fmt::format("there is no command {}{}; see slalom --help",
                                                first, suggestion(first, known)));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return flushed(app.exit(success));
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error);
  }
  return flushed(action());
}

}  // namespace
}  // namespace slalom::cli

int main(int argc, char** argv) {
  using slalom::Errc;
  using slalom::cli::complain;
  // A file-size limit then shows as a failed write, like a full disk.
  std::signal(SIGXFSZ, SIG_IGN);  // NOLINT(cert-err33-c): cannot fail for this signal
  try {
    return slalom::cli::run_command(argc, argv);
  } catch (const slalom::cli::Stop& stop) {
    std::fflush(stdout);  // NOLINT(cert-err33-c): the failure at hand is the one to report
    return complain(stop.code(), stop.what());
  } catch (const std::bad_alloc&) {
    return complain(Errc::kUnavailable,
                    "there is not enough memory; try fewer threads, or a smaller --micro-batch");
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::resource_unavailable_try_again) {
      return complain(Errc::kUnavailable,
                      "no more threads can be had; try fewer, with --threads 1");
    }
    return complain(Errc::kUnavailable,
                    std::string("the output cannot be written: ") + error.what());
  } catch (const std::exception& error) {
    return complain(Errc::kInternal,
                    std::string("internal error, please report it: ") + error.what());
  }
}
