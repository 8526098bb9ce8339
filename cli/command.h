// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace slalom::cli {

// Action does the work of a subcommand after its options were read and returns the exit status. It
// ends early by throwing Stop.
using Action = std::function<int()>;

// Command is one subcommand: a name, one line for the list, and a function that adds its options
// and its examples to the parser. Its file is <name>.cc; the table of all is in main.cc.
struct Command {
  const char* name;
  const char* summary;
  Action (*define)(CLI::App& app);
};

Action define_convert(CLI::App& app);
Action define_model(CLI::App& app);
Action define_run(CLI::App& app);
Action define_eval(CLI::App& app);
Action define_plan(CLI::App& app);
Action define_pads(CLI::App& app);
Action define_bench(CLI::App& app);
Action define_device(CLI::App& app);
Action define_doctor(CLI::App& app);

}  // namespace slalom::cli
