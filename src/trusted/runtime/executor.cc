// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor.h"

#include <algorithm>

#include "runtime/lane.h"
#include "runtime/ops/kernels.h"
#include "runtime/setup.h"
#include "runtime/streaming.h"

namespace slalom::runtime {
namespace {

constexpr std::size_t kMaxInFlight = 64;
constexpr std::size_t kMaxThreads = 1024;

Error wrong(const char* message) noexcept { return Error{Errc::kInvalidArgument, message}; }

Status check_options(const Options& o) {
  if (o.micro_batch == 0 || o.micro_batch > kMaxImages) {
    return wrong("a micro-batch holds 1 to 256 images");
  }
  if (o.in_flight == 0 || o.in_flight > kMaxInFlight) {
    return wrong("1 to 64 micro-batches can be in flight");
  }
  if (o.threads == 0 || o.threads > kMaxThreads) return wrong("1 to 1024 threads can be used");
  if (o.timeout <= std::chrono::milliseconds{0}) return wrong("a time-out must be positive");
  return {};
}

// Only a linear layer whose sums fit a field can be checked.
bool can_leave(const model::Node& node) {
  const auto* linear = std::get_if<model::Linear>(&node.op);
  return linear != nullptr && linear->field.has_value();
}

Operators make_operators(const model::Plan& plan, const base::CpuFeatures& cpu) {
  Operators operators;
  for (const model::Node& node : plan.nodes) {
    operators.push_back(
        make_operator({plan, node, choose_op_kernels(cpu), field::choose_kernels(cpu)}));
  }
  return operators;
}

}  // namespace

Setup::Setup(const model::Plan& the_plan, const Placement& placement, const Options& the_options,
             vault::Pads* the_pads)
    : plan(the_plan),
      options(the_options),
      pads(the_pads),
      kernels(field::choose_kernels(options.cpu)),
      operators(make_operators(plan, options.cpu)),
      pool(options.threads, options.bind),
      program(make_program(plan, placement, operators,
                           {.micro_batch = options.micro_batch,
                            .blinded = pads != nullptr,
                            .keep_inputs = keep_inputs(),
                            .threads = pool.size()})) {}

// A slot holds what is sent and answered; what is kept inside does not change its size.
std::size_t port_bytes(const model::Plan& plan, const Placement& placement,
                       const Options& options) {
  const Program program = make_program(
      plan, placement, make_operators(plan, options.cpu),
      {.micro_batch = options.micro_batch, .blinded = options.privacy != model::Privacy::kOff});
  return program.slot_bytes * options.in_flight;
}

Status check_placement(const model::Plan& plan, const Placement& placement) {
  if (placement.remote.size() != plan.nodes.size()) {
    return wrong("a placement must say something of every node");
  }
  for (std::size_t n = 0; n < plan.nodes.size(); ++n) {
    if (placement.remote[n] && !can_leave(plan.nodes[n])) {
      return wrong("a placement gives a device a node that is no layer with a field");
    }
  }
  return {};
}

Placement default_placement(const model::Plan& plan) {
  Placement placement;
  for (const model::Node& node : plan.nodes) placement.remote.push_back(can_leave(node));
  return placement;
}

Result<std::unique_ptr<Executor>> Executor::create(const model::Plan& plan,
                                                   const Placement& placement,
                                                   const Options& options,
                                                   std::span<channel::Port* const> ports,
                                                   vault::Pads* pads, field::Random* random) {
  SLALOM_TRY(check_options(options));
  SLALOM_TRY(check_placement(plan, placement));
  Placement used = placement;
  if (ports.empty()) used.remote.assign(plan.nodes.size(), false);
  const bool remote = std::find(used.remote.begin(), used.remote.end(), true) != used.remote.end();
  const bool blinded = remote && options.privacy != model::Privacy::kOff;
  if (blinded && pads == nullptr) return wrong("privacy needs a supply of pads");
  return make_streaming_executor(plan, used, options, ports, blinded ? pads : nullptr, random);
}

}  // namespace slalom::runtime
