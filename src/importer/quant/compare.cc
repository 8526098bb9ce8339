// SPDX-License-Identifier: Apache-2.0
#include "importer/quant/compare.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <thread>
#include <utility>

#include "importer/interpreter.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

// Power sums the squares of a signal and of what differs from it.
struct Power {
  double signal = 0.0;
  double noise = 0.0;

  void add(const NetTensor& tensor, const model::TensorInfo& info, std::span<const float> real,
           std::span<const std::int32_t> codes) {
    const std::vector<float> decoded = decode_reals(info, codes);
    std::size_t i = 0;
    for_each_element(tensor.view, [&](std::size_t at) {
      const double x = real[i++];
      const double difference = decoded[at] - x;
      signal += x * x;
      noise += difference * difference;
    });
  }
  [[nodiscard]] double decibels() const {
    constexpr double kExact = 120.0;  // shown for no difference at all
    if (!(noise > 0.0)) return kExact;
    if (!(signal > 0.0)) return -kExact;
    return std::clamp(10.0 * std::log10(signal / noise), -kExact, kExact);
  }
};

std::vector<float> in_memory_order(const NetTensor& tensor, std::span<const float> values) {
  std::vector<float> ordered(values.size());
  std::size_t i = 0;
  for_each_element(tensor.view, [&](std::size_t at) { ordered[at] = values[i++]; });
  return ordered;
}

Codes stored_codes(const NetTensor& tensor, const Tensor& sample) {
  Codes codes(sample.size());
  std::size_t i = 0;
  const bool is_signed = sample.dtype() == DType::kInt8;
  for_each_element(tensor.view, [&](std::size_t at) {
    codes[at] = is_signed ? sample.view<std::int8_t>()[i] + 128 : sample.view<std::uint8_t>()[i];
    ++i;
  });
  return codes;
}

}  // namespace

std::vector<Codes> encode_sample(const Net& net, const model::Plan& plan, const Sample& sample) {
  std::vector<Codes> codes;
  for (std::size_t i = 0; i < net.inputs.size(); ++i) {
    const NetTensor& tensor = net.tensors[net.inputs[i]];
    const model::TensorInfo& info = plan.tensors[plan.inputs[i]];
    if (sample[i].dtype() == DType::kFloat32) {
      codes.push_back(encode_reals(info, in_memory_order(tensor, sample[i].view<float>())));
    } else {
      codes.push_back(stored_codes(tensor, sample[i]));
    }
  }
  return codes;
}

void compare(const Graph& graph, const Net& net, const SampleSource& samples,
             const QuantiseOptions& options, Emitted& emitted) {
  const std::size_t count = std::min(options.report_samples, samples.count);
  const model::Plan& plan = emitted.plan;
  std::map<ValueId, Tensor> reals;  // of one sample
  for (const TensorIndex index : emitted.source) {
    if (net.tensors[index].value != kNoValue) reals[net.tensors[index].value] = Tensor();
  }
  std::vector<Power> powers(plan.tensors.size());
  for (std::size_t i = 0; i < count; ++i) {
    if (options.progress) options.progress("comparing", i, count);
    const Sample sample = checked_sample(graph, samples, i);
    RunOptions run_options;
    run_options.threads = options.threads;
    run_options.observer = [&](ValueId id, const Tensor& tensor) {
      if (const auto it = reals.find(id); it != reals.end()) it->second = tensor;
    };
    if (const auto outputs = importer::run(graph, sample, run_options); !outputs) {
      throw Failure(outputs.error());
    }
    (void)run_reference(plan, encode_sample(net, plan, sample),
                        [&](model::TensorId id, std::span<const std::int32_t> codes) {
                          const NetTensor& tensor = net.tensors[emitted.source[id]];
                          const auto it = reals.find(tensor.value);
                          if (it == reals.end() || it->second.dtype() != DType::kFloat32 ||
                              it->second.size() != codes.size()) {
                            return;
                          }
                          powers[id].add(tensor, plan.tensors[id], it->second.view<float>(), codes);
                        });
  }
  if (count != 0 && options.progress) options.progress("comparing", count, count);
  for (std::size_t n = 0; n < plan.nodes.size() && count != 0; ++n) {
    const model::TensorId id = plan.nodes[n].output;
    const ValueId value = net.tensors[emitted.source[id]].value;
    const auto it = reals.find(value);
    if (it == reals.end() || it->second.dtype() != DType::kFloat32 || it->second.size() == 0) {
      continue;
    }
    emitted.report.nodes[n].snr_db = powers[id].decibels();
  }
  emitted.report.report_samples = count;
}

}  // namespace slalom::importer
