// SPDX-License-Identifier: Apache-2.0
#include "session/service.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "channel/layout.h"

namespace slalom::session {
namespace {

constexpr Error kWrongState{Errc::kInvalidArgument, "the request does not fit the state"};
constexpr Error kNoPads{Errc::kInvalidArgument, "the configuration uses no pads"};

runtime::Options to_options(const Configure& c, const base::CpuFeatures& cpu) {
  return {.integrity = c.integrity,
          .privacy = c.privacy,
          .soundness_bits = c.soundness_bits,
          .threads = c.threads != 0 ? c.threads : std::max(1U, outside::process_state().processors),
          .bind = c.bind,
          .micro_batch = c.micro_batch,
          .in_flight = c.in_flight,
          .timeout = std::chrono::milliseconds(c.timeout_ms),
          .cpu = cpu};
}

}  // namespace

Result<PlanLoaded> Service::load(std::vector<std::byte> bytes) {
  const std::lock_guard turn(turn_);
  auto digest = model::plan_digest(bytes);
  if (!digest) return digest.error();
  auto plan = model::decode_plan(bytes);
  if (!plan) return plan.error();
  auto loaded = std::make_shared<Loaded>();
  loaded->plan = std::move(*plan);
  loaded->digest = *digest;
  for (const model::TensorId id : loaded->plan.inputs) {
    loaded->input_bytes += loaded->plan.tensors[id].shape.elements();  // at most 2^28 each
  }
  if (loaded->input_bytes > UINT32_MAX) {
    return Error{Errc::kMalformed, "the plan's inputs are too large"};
  }
  drop_executor();
  loaded_ = std::move(loaded);
  {
    const std::lock_guard shown(shown_);
    vault_.reset();
  }
  publish(State::kLoaded);
  return PlanLoaded{loaded_->digest, static_cast<std::uint32_t>(loaded_->plan.nodes.size()),
                    loaded_->input_bytes};
}

Status Service::configure(const Configure& request, outside::Descriptor store) {
  const std::lock_guard turn(turn_);
  if (welcome_.state != State::kLoaded) return kWrongState;
  if ((request.store == StoreUse::kPassed) != store.valid()) {
    return Error{Errc::kInvalidArgument, "the pad store and its descriptor do not come together"};
  }
  const model::Plan& plan = loaded_->plan;
  runtime::Placement placement{{request.remote.begin(), request.remote.end()}};
  if (request.remote.empty()) placement = runtime::default_placement(plan);
  SLALOM_TRY(runtime::check_placement(plan, placement));
  const runtime::Options options = to_options(request, cpu_);
  std::shared_ptr<const Vault> vault;
  if (request.privacy == model::Privacy::kPads) {
    auto made = make_vault(request, options, placement, std::move(store));
    if (!made) return made.error();
    vault = std::move(*made);
  }
  options_ = options;
  placement_ = std::move(placement);
  {
    const std::lock_guard shown(shown_);
    vault_ = std::move(vault);
    stats_ = {};
  }
  publish(State::kConfigured);
  return {};
}

Result<std::shared_ptr<const Service::Vault>> Service::make_vault(const Configure& request,
                                                                  const runtime::Options& options,
                                                                  runtime::Placement placement,
                                                                  outside::Descriptor store) {
  if (request.store == StoreUse::kKeep) {
    if (!vault_ || vault_->placement.remote != placement.remote) {
      return Error{Errc::kInvalidArgument, "there are no pads of this placement to keep"};
    }
    return vault_;
  }
  auto pads = makers_.pads(loaded_->plan, loaded_->digest, placement, options, request.when_dry,
                           std::move(store));
  if (!pads) return pads.error();
  return std::make_shared<const Vault>(Vault{loaded_, std::move(placement), std::move(*pads)});
}

Result<Service::Attached> Service::attach() {
  const std::lock_guard turn(turn_);
  if (welcome_.state != State::kConfigured) return kWrongState;
  if (ports_.size() == kMaxDevices) return Error{Errc::kInvalidArgument, "too many devices"};
  // Each micro-batch in flight has a slot of its own, rounded up.
  const std::size_t bytes = runtime::port_bytes(loaded_->plan, placement_, options_) +
                            options_.in_flight * channel::kSlotAlignment;
  auto port = channel::ShmPort::create({.data_bytes = bytes});
  if (!port) return port.error();
  ports_.push_back(std::move(*port));
  return Attached{{static_cast<std::uint32_t>(ports_.size() - 1), bytes},
                  ports_.back()->descriptor()};
}

Result<Started> Service::start() {
  const std::lock_guard turn(turn_);
  if (welcome_.state != State::kConfigured) return kWrongState;
  std::vector<channel::Port*> ports;
  for (const auto& port : ports_) ports.push_back(port.get());
  vault::Pads* pads = vault_ ? vault_->pads.get() : nullptr;
  auto made = makers_.executor(loaded_->plan, placement_, options_, ports, pads);
  if (!made) return made.error();
  executor_ = std::move(*made);
  publish(State::kStarted);
  return Started{stats_.layers_checked, stats_.soundness_bits};
}

Status Service::run(runtime::Source& source, runtime::Sink& sink) {
  const std::lock_guard turn(turn_);
  if (welcome_.state != State::kStarted) return kWrongState;
  const Status done = executor_->run(source, sink);
  publish(State::kStarted);
  return done;
}

void Service::reset() {
  const std::lock_guard turn(turn_);
  if (welcome_.state == State::kEmpty) return;
  drop_executor();
  publish(State::kLoaded);
}

// The pads stay, for a configuration that keeps them.
void Service::drop_executor() {
  executor_.reset();
  ports_.clear();
}

void Service::publish(State state) {
  const std::lock_guard shown(shown_);
  welcome_ = {.state = state, .digest = loaded_->digest, .input_bytes = loaded_->input_bytes};
  if (executor_) stats_ = executor_->stats();
}

Result<std::uint64_t> Service::prepare(std::uint64_t count, vault::Pads::Progress progress,
                                       void* context) {
  std::shared_ptr<const Vault> vault;
  {
    const std::lock_guard shown(shown_);
    vault = vault_;
  }
  if (!vault) return kNoPads;
  return vault->pads->prepare(count, progress, context);
}

Result<Stock> Service::stock() const {
  const std::lock_guard shown(shown_);
  if (!vault_) return kNoPads;
  return Stock{vault_->pads->stock(), vault_->pads->bytes_per_image(), vault_->pads->dead_stock()};
}

Welcome Service::welcome() const {
  const std::lock_guard shown(shown_);
  return welcome_;
}

runtime::Stats Service::statistics() const {
  const std::lock_guard shown(shown_);
  return stats_;
}

Report Service::report() const {
  const outside::ProcessState state = outside::process_state();
  return {.cpu = cpu_,
          .processors = state.processors,
          .lock_limit = state.lock_limit,
          .memory_bytes = state.memory_bytes,
          .dumpable = state.dumpable,
          .core_dumps = state.core_dumps};
}

}  // namespace slalom::session
