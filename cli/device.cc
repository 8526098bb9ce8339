// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "cli/command.h"
#include "cli/failure.h"
#include "untrusted/host/device_worker.h"

namespace slalom::cli {
namespace {

struct Options {
  std::string plan;
  std::string device = "cpu";
  std::string listen;
  std::size_t max_batch = 4;
  std::size_t threads = 0;
};

// The worker is a program of its own; this only becomes it.
int device(const Options& o) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string program = (self.parent_path() / "slalom-device").string();
  std::vector<std::string> words{program,  "--device",    o.device,
                                 "--plan", o.plan,        "--listen",
                                 o.listen, "--max-batch", fmt::format("{}", o.max_batch)};
  if (o.threads > 0) {
    words.emplace_back("--threads");
    words.push_back(fmt::format("{}", o.threads));
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  throw Stop(Errc::kUnavailable, fmt::format("{} does not start ({}); build everything with make",
                                             program, std::generic_category().message(errno)));
}

}  // namespace

Action define_device(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("model", o->plan, "Plan file")->type_name("MODEL")->required();
  app.add_option("--listen", o->listen, "Unix socket to make and listen on")
      ->type_name("PATH")
      ->required();
  app.add_option("--device", o->device, "What computes: cpu, or cuda:N (NVIDIA GPU N)")
      ->type_name("WHAT")
      ->check(CLI::Validator(
          [](std::string& value) {
            return value.starts_with("unix:") || !host::is_device(value) ? "write cpu or cuda:N"
                                                                         : std::string();
          },
          ""))
      ->capture_default_str();
  app.add_option("--max-batch", o->max_batch, "The largest micro-batch that it serves")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--threads", o->threads, "Threads (0: all)")
      ->type_name("N")
      ->capture_default_str();
  app.footer(
      "Runs a device worker by hand. It computes linear layers and is never trusted.\n\n"
      "Example:\n"
      "  slalom device net.slalom --listen /tmp/worker.sock &\n"
      "  slalom run net.slalom --input cat.jpg --device unix:/tmp/worker.sock");
  return [o] { return device(*o); };
}

}  // namespace slalom::cli
