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
#include "untrusted/device/remote/address.h"
#include "untrusted/host/device_worker.h"

namespace slalom::cli {
namespace {

struct Options {
  std::string plan;
  std::string device = "cpu";
  std::string listen;
  std::size_t max_batch = 4;
  std::size_t threads = 0;
  std::string trace;
};

// looks_like_a_port: HOST:DIGITS that is no address, as of a port that does not exist.
bool looks_like_a_port(const std::string& where) {
  const std::size_t colon = where.rfind(':');
  return colon != std::string::npos && where.find('/') == std::string::npos &&
         colon + 1 < where.size() &&
         where.find_first_not_of("0123456789", colon + 1) == std::string::npos;
}

// The worker is a program of its own; this only becomes it.
int device(const Options& o) {
  if (!device::remote::parse_address(o.listen) && looks_like_a_port(o.listen)) {
    throw Stop(Errc::kInvalidArgument,
               fmt::format("--listen {} is no address; write HOST:PORT with a port up to 65535, an "
                           "IPv6 address in brackets, or ./{} for a Unix socket",
                           o.listen, o.listen));
  }
  if (o.plan.empty() && !device::remote::parse_address(o.listen)) {
    throw Stop(
        Errc::kInvalidArgument,
        fmt::format("a worker at the Unix socket '{}' needs a MODEL; only one that listens at "
                    "HOST:PORT gets it from the host",
                    o.listen));
  }
  if (!o.trace.empty() && device::remote::parse_address(o.listen)) {
    throw Stop(Errc::kInvalidArgument,
               "--trace is for a worker at a Unix socket; of one at HOST:PORT the host's own "
               "slalom run --trace shows the jobs");
  }
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string program = (self.parent_path() / "slalom-device").string();
  std::vector<std::string> words{program,
                                 "--device",
                                 o.device,
                                 "--listen",
                                 o.listen,
                                 "--max-batch",
                                 fmt::format("{}", o.max_batch)};
  const auto add = [&](const char* name, std::string value) {
    words.emplace_back(name);
    words.push_back(std::move(value));
  };
  if (!o.plan.empty()) add("--plan", o.plan);
  if (!o.trace.empty()) add("--trace", o.trace);
  if (o.threads > 0) add("--threads", fmt::format("{}", o.threads));
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  throw Stop(Errc::kUnavailable, fmt::format("{} does not start ({}); build everything with make",
                                             program, std::generic_category().message(errno)));
}

}  // namespace

Action define_device(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->plan,
                 "Plan file; with HOST:PORT it may be left out, and each host sends its own")
      ->type_name("MODEL");
  app.add_option(
         "--listen", o->listen,
         "Where to listen: the path of a Unix socket to make, or HOST:PORT for other machines "
         "([::1]:7000 with IPv6)")
      ->type_name("WHERE")
      ->required();
  app.add_option("--device", o->device, "What computes: cpu, or cuda:N (NVIDIA GPU N)")
      ->type_name("WHAT")
      ->check(CLI::Validator(
          [](std::string& value) {
            return host::computes_here(value) ? std::string() : "write cpu or cuda:N";
          },
          ""))
      ->capture_default_str();
  app.add_option("--max-batch", o->max_batch,
                 "The largest micro-batch that it serves (over TCP, whatever a host asks for)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--threads", o->threads, "Threads (0: all)")
      ->type_name("N")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--trace", o->trace,
                 "Write a timeline of a host's jobs when it goes (see slalom run --trace)")
      ->type_name("FILE");
  app.footer(
      "Runs a device worker by hand. It computes linear layers and is never trusted.\n\n"
      "Example, on one machine:\n"
      "  slalom device net.slalom --listen /tmp/worker.sock &\n"
      "  slalom run net.slalom --input cat.jpg --device unix:/tmp/worker.sock\n\n"
      "Example, over TCP:\n"
      "  gpu$ slalom device --listen 10.0.0.2:7000 --device cuda:0\n"
      "  tee$ slalom run net.slalom --input cat.jpg --device tcp:10.0.0.2:7000\n\n"
      "TCP is neither encrypted nor asks who connects. Wrong answers are caught whoever makes "
      "them, but\n"
      "inputs can be read on the way unless run has --privacy pads, and anybody who reaches the "
      "port\n"
      "can use the device: listen on a private network, or behind a tunnel.");
  return [o] { return device(*o); };
}

}  // namespace slalom::cli
