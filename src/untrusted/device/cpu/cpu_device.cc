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

}  // namespace

CpuDevice::CpuDevice(const CpuDeviceOptions& options)
    : options_(options),
      kernels_(field::choose_kernels(options.cpu)),
      pool_(std::max<std::size_t>(options.threads, 1)) {}
CpuDevice::~CpuDevice() = default;

Status CpuDevice::load(std::shared_ptr<const model::Plan> plan, std::size_t max_batch) {
  auto table = JobLayers::make(plan.get(), max_batch);
  if (!table) return table.error();
  std::vector<std::unique_ptr<linear::Engine>> engines(plan->nodes.size());
  std::size_t largest = 0;
  for (std::size_t i = 0; i < plan->nodes.size(); ++i) {
    const JobLayer* layer = table->find(i);
    if (layer == nullptr) continue;
    auto engine = linear::make_engine(std::get<model::Linear>(plan->nodes[i].op),
                                      {.cpu = options_.cpu, .pool = pool_, .max_batch = max_batch});
    if (!engine) return engine.error();
    engines[i] = std::move(engine).value();
    largest = std::max(largest, layer->out_elements);
  }
  layers_ = std::move(*table);
  engines_ = std::move(engines);
  sent_.clear();
  spare_ = {};
  sums_.resize(largest * max_batch);
  words_.resize(largest * max_batch);
  plan_ = std::move(plan);
  return {};
}

Status CpuDevice::run(const Job& job) {
  SLALOM_TRY(layers_.check(job));
  const JobLayer& layer = *layers_.find(job.layer);
  const auto input = sent_.input(job, layer, [&]() -> Result<Unpacked> {
    unpack(job, spare_);
    return std::move(spare_);
  });
  if (!input) return input.error();
  compute(job, layer, **input);
  if (auto gone = sent_.settle(**input)) spare_ = std::move(*gone);
  return {};
}

// The slot is shared with the trusted process: it is read once, into memory of our own.
void CpuDevice::unpack(const Job& job, Unpacked& to) {
  if (job.kind == InputKind::kCodes) {
    to.codes.resize(job.input.size());
    std::memcpy(to.codes.data(), job.input.data(), job.input.size());
    return;
  }
  const std::size_t word = field::word_bytes(job.field);
  const std::size_t n = job.input.size() / word;
  to.words.resize(n);
  pool_.parallel_for((n + kGrain - 1) / kGrain, [&](std::size_t part, std::size_t) {
    const std::size_t first = part * kGrain;
    const std::size_t count = std::min(kGrain, n - first);
    kernels_.unpack(job.field, job.input.data() + first * word, count, to.words.data() + first);
    canonical(job.field, to.words.data() + first, count);
  });
}

void CpuDevice::compute(const Job& job, const JobLayer& layer, const Sent::Input& input) {
  const std::size_t n = job.batch * layer.out_elements;
  const std::span<std::uint32_t> words(words_.data(), n);
  const bool codes = input.kind == InputKind::kCodes;
  if (codes) {
    engines_[job.layer]->run_codes(std::span(input.kept.codes).first(job.batch * layer.in_elements),
                                   input.pad_code, job.batch, std::span(sums_).first(n));
  } else {
    engines_[job.layer]->run_words(job.field,
                                   std::span(input.kept.words).first(job.batch * layer.in_elements),
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
