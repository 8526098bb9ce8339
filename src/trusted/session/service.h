// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "channel/shm_port.h"
#include "model/plan.h"
#include "outside.h"
#include "runtime/executor.h"
#include "session/control.h"
#include "slalom/result.h"
#include "vault/pads.h"

namespace slalom::session {

// Makers creates the parts that a Service puts together; the process gives the real ones, tests may
// give others.
class Makers {
 public:
  virtual ~Makers() = default;
  [[nodiscard]] virtual Result<std::unique_ptr<runtime::Executor>> executor(
      const model::Plan& plan, const runtime::Placement& placement, const runtime::Options& options,
      std::span<channel::Port* const> ports, vault::Pads* pads) = 0;
  // store is empty when the stock is to stay in this process's memory.
  [[nodiscard]] virtual Result<std::unique_ptr<vault::Pads>> pads(
      const model::Plan& plan, const model::Digest& digest, const runtime::Placement& placement,
      const runtime::Options& options, vault::WhenDry when_dry, outside::Descriptor store) = 0;
};

// Service is the trusted process's state: one plan, one configuration, its devices and executor. It
// goes kEmpty -> kLoaded -> kConfigured -> kStarted (control.h); reset() returns to kLoaded. A call
// in the wrong state is kInvalidArgument and changes nothing.
//
// Thread safety: all methods. Calls that change the state and run() take turns; prepare(), stock(),
// welcome() and statistics() run beside them. What a caller asks for is never believed further than
// its type: sizes, placement and options are checked again by the parts that use them.
class Service {
 public:
  Service(Makers& makers, const base::CpuFeatures& cpu) : makers_(makers), cpu_(cpu) {}
  ~Service() { drop_executor(); }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // load takes a plan's bytes, decodes them and forgets everything that belonged to the plan
  // before. Allowed in every state.
  [[nodiscard]] Result<PlanLoaded> load(std::vector<std::byte> bytes);
  [[nodiscard]] Status configure(const Configure& request, outside::Descriptor store);
  // attach makes the segment of one more device. The descriptor is valid until start() or reset().
  struct Attached {
    DeviceAttached message;
    int segment = -1;
  };
  [[nodiscard]] Result<Attached> attach();
  [[nodiscard]] Result<Started> start();
  [[nodiscard]] Status run(runtime::Source& source, runtime::Sink& sink);
  void reset();

  [[nodiscard]] Result<std::uint64_t> prepare(std::uint64_t count, vault::Pads::Progress progress,
                                              void* context);
  [[nodiscard]] Result<Stock> stock() const;
  [[nodiscard]] Welcome welcome() const;
  [[nodiscard]] runtime::Stats statistics() const;
  [[nodiscard]] Report report() const;

 private:
  struct Loaded {
    model::Plan plan;
    model::Digest digest{};
    std::uint64_t input_bytes = 0;
  };
  // What may be in use by prepare() while the rest moves on: it keeps its plan alive.
  struct Vault {
    std::shared_ptr<const Loaded> loaded;
    runtime::Placement placement;
    std::unique_ptr<vault::Pads> pads;
  };

  void drop_executor();
  void publish(State state);
  [[nodiscard]] Result<std::shared_ptr<const Vault>> make_vault(const Configure& request,
                                                                const runtime::Options& options,
                                                                runtime::Placement placement,
                                                                outside::Descriptor store);

  Makers& makers_;
  const base::CpuFeatures cpu_;

  std::mutex turn_;  // held by whoever changes the state or runs; guards the next five members
  std::shared_ptr<const Loaded> loaded_;
  runtime::Options options_;
  runtime::Placement placement_;
  std::vector<std::unique_ptr<channel::ShmPort>> ports_;
  std::unique_ptr<runtime::Executor> executor_;

  // Guards what other connections may look at; never held for long. What follows is written under
  // both mutexes, so whoever has his turn may read it as it is.
  mutable std::mutex shown_;
  Welcome welcome_;
  runtime::Stats stats_;
  std::shared_ptr<const Vault> vault_;
};

}  // namespace slalom::session
