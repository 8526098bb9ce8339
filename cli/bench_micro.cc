// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_micro.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <system_error>
#include <vector>

#include "cli/failure.h"
#include "cli/results.h"
#include "cli/terminal.h"

namespace slalom::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kKernels = "bench_field";  // the passes over words, for each instruction set

std::vector<fs::path> programs() {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  std::vector<fs::path> out;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with("bench_") &&
        ::access(it->path().c_str(), X_OK) == 0) {
      out.push_back(it->path());
    }
  }
  std::sort(out.begin(), out.end());
  if (out.empty()) {
    throw Stop(Errc::kUnavailable,
               fmt::format("no benchmark programs stand in {}; build everything with make",
                           folder.string()));
  }
  return out;
}

// output_of runs a program and returns what it wrote to stdout.
std::string output_of(const fs::path& program, std::vector<std::string> words) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw Stop(Errc::kUnavailable, "no pipe can be made");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::string name = program.string();
  std::vector<char*> argv{name.data()};
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, name.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string out;
  std::array<char, 65536> buffer{};
  for (ssize_t n = 0; (n = ::read(ends[0], buffer.data(), buffer.size())) > 0 || errno == EINTR;) {
    if (n > 0) out.append(buffer.data(), static_cast<std::size_t>(n));
    errno = 0;
  }
  ::close(ends[0]);
  int status = 0;
  if (error != 0 || ::waitpid(child, &status, 0) != child || status != 0) {
    throw Stop(Errc::kInternal, fmt::format("{} failed; run it by itself to see why", name));
  }
  return out;
}

// Keys that every Google Benchmark run has; all others are the benchmark's own counters.
bool is_counter(const nlohmann::json& run, const std::string& key) {
  constexpr std::array<std::string_view, 8> kKnown{"family_index", "per_family_instance_index",
                                                   "repetitions",  "repetition_index",
                                                   "threads",      "iterations",
                                                   "real_time",    "cpu_time"};
  return run[key].is_number() && std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end();
}

std::string cell(const std::string& key, double value) {
  if (key == "bytes_per_second") return human_rate(value / 1e9);
  if (key == "items_per_second") return human_rate(1e9 / value);
  return human_rate(value);
}

std::string heading(const std::string& key) {
  if (key == "bytes_per_second") return "GB/s";
  if (key == "items_per_second") return "ns/word";
  return key;
}

void print_program(const std::string& name, const nlohmann::json& runs) {
  std::set<std::string> counters;
  for (const auto& run : runs) {
    for (const auto& [key, unused] : run.items()) {
      if (is_counter(run, key)) counters.insert(key);
    }
  }
  std::vector<std::string> head{name};
  for (const std::string& key : counters) head.push_back(heading(key));
  Table table(head);
  for (const auto& run : runs) {
    std::vector<std::string> row{run["name"].get<std::string>()};
    for (const std::string& key : counters) {
      row.push_back(run.contains(key) ? cell(key, run[key].get<double>()) : "-");
    }
    table.add(std::move(row));
  }
  fmt::print("{}\n", table.text(stdout));
}

}  // namespace

int bench_micro(const std::string& filter, bool json) {
  nlohmann::json all = nlohmann::json::object();
  bool any = false;
  for (const fs::path& program : programs()) {
    // The others take whole networks and many minutes: only by name.
    if (filter.empty() && program.filename() != kKernels) continue;
    std::vector<std::string> words{"--benchmark_format=json", "--benchmark_min_time=0.1"};
    if (!filter.empty()) words.push_back("--benchmark_filter=" + filter);
    if (::isatty(STDERR_FILENO) != 0) {
      fmt::print(stderr, "{}: measuring{}\n", program.filename().string(),
                 filter.empty() ? ", for about a minute" : "");
    }
    const nlohmann::json out = nlohmann::json::parse(output_of(program, words), nullptr, false);
    if (out.is_discarded() || !out.contains("benchmarks")) continue;  // nothing matched the filter
    const std::string name = program.filename().string();
    any = true;
    if (json) {
      all[name] = out["benchmarks"];
    } else {
      print_program(name, out["benchmarks"]);
    }
  }
  if (!any) {
    throw Stop(
        Errc::kInvalidArgument,
        fmt::format("no benchmark has '{}' in its name; slalom bench micro shows the kernels",
                    filter));
  }
  if (json) print_json(all);
  return 0;
}

}  // namespace slalom::cli
