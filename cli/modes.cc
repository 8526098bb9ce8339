// SPDX-License-Identifier: Apache-2.0
#include "cli/modes.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cli/choice.h"
#include "cli/failure.h"
#include "cli/placement.h"
#include "untrusted/host/device_worker.h"

namespace slalom::cli {
namespace {

using model::Integrity;
using model::Privacy;

// NOLINTBEGIN(cert-err58-cpp): without memory for these nothing can be said anyway
const Choices<Integrity> kIntegrities{{"off", Integrity::kOff},
                                      {"plain", Integrity::kPlain},
                                      {"batched", Integrity::kBatched},
                                      {"preprocessed", Integrity::kPreprocessed}};
const Choices<Privacy> kPrivacies{{"off", Privacy::kOff}, {"pads", Privacy::kPads}};
const Choices<Precision> kPrecisions{{"int8", Precision::kInt8}, {"fp32", Precision::kFp32}};
const Choices<vault::WhenDry> kWhenDry{{"inline", vault::WhenDry::kInline},
                                       {"wait", vault::WhenDry::kWait},
                                       {"fail", vault::WhenDry::kFail}};
// NOLINTEND(cert-err58-cpp)

bool none(const ModeOptions& o) { return o.devices.size() == 1 && o.devices[0] == "none"; }

void check(const ModeOptions& o) {
  const auto stop = [](const char* text) { throw Stop(Errc::kInvalidArgument, text); };
  for (const std::string& device : o.devices) {
    if (device == "none" && o.devices.size() > 1) {
      stop("--device none stands alone; leave it out to use the other devices");
    }
    if (device != "none" && !host::is_device(device)) {
      throw Stop(
          Errc::kInvalidArgument,
          fmt::format(
              "--device {} is not known; write none, cpu, cuda:N, unix:PATH or tcp:HOST:PORT",
              device));
    }
  }
  if (none(o) && o.privacy != Privacy::kOff) {
    stop("--device none sends nothing out, so there is nothing to hide; leave out --privacy");
  }
  if (o.precision == Precision::kFp32 &&
      !(none(o) && o.integrity == Integrity::kOff && o.privacy == Privacy::kOff)) {
    stop(
        "--precision fp32 is an unprotected baseline; add "
        "--integrity off --privacy off --device none");
  }
  if (o.privacy == Privacy::kOff && (o.pad_store != kPadsInMemory || o.pads_given)) {
    stop("--pad-store and --pads need --privacy pads");
  }
}

}  // namespace

void add_mode_options(CLI::App& app, ModeOptions& o) {
  const std::string group = "Mode";
  choice(app, "--integrity", o.integrity, kIntegrities,
         "How each result of a device is checked; with off, a lie can show in the answer")
      ->group(group);
  choice(app, "--privacy", o.privacy, kPrivacies,
         "How inputs are hidden from devices: one-time pads, or not at all")
      ->group(group);
  choice(app, "--precision", o.precision, kPrecisions,
         "fp32 is an unprotected baseline: needs --integrity off --privacy off --device none")
      ->group(group);
  choice(app, "--when-dry", o.when_dry, kWhenDry, "What to do when no pad is left")->group(group);
  app.add_option("--pads", o.pads, "Pads to make before the first image")
      ->type_name("N")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 40))
      ->default_str("one an image")
      ->each([&o](const std::string&) { o.pads_given = true; })
      ->group(group);
  app.add_option("--pad-store", o.pad_store,
                 "Where pads wait: memory (of the trusted process), a file that they are sealed "
                 "into (worthless afterwards), or temporary (such a file, removed at the end)")
      ->type_name("FILE|memory|temporary")
      ->capture_default_str()
      ->group(group);
  add_tuning_options(app, o);
}

void add_tuning_options(CLI::App& app, ModeOptions& o) {
  app.add_option(
         "--device", o.devices,
         "Who computes the linear layers: cpu (a worker process), cuda:N (NVIDIA GPU N), unix:PATH "
         "(a worker that listens there), tcp:HOST:PORT (a worker of another machine, see slalom "
         "device --help), or none (all in the trusted process); several share the load")
      ->type_name("WHERE")
      ->allow_extra_args(false)
      ->default_str("cpu")
      ->group("Mode");
  app.add_option("--soundness-bits", o.soundness_bits,
                 "A lie passes with probability at most 2^-BITS")
      ->type_name("BITS")
      ->check(CLI::Range(1, 120))
      ->capture_default_str()
      ->group("Mode");
  add_placement_options(app, o);
  const std::string tuning = "Tuning";
  app.add_option("--trusted-threads", o.trusted_threads, "Threads of the trusted process (0: all)")
      ->type_name("N")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str()
      ->group(tuning);
  app.add_option("--device-threads", o.device_threads, "Threads of a started worker (0: all)")
      ->type_name("N")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str()
      ->group(tuning);
  app.add_option("--tcp-streams", o.tcp_streams, "Connections to each tcp: worker")
      ->type_name("N")
      ->check(CLI::Range(1, 16))
      ->capture_default_str()
      ->group(tuning);
  app.add_flag("--unbound", o.unbound,
               "Let threads move between processors: when other programs compute beside this one")
      ->group(tuning);
  app.add_option("--micro-batch", o.micro_batch,
                 "Images that share one request to a device; if not given, a planned placement "
                 "may come with half or twice as many")
      ->type_name("N")
      ->check(CLI::Range(1, kMostMicroBatch))
      ->capture_default_str()
      ->each([&o](const std::string&) { o.micro_batch_given = true; })
      ->group(tuning);
  app.add_option("--in-flight", o.in_flight, "Micro-batches at work at the same time")
      ->type_name("N")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->group(tuning);
  app.add_option("--timeout-ms", o.timeout_ms, "How long a device may take for one answer")
      ->type_name("MS")
      ->check(CLI::Range(1, 3'600'000))
      ->capture_default_str()
      ->group(tuning);
}

host::EngineOptions engine_options(const std::string& plan_file, const ModeOptions& o) {
  check(o);
  host::EngineOptions out;
  out.plan_file = plan_file;
  if (!o.devices.empty()) out.devices = o.devices;
  out.device_threads = o.device_threads;
  out.bind = !o.unbound;
  out.device_streams = o.tcp_streams;
  out.listen = o.listen;
  out.trace = o.trace;
  runtime::Options& options = out.modes.options;
  options.integrity = none(o) ? Integrity::kOff : o.integrity;  // nothing leaves, nothing to check
  options.privacy = o.privacy;
  options.soundness_bits = o.soundness_bits;
  options.threads = o.trusted_threads;
  options.micro_batch = o.micro_batch;
  options.in_flight = o.in_flight;
  options.timeout = std::chrono::milliseconds(o.timeout_ms);
  out.modes.when_dry = o.when_dry;
  if (o.pad_store != kPadsInMemory) out.modes.pad_store = o.pad_store;  // "temporary": see Session
  return out;
}

std::string mode_text(const ModeOptions& o) {
  if (o.precision == Precision::kFp32) return "float32 baseline";
  if (none(o)) return "trusted only";
  const bool checked = o.integrity != Integrity::kOff;
  if (o.privacy == Privacy::kOff) return checked ? "verified" : "unchecked";
  return checked ? "private + verified" : "private";
}

const char* integrity_name(Integrity integrity) noexcept {
  switch (integrity) {
    case Integrity::kOff:
      return "off";
    case Integrity::kPlain:
      return "plain";
    case Integrity::kBatched:
      return "batched";
    case Integrity::kPreprocessed:
      return "preprocessed";
  }
  return "?";
}

const char* privacy_name(Privacy privacy) noexcept {
  switch (privacy) {
    case Privacy::kOff:
      return "off";
    case Privacy::kPads:
      return "pads";
    case Privacy::kSplit:
      return "split";
  }
  return "?";
}

}  // namespace slalom::cli
