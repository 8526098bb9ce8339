// SPDX-License-Identifier: Apache-2.0
#include "cli/placement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <system_error>
#include <thread>
#include <variant>

#include "cli/choice.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/results.h"
#include "cli/session.h"
#include "cli/terminal.h"

namespace slalom::cli {
namespace {

namespace fs = std::filesystem;

fs::path cache_folder() {
  // NOLINTBEGIN(concurrency-mt-unsafe): nothing here changes the environment
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return fs::path(cache) / "slalom";
  }
  const char* home = std::getenv("HOME");
  // NOLINTEND(concurrency-mt-unsafe)
  return home == nullptr || *home == '\0' ? fs::path() : fs::path(home) / ".cache" / "slalom";
}

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("model name")) return line;
  }
  return "unknown";
}

// key_of is everything that a measured placement depends on.
std::string key_of(const model::Digest& digest, const ModeOptions& o) {
  return fmt::format("2|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}|{}", hex(digest),
                     integrity_name(o.integrity), privacy_name(o.privacy),
                     o.pad_store == kPadsInMemory, o.micro_batch_given, fmt::join(o.devices, ","),
                     o.trusted_threads, o.device_threads, o.micro_batch, o.in_flight, o.optimise,
                     fmt::join(o.keep_inside, ","), fmt::join(o.send_out, ","), o.soundness_bits,
                     o.unbound, processor(), std::thread::hardware_concurrency());
}

// FNV-1a names the file; the whole key is inside.
fs::path file_of(const std::string& key) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  const fs::path folder = cache_folder();
  return folder.empty() ? fs::path() : folder / fmt::format("placement-{:016x}.json", hash);
}

void remember(const std::string& key, const planner::Planned& planned) {
  const fs::path file = file_of(key);
  if (file.empty()) return;
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  const nlohmann::json known{
      {"key", key}, {"remote", planned.placement.remote}, {"micro_batch", planned.micro_batch}};
  const std::string text = known.dump();
  try {
    write_file(file.string(), std::as_bytes(std::span(text)));
  } catch (const Stop&) {
    return;  // where nothing can be kept, it is measured again
  }
}

// other_micro_batches are half as many images, and twice as many where what lies between the
// processes then stays small.
std::vector<std::size_t> other_micro_batches(const model::Plan& plan, const ModeOptions& o) {
  constexpr std::size_t kMostBytes = std::size_t{256} << 20;
  std::size_t words = 0;  // of an image's largest layer, in and out
  for (const model::Node& node : plan.nodes) {
    if (const auto* layer = std::get_if<model::Linear>(&node.op)) {
      words = std::max(words, layer->in().elements() + layer->out().elements());
    }
  }
  std::vector<std::size_t> out;
  if (o.micro_batch > 1) out.push_back(o.micro_batch / 2);
  const std::size_t twice = 2 * o.micro_batch;
  if (twice <= kMostMicroBatch && words * 4 * twice * o.in_flight <= kMostBytes) {
    out.push_back(twice);
  }
  return out;
}

}  // namespace

void add_placement_options(CLI::App& app, ModeOptions& o) {
  const std::string group = "Placement";
  app.add_option("--placement", o.placement,
                 "Which layers go out: planned (measured at first use), outside (all that can), "
                 "inside (none); auto is planned with GPUs and other machines, else outside")
      ->check(one_of({"auto", "planned", "outside", "inside"}))
      ->type_name("auto|planned|outside|inside")
      ->capture_default_str()
      ->group(group);
  app.add_option("--keep-inside", o.keep_inside, "A layer that stays inside, by name (slalom plan)")
      ->type_name("LAYER")
      ->allow_extra_args(false)
      ->group(group);
  app.add_option("--send-out", o.send_out, "A layer that goes out, by name")
      ->type_name("LAYER")
      ->allow_extra_args(false)
      ->group(group);
  app.add_option("--optimise", o.optimise, "What the planned placement is made for")
      ->check(one_of({"throughput", "latency"}))
      ->type_name("throughput|latency")
      ->capture_default_str()
      ->group(group);
}

bool wants_plan(const ModeOptions& o) {
  const auto far = [](const std::string& d) {
    return d.starts_with("cuda") || d.starts_with("tcp:");
  };
  const bool none = o.devices.size() == 1 && o.devices[0] == "none";
  if (o.placement == "planned") return !none;
  return o.placement == "auto" && std::any_of(o.devices.begin(), o.devices.end(), far);
}

const std::string& layer_name(const model::Plan& plan, std::uint32_t node) {
  const std::string& name = plan.nodes[node].name;
  return name.empty() ? plan.tensors[plan.nodes[node].output].name : name;
}

std::vector<planner::Override> overrides_of(const model::Plan& plan, const ModeOptions& o) {
  std::vector<planner::Override> out;
  const runtime::Placement leaves = runtime::default_placement(plan);
  const auto add = [&](const std::string& name, bool remote) {
    for (std::uint32_t n = 0; n < plan.nodes.size(); ++n) {
      if (layer_name(plan, n) != name) continue;
      if (!leaves.remote[n]) {
        throw Stop(
            Errc::kInvalidArgument,
            fmt::format("'{}' always stays inside: it is no linear layer with a field", name));
      }
      out.push_back({n, remote});
      return;
    }
    std::vector<std::string> names;
    for (std::uint32_t n = 0; n < plan.nodes.size(); ++n) {
      if (leaves.remote[n]) names.push_back(layer_name(plan, n));
    }
    throw Stop(Errc::kInvalidArgument,
               fmt::format("the network has no layer '{}'{}; slalom plan lists them", name,
                           suggestion(name, names)));
  };
  for (const std::string& name : o.keep_inside) add(name, false);
  for (const std::string& name : o.send_out) add(name, true);
  return out;
}

std::optional<runtime::Placement> simple_placement(const model::Plan& plan, const ModeOptions& o) {
  if (o.placement != "inside" && o.keep_inside.empty() && o.send_out.empty()) return std::nullopt;
  runtime::Placement out = runtime::default_placement(plan);
  if (o.placement == "inside") out.remote.assign(plan.nodes.size(), false);
  for (const planner::Override& layer : overrides_of(plan, o))
    out.remote[layer.node] = layer.remote;
  return out;
}

planner::Planned plan_placement(host::Engine& engine, const host::Modes& modes,
                                const ModeOptions& o) {
  const model::Plan& plan = *engine.plan();
  planner::Wanted wanted{.objective = o.optimise == "latency" ? planner::Objective::kLatency
                                                              : planner::Objective::kThroughput,
                         .overrides = overrides_of(plan, o),
                         .devices = std::max<std::size_t>(1, o.devices.size())};
  if (!o.micro_batch_given) wanted.micro_batches = other_micro_batches(plan, o);
  auto planned = unwrap(planner::make_plan(
      engine, modes, wanted, random_images(plan),
      [](const std::string& what) { fmt::print(stderr, "Placement: {} ...\n", what); }));
  remember(key_of(engine.digest(), o), planned);
  return planned;
}

std::optional<Remembered> remembered_placement(const model::Plan& plan, const model::Digest& digest,
                                               const ModeOptions& o) {
  const std::string key = key_of(digest, o);
  std::ifstream in(file_of(key));
  const nlohmann::json found = nlohmann::json::parse(in, nullptr, false);
  // Whatever else lies there is as good as nothing: it is measured again and written over.
  if (!found.is_object() || !found.contains("key") || found["key"] != key) return {};
  if (!found.contains("remote") || !found["remote"].is_array()) return {};
  const nlohmann::json micro_batch = found.value("micro_batch", nlohmann::json());
  if (!micro_batch.is_number_unsigned() || micro_batch == 0 || micro_batch > kMostMicroBatch) {
    return {};
  }
  Remembered out{.micro_batch = micro_batch.get<std::size_t>()};
  for (const nlohmann::json& remote : found["remote"]) {
    if (!remote.is_boolean()) return {};
    out.placement.remote.push_back(remote.get<bool>());
  }
  if (!runtime::check_placement(plan, out.placement).ok()) return {};
  return out;
}

}  // namespace slalom::cli
