// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "model/mode.h"
#include "untrusted/host/engine.h"

// The options that say how a network is run; `run`, `eval` and `bench` share them.

namespace slalom::cli {

// kFp32 is the unprotected baseline (baseline/float_engine.h), not a mode of the trusted process.
enum class Precision { kInt8, kFp32 };

inline constexpr int kMostMicroBatch = 256;

// What --pad-store may say instead of a file: stock stays in the trusted process, or goes to a
// sealed file that is removed at the end.
inline constexpr const char* kPadsInMemory = "memory";
inline constexpr const char* kPadsInTemporary = "temporary";

struct ModeOptions {
  model::Integrity integrity = model::Integrity::kPreprocessed;
  model::Privacy privacy = model::Privacy::kOff;
  Precision precision = Precision::kInt8;
  vault::WhenDry when_dry = vault::WhenDry::kInline;
  bool unbound = false;
  bool micro_batch_given = false;  // false: a planned placement may come with another
  bool pads_given = false;         // false: as many as there are images
  std::uint32_t soundness_bits = 40;
  std::vector<std::string> devices;  // empty: cpu
  std::size_t trusted_threads = 0;   // 0: all processors
  std::size_t device_threads = 0;    // 0: all processors
  std::size_t tcp_streams = 4;
  std::size_t micro_batch = 4;
  std::size_t in_flight = 6;
  std::uint64_t timeout_ms = 10'000;
  std::string pad_store = kPadsInMemory;
  std::uint64_t pads = 0;  // to make before the first image
  std::string listen;
  std::string trace;  // folder for the workers' timelines; empty: none
  // placement.h
  std::string placement = "auto";
  std::string optimise = "throughput";
  std::vector<std::string> keep_inside, send_out;  // names of layers
};

// add_mode_options adds all of them to a subcommand; add_tuning_options only those that say where
// and with how many threads, not how it is checked and hidden.
void add_mode_options(CLI::App& app, ModeOptions& options);
void add_tuning_options(CLI::App& app, ModeOptions& options);

// engine_options translates them. Throws Stop(kInvalidArgument) for combinations that make no
// sense.
host::EngineOptions engine_options(const std::string& plan_file, const ModeOptions& options);

// mode_text names a mode in words: "verified", "private", "private + verified", "trusted only",
// "unchecked".
std::string mode_text(const ModeOptions& options);
const char* integrity_name(model::Integrity integrity) noexcept;
const char* privacy_name(model::Privacy privacy) noexcept;

}  // namespace slalom::cli
