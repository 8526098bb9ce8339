// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "cli/command.h"
#include "cli/results.h"
#include "cli/terminal.h"

namespace slalom::cli {
namespace {

namespace fs = std::filesystem;

// What the check vectors of a large network (VGG16: 73 MB) and all keys need to be locked.
constexpr std::uint64_t kWantedLock = 128U << 20U;

bool exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// value_of finds "key: value" or "key value" at the start of a line of a /proc file.
std::string value_of(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t from = line.find_first_not_of(" \t:", key.size());
    return from == std::string::npos ? std::string() : line.substr(from);
  }
  return {};
}

std::string first_line(const char* file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

std::uint64_t kib_of(const char* key) {
  return std::strtoull(value_of("/proc/meminfo", key).c_str(), nullptr, 10) * 1024;
}

unsigned usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) return static_cast<unsigned>(CPU_COUNT(&set));
  return std::thread::hardware_concurrency();
}

std::vector<std::string> features(const base::CpuFeatures& cpu) {
  const std::array<std::pair<bool, const char*>, 10> all{{{cpu.sse41, "SSE4.1"},
                                                          {cpu.avx2, "AVX2"},
                                                          {cpu.avx512, "AVX-512"},
                                                          {cpu.avx512_ifma, "IFMA"},
                                                          {cpu.avx512_vbmi, "VBMI"},
                                                          {cpu.avx512_vnni, "AVX-512 VNNI"},
                                                          {cpu.amx_int8, "AMX int8"},
                                                          {cpu.aes, "AES"},
                                                          {cpu.vaes, "VAES"},
                                                          {cpu.rdseed, "RDSEED"}}};
  std::vector<std::string> out;
  for (const auto& [there, name] : all) {
    if (there) out.emplace_back(name);
  }
  return out;
}

struct Tee {
  const char* name;
  const char* device;
};
constexpr std::array kTees{Tee{"Intel TDX guest", "/dev/tdx_guest"},
                           Tee{"AMD SEV-SNP guest", "/dev/sev-guest"},
                           Tee{"Intel SGX enclaves", "/dev/sgx_enclave"}};

std::vector<std::string> tees() {
  std::vector<std::string> out;
  for (const Tee& tee : kTees) {
    if (exists(tee.device)) out.push_back(fmt::format("{} ({})", tee.name, tee.device));
  }
  if (exists("/dev/attestation")) out.emplace_back("Gramine enclave (/dev/attestation)");
  return out;
}

std::vector<std::string> gpus() {
  std::vector<std::string> out;
  std::error_code error;
  for (fs::directory_iterator it("/dev", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.size() > 6 && name.starts_with("nvidia") &&
        name.find_first_not_of("0123456789", 6) == std::string::npos) {
      out.push_back(it->path().string());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

struct Finding {
  std::string topic;
  std::string text;
  Style style = Style::kPlain;
  std::string advice;  // what to do, if anything
};

Finding lock_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  Finding out{"locked memory", {}, Style::kGood, {}};
  if (limit.rlim_cur == RLIM_INFINITY) {
    out.text = "no limit";
  } else {
    out.text = "at most " + human_bytes(limit.rlim_cur);
    if (limit.rlim_cur < kWantedLock) {
      out.style = Style::kWarn;
      out.advice = fmt::format(
          "keys fit, the check vectors of large networks do not and could reach a swap device: "
          "ulimit -l {}, or '* hard memlock {}' in /etc/security/limits.conf",
          kWantedLock / 1024, kWantedLock / 1024);
    }
  }
  return out;
}

Finding swap_space() {
  const std::uint64_t swap = kib_of("SwapTotal");
  if (swap == 0) return {"swap", "none", Style::kGood, {}};
  return {"swap", human_bytes(swap), Style::kPlain, "secrets that are not locked can reach it"};
}

Finding program(const char* name) {
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error).parent_path() / name;
  if (!error && ::access(path.c_str(), X_OK) == 0) return {name, path.string(), Style::kGood, {}};
  return {name, "not beside this program", Style::kBad, "build everything: make"};
}

std::vector<Finding> examine(const base::CpuFeatures& cpu) {
  std::vector<Finding> out;
  const auto found = features(cpu);
  out.push_back({"processor", value_of("/proc/cpuinfo", "model name"), Style::kPlain, {}});
  out.push_back({"usable cores", fmt::format("{}", usable_processors()), Style::kPlain, {}});
  out.push_back({"instructions", fmt::format("{}", fmt::join(found, ", ")), Style::kPlain, {}});
  if (!cpu.aes || !cpu.rdseed) {
    out.back().advice = "without AES and RDSEED instructions pads and challenges are slow to make";
  }
  const auto trusted = tees();
  if (trusted.empty()) {
    out.push_back({"trusted hardware", "none", Style::kWarn,
                   "all modes work, but who owns this machine can read the trusted process: it "
                   "protects against the device only"});
  } else {
    out.push_back(
        {"trusted hardware", fmt::format("{}", fmt::join(trusted, ", ")), Style::kGood, {}});
  }
  const auto accelerators = gpus();
  out.push_back({"NVIDIA GPUs",
                 accelerators.empty() ? "none" : fmt::format("{}", fmt::join(accelerators, ", ")),
                 Style::kPlain,
                 {}});
  out.push_back({"memory",
                 fmt::format("{}, {} free", human_bytes(kib_of("MemTotal")),
                             human_bytes(kib_of("MemAvailable"))),
                 Style::kPlain,
                 {}});
  out.push_back(lock_limit());
  out.push_back(swap_space());
  out.push_back({"huge pages",
                 fmt::format("transparent: {}; reserved: {}",
                             first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
                             value_of("/proc/meminfo", "HugePages_Total")),
                 Style::kPlain,
                 {}});
  out.push_back(program("slalom-trusted"));
  out.push_back(program("slalom-device"));
  return out;
}

// What will be used, by the rules of src/trusted/linear and src/trusted/field.
std::vector<Finding> choices(const base::CpuFeatures& cpu) {
  std::vector<Finding> out;
  out.push_back(
      {"linear layers",
       fmt::format("{}, each layer proven exact at start", cpu.amx_int8      ? "AMX"
                                                           : cpu.avx512_vnni ? "AVX-512 with VNNI"
                                                           : cpu.avx512      ? "AVX-512"
                                                           : cpu.avx2        ? "AVX2"
                                                                             : "SSE2"),
       Style::kPlain,
       {}});
  out.push_back({"checks and pads",
                 cpu.avx512_ifma ? "AVX-512 with IFMA"
                 : cpu.avx512    ? "AVX-512"
                 : cpu.avx2      ? "AVX2"
                                 : "portable",
                 Style::kPlain,
                 {}});
  out.push_back({"device", "cpu: a worker process on this machine", Style::kPlain, {}});
  return out;
}

void print(const char* title, const std::vector<Finding>& findings) {
  fmt::print("{}\n", styled(stdout, Style::kTitle, title));
  for (const Finding& f : findings) {
    fmt::print("  {:<17} {}\n", f.topic, styled(stdout, f.style, f.text));
    if (!f.advice.empty()) fmt::print("  {:<17} {}\n", "", styled(stdout, Style::kDim, f.advice));
  }
}

nlohmann::json to_json(const std::vector<Finding>& findings) {
  nlohmann::json out = nlohmann::json::object();
  for (const Finding& f : findings) {
    out[f.topic] = {{"found", f.text}};
    if (!f.advice.empty()) out[f.topic]["advice"] = f.advice;
  }
  return out;
}

int doctor(bool json) {
  const base::CpuFeatures cpu = base::detect_cpu();
  const auto machine = examine(cpu);
  const auto used = choices(cpu);
  if (json) {
    print_json({{"machine", to_json(machine)}, {"used", to_json(used)}});
  } else {
    print("This machine", machine);
    print("What will be used", used);
  }
  return 0;
}

}  // namespace

Action define_doctor(CLI::App& app) {
  const auto json = std::make_shared<bool>(false);
  app.add_flag("--json", *json, "Print one JSON object instead of text");
  app.footer("Example:\n  slalom doctor");
  return [json] { return doctor(*json); };
}

}  // namespace slalom::cli
