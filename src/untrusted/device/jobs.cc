// SPDX-License-Identifier: Apache-2.0
#include "device/jobs.h"

#include <variant>

namespace slalom::device {
namespace {

using channel::InputKind;

constexpr std::size_t kWidestWord = 4;

Error wrong(const char* what) { return {Errc::kInvalidArgument, what}; }

}  // namespace

Result<JobLayers> JobLayers::make(const model::Plan* plan, std::size_t max_batch) {
  if (plan == nullptr || max_batch == 0)
    return wrong("a device needs a plan and room for one image");
  if (max_batch > kMostBatch) return wrong("a device takes micro-batches of at most 1024 images");
  JobLayers out;
  out.max_batch_ = max_batch;
  out.layers_.resize(plan->nodes.size());
  std::vector<std::size_t> readers(plan->tensors.size());
  for (std::size_t i = 0; i < plan->nodes.size(); ++i) {
    const auto* linear = std::get_if<model::Linear>(&plan->nodes[i].op);
    if (linear == nullptr || !linear->field) continue;
    const JobLayer& layer =
        out.layers_[i].emplace(JobLayer{.field = *linear->field,
                                        .tensor = plan->nodes[i].inputs[0],
                                        .in_elements = linear->in().elements(),
                                        .out_elements = linear->out().elements()});
    ++readers[layer.tensor];
    const std::size_t widest = max_batch * kWidestWord;
    out.largest_input_ = std::max(out.largest_input_, layer.in_elements * widest);
    out.largest_output_ = std::max(out.largest_output_, layer.out_elements * widest);
  }
  for (auto& layer : out.layers_) {
    if (layer) layer->readers = readers[layer->tensor];
  }
  return out;
}

Status JobLayers::check(const Job& job) const noexcept {
  const JobLayer* layer = find(job.layer);
  if (layer == nullptr) return wrong("this device has no such layer");
  if (job.batch == 0 || job.batch > max_batch_ ||
      (job.field != field::Field::kP24 && job.field != field::Field::kP31)) {
    return wrong("a request's batch or field is out of range");
  }
  const std::size_t word = field::word_bytes(job.field);
  if (job.output.size() != job.batch * layer->out_elements * word) {
    return wrong("a request's output slot has the wrong size");
  }
  if (job.kind == InputKind::kRetained) return {};
  if (job.kind != InputKind::kCodes && job.kind != InputKind::kWords) {
    return wrong("a request's input is of an unknown kind");
  }
  if (job.input.size() !=
      job.batch * layer->in_elements * (job.kind == InputKind::kCodes ? 1 : word)) {
    return wrong("a request's input slot has the wrong size");
  }
  return {};
}

}  // namespace slalom::device
