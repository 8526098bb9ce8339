// SPDX-License-Identifier: Apache-2.0
// What a StreamingExecutor sets up once: after this, no inference allocates.

#include <chrono>
#include <cstring>
#include <limits>

#include "runtime/ops/kernels.h"
#include "runtime/streaming.h"

namespace slalom::runtime {
namespace {

ProgramOptions program_options(const Options& options, bool blinded) {
  return {.micro_batch = options.micro_batch,
          .blinded = blinded,
          .keep_inputs = options.integrity == model::Integrity::kPlain ||
                         options.integrity == model::Integrity::kBatched};
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

std::size_t port_bytes(const model::Plan& plan, const Placement& placement,
                       const Options& options) {
  const Program program =
      make_program(plan, placement, make_operators(plan, options.cpu),
                   program_options(options, options.privacy != model::Privacy::kOff));
  return program.slot_bytes * options.in_flight;
}

Result<std::unique_ptr<Executor>> StreamingExecutor::create(const Parts& parts,
                                                            const Placement& placement) {
  std::unique_ptr<StreamingExecutor> executor(new StreamingExecutor(parts));
  SLALOM_TRY(executor->prepare(placement));
  return std::unique_ptr<Executor>(std::move(executor));
}

Status StreamingExecutor::prepare(const Placement& placement) {
  const Options& options = parts_.options;
  const field::Kernels& kernels = field::choose_kernels(options.cpu);
  operators_ = make_operators(parts_.plan, options.cpu);
  program_ = make_program(parts_.plan, placement, operators_,
                          program_options(options, parts_.pads != nullptr));
  const Checks::Options check_options{
      .integrity = options.integrity,
      .form = parts_.pads != nullptr ? field::InputForm::kWords : field::InputForm::kCodes,
      .micro_batch = options.micro_batch,
      .challenge = {.soundness_bits = options.soundness_bits,
                    .tries = std::max<std::size_t>(1, parts_.ports.size()) * options.in_flight},
      .cpu = options.cpu};
  auto checks = Checks::create(parts_.plan, program_, check_options, kernels, pool_, parts_.random);
  if (!checks) return checks.error();
  checks_ = std::move(*checks);
  auto pass = Pass::create({.plan = parts_.plan,
                            .program = program_,
                            .operators = operators_,
                            .kernels = kernels,
                            .pool = pool_,
                            .checks = *checks_,
                            .pads = parts_.pads,
                            .micro_batch = options.micro_batch,
                            .cpu = options.cpu});
  if (!pass) return pass.error();
  pass_ = std::move(*pass);
  // Attempts of an earlier executor on the same devices must not be taken for this one's.
  next_attempt_ = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
  SLALOM_TRY(prepare_lanes());
  return prepare_slots();
}

Status StreamingExecutor::prepare_lanes() {
  const std::size_t images = parts_.options.micro_batch;
  const std::size_t lanes = parts_.options.in_flight;
  const std::size_t sums = program_.links.size() * images;
  using base::SecretArena;
  auto memory =
      SecretArena::create(lanes * (SecretArena::bytes_for<std::byte>(program_.arena_bytes) +
                                   SecretArena::bytes_for<field::Residues>(sums)),
                          base::Lock::kWhereAllowed);
  if (!memory) return memory.error();
  memory_ = std::move(*memory);
  lanes_.resize(lanes);
  for (Lane& lane : lanes_) {
    lane.arena = memory_.take<std::byte>(program_.arena_bytes).data();
    lane.input_sums = memory_.take<field::Residues>(sums);
    lane.answers.resize(program_.links.size());
    lane.tickets.reserve(images);
  }
  if (parts_.plan.inputs.size() > 1) {
    std::size_t bytes = 0;
    for (const model::TensorId id : parts_.plan.inputs) {
      bytes += parts_.plan.tensors[id].shape.elements();
    }
    staging_.resize(bytes);
  }
  views_.resize(parts_.plan.outputs.size());
  write_constants();
  return {};
}

Status StreamingExecutor::prepare_slots() {
  constexpr std::size_t kMost = std::numeric_limits<std::uint32_t>::max();
  for (const Link& link : program_.links) {
    const Upload& upload = program_.uploads[link.upload];
    if (link.image_bytes > kMost / parts_.options.micro_batch ||
        upload.image_bytes > kMost / parts_.options.micro_batch) {
      return Error{Errc::kInvalidArgument, "a micro-batch is too large for one request"};
    }
  }
  if (program_.links.empty()) return {};
  for (channel::Port* port : parts_.ports) {
    for (Lane& lane : lanes_) {
      auto slot = port->allocate(program_.slot_bytes);
      if (!slot) return slot.error();
      lane.slots.push_back(*slot);
    }
    Device device;
    device.port = port;
    devices_.push_back(device);
  }
  return {};
}

void StreamingExecutor::write_constants() noexcept {
  for (const model::Node& node : parts_.plan.nodes) {
    const auto* constant = std::get_if<model::Constant>(&node.op);
    if (constant == nullptr) continue;
    for (Lane& lane : lanes_) {
      for (std::size_t b = 0; b < parts_.options.micro_batch; ++b) {
        std::memcpy(pass_->tensor(lane, node.output, b), constant->codes.data(),
                    constant->codes.size());
      }
    }
  }
}

}  // namespace slalom::runtime
