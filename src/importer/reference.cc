// SPDX-License-Identifier: Apache-2.0
#include "importer/reference.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <thread>
#include <variant>

#include "importer/reference_ops.h"

namespace slalom::importer {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// Uses counts, for each tensor, how often it is still to be read, so that memory is bounded by
// what is alive at one time.
std::vector<std::size_t> count_uses(const model::Plan& plan) {
  std::vector<std::size_t> uses(plan.tensors.size(), 0);
  for (const model::Node& node : plan.nodes) {
    for (const model::TensorId id : node.inputs) ++uses[id];
  }
  for (const model::Output& output : plan.outputs) ++uses[output.tensor];
  return uses;
}

}  // namespace

std::vector<Codes> run_reference(const model::Plan& plan, std::span<const Codes> inputs,
                                 const CodesObserver& observer) {
  require(inputs.size() == plan.inputs.size());
  std::vector<Codes> values(plan.tensors.size());
  std::vector<std::size_t> uses = count_uses(plan);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const model::TensorId id = plan.inputs[i];
    require(inputs[i].size() == plan.tensors[id].shape.elements());
    require(std::all_of(inputs[i].begin(), inputs[i].end(),
                        [](std::int32_t q) { return q >= 0 && q <= 255; }));
    values[id] = inputs[i];
    if (observer) observer(id, values[id]);
  }
  for (const model::Node& node : plan.nodes) {
    std::vector<reference::Operand> operands;
    operands.reserve(node.inputs.size());
    for (const model::TensorId id : node.inputs) {
      operands.push_back({&plan.tensors[id], values[id]});
    }
    values[node.output] = std::visit(
        [&](const auto& op) { return reference::apply(op, operands, plan.tensors[node.output]); },
        node.op);
    if (observer) observer(node.output, values[node.output]);
    for (const model::TensorId id : node.inputs) {
      if (--uses[id] == 0) Codes().swap(values[id]);
    }
  }
  std::vector<Codes> outputs;
  outputs.reserve(plan.outputs.size());
  for (const model::Output& output : plan.outputs) outputs.push_back(values[output.tensor]);
  return outputs;
}

std::vector<std::vector<Codes>> run_reference_batch(const model::Plan& plan,
                                                    std::span<const std::vector<Codes>> images,
                                                    unsigned threads) {
  if (threads == 0) threads = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::vector<Codes>> outputs(images.size());
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < images.size(); i = next++) {
      outputs[i] = run_reference(plan, images[i]);
    }
  };
  std::vector<std::jthread> pool;
  for (unsigned i = 1; i < threads && i < images.size(); ++i) pool.emplace_back(work);
  work();
  pool.clear();
  return outputs;
}

Codes encode_reals(const model::TensorInfo& info, std::span<const float> reals) {
  require(reals.size() == info.shape.elements());
  const reference::Clamp clamp = reference::full_range(info);
  Codes codes;
  codes.reserve(reals.size());
  for (const float real : reals) {
    codes.push_back(reference::requantise(real / info.scale, info.zero_point, clamp));
  }
  return codes;
}

std::vector<float> decode_reals(const model::TensorInfo& info,
                                std::span<const std::int32_t> codes) {
  std::vector<float> reals;
  reals.reserve(codes.size());
  for (const std::int32_t q : codes) {
    // The product of a binary32 and an int32 is exact in binary64 up to 56 bits; one rounding more.
    reals.push_back(static_cast<float>(static_cast<double>(info.scale) *
                                       static_cast<double>(q - info.zero_point)));
  }
  return reals;
}

}  // namespace slalom::importer
