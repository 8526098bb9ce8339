// SPDX-License-Identifier: Apache-2.0
#include "device/cpu/cpu_device.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

namespace slalom::device {
namespace {

using channel::InputKind;
using field::Field;

constexpr std::size_t kGrain = std::size_t{1} << 15;  // words that one thread packs at a time

// canonical makes the result of unpacking any bytes at all a residue. (Nobody honest sends a word
// that is not below p; the engine must not see one.)
void canonical(Field f, std::uint32_t* words, std::size_t n) {
  const std::uint32_t p = field::modulus(f);
  const std::uint32_t mask = f == Field::kP24 ? 0xffffffU : 0x7fffffffU;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t v = words[i] & mask;  // at most p + 2
    words[i] = std::min(v, v - p);
  }
}

// to_words maps sums to residues. Those of a layer are below p / 2 in its own field.
void to_words(Field f, bool own_field, const std::int32_t* sums, std::size_t n,
              std::uint32_t* words) {
  const std::uint32_t p = field::modulus(f);
  for (std::size_t i = 0; i < n; ++i) {
    const auto v = static_cast<std::uint32_t>(sums[i]);
    words[i] = own_field ? std::min(v, v + p) : field::to_word(sums[i], f);
  }
}

bool known(Field f) { return f == Field::kP24 || f == Field::kP31; }

}  // namespace

CpuDevice::CpuDevice(const CpuDeviceOptions& options)
    : options_(options),
      kernels_(field::choose_kernels(options.cpu)),
      pool_(std::max<std::size_t>(options.threads, 1)) {}
CpuDevice::~CpuDevice() = default;

Status CpuDevice::load(std::shared_ptr<const model::Plan> plan, std::size_t max_batch) {
  if (plan == nullptr || max_batch == 0) {
    return Error{Errc::kInvalidArgument, "a device needs a plan and room for one image"};
  }
  std::vector<std::optional<Layer>> layers(plan->nodes.size());
  std::vector<std::size_t> readers(plan->tensors.size());
  std::size_t largest = 0;
  for (std::size_t i = 0; i < plan->nodes.size(); ++i) {
    const auto* linear = std::get_if<model::Linear>(&plan->nodes[i].op);
    if (linear == nullptr || !linear->field) continue;
    auto engine = linear::make_engine(
        *linear,
        {.cpu = options_.cpu, .backend = options_.backend, .pool = pool_, .max_batch = max_batch});
    if (!engine) return engine.error();
    Layer& layer = layers[i].emplace();
    layer.engine = std::move(engine).value();
    layer.field = *linear->field;
    layer.tensor = plan->nodes[i].inputs[0];
    layer.in_elements = linear->in().elements();
    layer.out_elements = linear->out().elements();
    largest = std::max(largest, layer.out_elements);
    ++readers[layer.tensor];
  }
  layers_ = std::move(layers);
  readers_ = std::move(readers);
  retained_.clear();
  current_ = {};
  sums_.resize(largest * max_batch);
  words_.resize(largest * max_batch);
  plan_ = std::move(plan);
  max_batch_ = max_batch;
  return {};
}

Status CpuDevice::run(const Job& job) {
  if (job.layer >= layers_.size() || !layers_[job.layer]) {
    return Error{Errc::kInvalidArgument, "this device has no such layer"};
  }
  Layer& layer = *layers_[job.layer];
  if (job.batch == 0 || job.batch > max_batch_ || !known(job.field)) {
    return Error{Errc::kInvalidArgument, "a request's batch or field is out of range"};
  }
  if (job.output.size() != job.batch * layer.out_elements * field::word_bytes(job.field)) {
    return Error{Errc::kInvalidArgument, "a request's output slot has the wrong size"};
  }
  if (job.kind != InputKind::kRetained) {
    SLALOM_TRY(take_input(job, layer, current_));
    if (readers_[layer.tensor] > 1) retain(current_);
    compute(job, layer, current_);
    return {};
  }
  Input* input = find_retained(job.attempt, layer.tensor);
  if (input == nullptr || input->batch != job.batch ||
      (input->kind == InputKind::kWords && input->field != job.field)) {
    return Error{Errc::kUnavailable, "the input that a request refers to is not here"};
  }
  compute(job, layer, *input);
  if (--input->readers_left == 0) {
    retained_.remove_if([input](const Input& other) { return &other == input; });
  }
  return {};
}

Status CpuDevice::take_input(const Job& job, const Layer& layer, Input& input) {
  const std::size_t n = job.batch * layer.in_elements;
  if (job.kind != InputKind::kCodes && job.kind != InputKind::kWords) {
    return Error{Errc::kInvalidArgument, "a request's input is of an unknown kind"};
  }
  const bool codes = job.kind == InputKind::kCodes;
  if (job.input.size() != n * (codes ? 1 : field::word_bytes(job.field))) {
    return Error{Errc::kInvalidArgument, "a request's input slot has the wrong size"};
  }
  input.attempt = job.attempt;
  input.tensor = layer.tensor;
  input.kind = job.kind;
  input.field = job.field;
  input.batch = job.batch;
  input.pad_code = job.pad_code;
  input.readers_left = readers_[layer.tensor] - 1;
  // The slot is shared with the trusted process: it is read once, into memory of our own.
  if (codes) {
    input.codes.resize(n);
    std::memcpy(input.codes.data(), job.input.data(), n);
    return {};
  }
  input.words.resize(n);
  pool_.parallel_for((n + kGrain - 1) / kGrain, [&](std::size_t part, std::size_t) {
    const std::size_t first = part * kGrain;
    const std::size_t count = std::min(kGrain, n - first);
    kernels_.unpack(job.field, job.input.data() + first * field::word_bytes(job.field), count,
                    input.words.data() + first);
    canonical(job.field, input.words.data() + first, count);
  });
  return {};
}

CpuDevice::Input* CpuDevice::find_retained(std::uint64_t attempt, model::TensorId tensor) {
  // Newest first: an input sent again under the same attempt replaces the older one.
  const auto at = std::find_if(retained_.rbegin(), retained_.rend(), [&](const Input& input) {
    return input.attempt == attempt && input.tensor == tensor;
  });
  return at == retained_.rend() ? nullptr : &*at;
}

void CpuDevice::retain(const Input& input) {
  const auto of_tensor = [&](const Input& other) { return other.tensor == input.tensor; };
  const auto count = std::count_if(retained_.begin(), retained_.end(), of_tensor);
  if (static_cast<std::size_t>(count) >= kRetainedInputs) {
    retained_.erase(std::find_if(retained_.begin(), retained_.end(), of_tensor));
  }
  retained_.push_back(input);
}

void CpuDevice::compute(const Job& job, Layer& layer, const Input& input) {
  const std::size_t n = job.batch * layer.out_elements;
  const std::span<std::uint32_t> words(words_.data(), n);
  const bool codes = input.kind == InputKind::kCodes;
  if (codes) {
    layer.engine->run_codes(std::span(input.codes).first(job.batch * layer.in_elements),
                            input.pad_code, job.batch, std::span(sums_).first(n));
  } else {
    layer.engine->run_words(job.field, std::span(input.words).first(job.batch * layer.in_elements),
                            job.batch, words);
  }
  pool_.parallel_for((n + kGrain - 1) / kGrain, [&](std::size_t part, std::size_t) {
    const std::size_t first = part * kGrain;
    const std::size_t count = std::min(kGrain, n - first);
    if (codes) {
      to_words(job.field, layer.field == job.field, sums_.data() + first, count,
               words.data() + first);
    }
    kernels_.pack(job.field, words.data() + first, count,
                  job.output.data() + first * field::word_bytes(job.field));
  });
}

}  // namespace slalom::device
