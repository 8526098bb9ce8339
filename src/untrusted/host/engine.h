// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/plan.h"
#include "runtime/executor.h"
#include "untrusted/host/outcome.h"
#include "untrusted/host/process.h"
#include "vault/pads.h"

namespace slalom::host {

// Modes says how a loaded plan is run. It can be changed between runs without loading the plan or
// starting the device workers again (Engine::reconfigure).
struct Modes {
  // options.cpu is ignored: the trusted process reads its own processor. options.threads 0 means
  // one thread for each processor that this process may use and no worker needs; whether threads
  // are bound (options.bind) follows from that (processors.h).
  runtime::Options options{.threads = 0};
  // Which nodes go to the devices; nothing means runtime::default_placement.
  std::optional<runtime::Placement> placement;
  // With Privacy::kPads: what to do when no pad is in stock, and the file that holds the sealed
  // stock, created if absent. An empty path keeps the stock in the trusted process.
  vault::WhenDry when_dry = vault::WhenDry::kInline;
  std::string pad_store;
};

struct EngineOptions {
  std::string plan_file;
  // Each is "cpu" or "cuda:N" (a worker process is started), "unix:PATH" (a worker that already
  // listens there, see `slalom-device --listen`), "tcp:HOST:PORT" (a worker of another machine),
  // or, alone, "none" (every layer stays in the trusted process).
  std::vector<std::string> devices = {"cpu"};
  std::size_t device_threads = 0;  // of each started worker; 0: all processors
  bool bind = true;                // threads to processors, where that helps (processors.h)
  std::size_t device_streams = 0;  // connections to a worker of another machine; 0: four
  // A folder where each started worker leaves a timeline of its last segment when the engine ends
  // (worker/trace.h), as "0.json" and so on in the order of devices; empty: none.
  std::string trace;
  Modes modes;
  // A path at which other processes may attach to the trusted process (Engine::attach) for as long
  // as this engine lives; empty: nobody may. The file is made with mode 0600 and removed at the
  // end.
  std::string listen;
  // The two programs; empty: slalom-trusted and slalom-device beside this program's own file.
  std::string trusted_program;
  std::string device_program;
};

// PadStock describes the pads of a running engine.
struct PadStock {
  std::uint64_t images = 0;           // prepared and unused
  std::uint64_t bytes_per_image = 0;  // sealed size in the store
  std::uint64_t free_bytes = 0;       // room where the store lies; 0 when this host cannot tell
  bool dead_stock = false;            // the file held an earlier process's pads, which were removed
};

// isa_name is the highest level in words: "AMX", "AVX-512 VNNI", "AVX-512", "AVX2", "SSE4.1",
// "x86-64".
[[nodiscard]] std::string_view isa_name(const base::CpuFeatures& cpu) noexcept;

// Report is what the trusted process says about itself and this machine.
struct Report {
  std::string isa;  // isa_name(cpu)
  base::CpuFeatures cpu;
  std::uint32_t processors = 0;    // that it may run on
  std::uint64_t lock_limit = 0;    // RLIMIT_MEMLOCK, bytes; UINT64_MAX: none
  std::uint64_t memory_bytes = 0;  // of the machine
  bool dumpable = true;            // false is right
  bool core_dumps = true;          // false is right
  std::uint32_t control_version = 0;
};

// MemoryUse is what the processes hold that an engine started, as this host sees them.
struct MemoryUse {
  std::optional<Memory> trusted;
  std::vector<std::optional<Memory>> workers;  // one for each device; nothing for unix:
};

// Engine is a running trusted process with its device workers, as seen from the untrusted host. The
// host sees inputs and outputs of this engine (there is no sealed session here); it cannot make a
// wrong result pass a check, nor learn the trusted process's challenges or pads.
//
// Both programs are started with an empty environment and no file descriptor but the ones that they
// need. They end when the Engine is destroyed, and when this process dies in whatever way: each
// watches its end of a socket.
//
// Thread safety: one call at a time per Engine; stats(), pad_stock() and prepare() of a second
// Engine attached to the same process may run beside run() of the first.
class Engine {
 public:
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // start spawns the trusted process and the workers, loads the plan in each and prepares the
  // checks. kInvalidArgument: an option or a file that is not there; kMalformed: a plan that breaks
  // a rule; kUnavailable: a program or a device that does not start.
  [[nodiscard]] static Outcome<std::unique_ptr<Engine>> start(const EngineOptions& options);

  // attach connects to the trusted process of an Engine that was started with `listen`. The
  // processes stay when the attached Engine is destroyed.
  [[nodiscard]] static Outcome<std::unique_ptr<Engine>> attach(const std::string& socket_path);

  // run streams images until the source ends. source and sink are called on the calling thread. An
  // image that was rejected goes to sink.fail with its Errc; the run itself fails (with the reason)
  // when no device is left to go on with, or when the trusted process ends.
  [[nodiscard]] virtual Done run(runtime::Source& source, runtime::Sink& sink) = 0;

  // reconfigure ends the present executor and makes another for the same plan: other checks,
  // privacy, placement or sizes. Every device is readmitted with a fresh segment; a started worker
  // that died is started again. Statistics begin at zero; pads in stock stay if privacy stays.
  [[nodiscard]] virtual Done reconfigure(const Modes& modes) = 0;

  // stats since start or the last reconfigure.
  [[nodiscard]] virtual Outcome<runtime::Stats> stats() = 0;

  // pad_stock and prepare need Privacy::kPads (kInvalidArgument otherwise). prepare makes `count`
  // further pads and returns how many were made; progress (made, count) is called after each and
  // stops the work by returning false. kUnavailable, before anything is made, when the store's disk
  // is too small.
  [[nodiscard]] virtual Outcome<PadStock> pad_stock() = 0;
  using Progress = std::function<bool(std::uint64_t made, std::uint64_t count)>;
  [[nodiscard]] virtual Outcome<std::uint64_t> prepare(std::uint64_t count,
                                                       const Progress& progress) = 0;

  [[nodiscard]] virtual Outcome<Report> report() = 0;

  // memory may be asked for at any time on the thread of run(), by its source and sink as well.
  // Nothing is known of processes that this engine did not start.
  [[nodiscard]] virtual MemoryUse memory() const { return {}; }

  // shutdown asks the trusted process to end; with an attached Engine too.
  [[nodiscard]] virtual Done shutdown() = 0;

  // digest of the plan as the trusted process computed it; plan is the host's own copy (nothing in
  // an attached Engine, which did not read the file).
  [[nodiscard]] virtual const model::Digest& digest() const noexcept = 0;
  [[nodiscard]] virtual const model::Plan* plan() const noexcept = 0;

 protected:
  Engine() = default;
};

// read_plan reads and decodes a plan file: what `start` does with options.plan_file.
[[nodiscard]] Outcome<model::Plan> read_plan(const std::string& path);

}  // namespace slalom::host
