// SPDX-License-Identifier: Apache-2.0
#include "device/gpu/gpu_device.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>
#include <variant>

#include "base/round_up.h"

namespace slalom::device {
namespace {

using base::round_up;
using channel::InputKind;
using field::Field;
using gpu::Lane;

gpu::Geometry geometry_of(const model::Conv& conv) {
  const model::Window& w = conv.window;
  return {.in_h = conv.in.h,
          .in_w = conv.in.w,
          .in_c = conv.in.c,
          .out_h = conv.out.h,
          .out_w = conv.out.w,
          .out_c = conv.out.c,
          .kernel_h = w.kernel_h,
          .kernel_w = w.kernel_w,
          .stride_h = w.stride_h,
          .stride_w = w.stride_w,
          .dilation_h = w.dilation_h,
          .dilation_w = w.dilation_w,
          .pad_top = w.pad_top,
          .pad_left = w.pad_left,
          .groups = conv.groups};
}

// weight_matrix pads the weights [out.c][terms] to [columns][depth] with zeros.
std::vector<std::int8_t> weight_matrix(const model::ConvStage& stage, std::size_t columns,
                                       std::size_t depth) {
  const std::size_t terms = stage.conv.terms();
  std::vector<std::int8_t> out(columns * depth);
  for (std::size_t o = 0; o < stage.conv.out.c; ++o) {
    std::memcpy(out.data() + o * depth, stage.weights.data() + o * terms, terms);
  }
  return out;
}

gpu::Numbers numbers_of(Field f) { return gpu::numbers_of(f == Field::kP24); }

}  // namespace

GpuDevice::GpuDevice(std::unique_ptr<gpu::Accelerator> accelerator, const GpuDeviceOptions& options)
    : accelerator_(std::move(accelerator)), options_(options) {}

GpuDevice::~GpuDevice() {
  while (!started_.empty()) static_cast<void>(finish());
}

Status GpuDevice::make_stages(const model::Linear& linear, std::vector<Stage>& stages) {
  for (const model::ConvStage& stage : linear.stages) {
    Stage made{.shape = geometry_of(stage.conv), .terms = stage.conv.terms()};
    std::vector<std::int8_t> weights = stage.weights;
    if (stage.conv.groups == 1 && made.terms <= gpu::kMaxDepth) {
      made.depth = round_up(made.terms, gpu::kGroup);
      made.columns = round_up(stage.conv.out.c, gpu::kGroup);
      weights = weight_matrix(stage, made.columns, made.depth);
    }
    const auto memory = accelerator_->allocate(weights.size());
    if (!memory) return memory.error();
    accelerator_->upload(*memory, std::as_bytes(std::span(weights)));
    const auto done = accelerator_->make_mark();
    if (!done) return done.error();
    accelerator_->set(Lane::kUpload, *done);
    accelerator_->synchronize(*done);  // the weights above are freed now
    made.weights = reinterpret_cast<const std::int8_t*>(*memory);
    stages.push_back(made);
  }
  return accelerator_->error();
}

Result<GpuDevice::Buffer> GpuDevice::make_buffer(std::size_t bytes) {
  const auto memory = accelerator_->allocate(bytes);
  if (!memory) return memory.error();
  const auto filled = accelerator_->make_mark();
  if (!filled) return filled.error();
  const auto read = accelerator_->make_mark();
  if (!read) return read.error();
  return Buffer{*memory, *filled, *read};
}

// More input buffers are made when a network turns out to need them.
Status GpuDevice::add_input_buffer() {
  const auto made = make_buffer(input_bytes_);
  if (!made) return made.error();
  buffers_.push_back(std::make_unique<Buffer>(*made));
  free_inputs_.push_back(buffers_.back().get());
  return {};
}

Status GpuDevice::load(std::shared_ptr<const model::Plan> plan, std::size_t max_batch) {
  if (plan_ != nullptr) return Error{Errc::kInvalidArgument, "a GPU worker loads one plan"};
  auto table = JobLayers::make(plan.get(), max_batch);
  if (!table) return table.error();
  layers_ = std::move(*table);
  stages_.resize(plan->nodes.size());
  std::size_t input = 0;
  std::size_t output = 0;
  std::size_t between = 0;
  std::size_t matrix = options_.piece_bytes;
  for (std::size_t i = 0; i < plan->nodes.size(); ++i) {
    const JobLayer* layer = layers_.find(i);
    if (layer == nullptr) continue;
    const auto& linear = std::get<model::Linear>(plan->nodes[i].op);
    SLALOM_TRY(make_stages(linear, stages_[i]));
    input = std::max(input, layer->in_elements);
    output = std::max(output, layer->out_elements);
    if (stages_[i].size() > 1) between = std::max(between, linear.stages[0].conv.out.elements());
    for (const Stage& s : stages_[i]) {
      // A piece holds kGroup rows of the widest layer at least.
      matrix = std::max(
          matrix, std::size_t{4} * gpu::kGroup * (s.depth + sizeof(std::int32_t) * s.columns));
    }
  }
  constexpr std::size_t kWord = 4;
  const std::size_t rows_limit = std::numeric_limits<std::uint32_t>::max();
  if (std::max(input, output) > rows_limit / max_batch) {
    return Error{Errc::kInvalidArgument,
                 "a micro-batch of this size is too large for a GPU worker"};
  }
  input_bytes_ = input * max_batch * kWord;
  for (std::size_t i = 0; i < options_.depth; ++i) {
    SLALOM_TRY(add_input_buffer());
    const auto made = make_buffer(output * max_batch * kWord);
    if (!made) return made.error();
    outputs_.push_back(*made);
  }
  options_.piece_bytes = matrix;
  for (auto [memory, bytes] : {std::pair(&matrix_, matrix), std::pair(&sums_, matrix),
                               std::pair(&between_, between * max_batch * kWord)}) {
    if (bytes == 0) continue;
    const auto made = accelerator_->allocate(bytes);
    if (!made) return made.error();
    *memory = *made;
  }
  plan_ = std::move(plan);
  return accelerator_->error();
}

void GpuDevice::attach(std::span<std::byte> memory) { accelerator_->pin(memory); }
void GpuDevice::detach(std::span<std::byte> memory) {
  while (!started_.empty()) static_cast<void>(finish());
  accelerator_->unpin(memory);
}

Status GpuDevice::run(const Job& job) {
  SLALOM_TRY(start(job));
  return finish();
}

Status GpuDevice::start(const Job& job) {
  if (started_.size() == options_.depth) {
    return Error{Errc::kInternal, "a device was given more jobs than it can hold"};
  }
  Started started;
  started.status = begin(job, started);
  started_.push_back(started);
  return {};
}

bool GpuDevice::ready() {
  return !started_.empty() &&
         (!started_.front().status.ok() || accelerator_->reached(started_.front().done));
}

Status GpuDevice::finish() {
  if (started_.empty()) return Error{Errc::kInternal, "a device has no job to finish"};
  const Started started = started_.front();
  started_.pop_front();
  if (!started.status.ok()) return started.status.error();
  accelerator_->synchronize(started.done);
  if (started.timers != nullptr) read_timers(*started.timers);
  return accelerator_->error();
}

void GpuDevice::record_spans() {
  if (!timers_.empty()) return;
  timers_.assign(outputs_.size(), {});
  for (Timers& timers : timers_) {
    for (auto* const edge : {&timers.begin, &timers.end}) {
      for (gpu::Mark& mark : *edge) {
        const auto made = accelerator_->make_timer();
        if (!made) return timers_.clear();
        mark = *made;
      }
    }
  }
}

void GpuDevice::stamp(std::array<gpu::Mark, 3> Timers::*edge, Lane lane) {
  if (present_ != nullptr) {
    accelerator_->set(lane, (present_->*edge)[static_cast<std::size_t>(lane)]);
  }
}

void GpuDevice::read_timers(const Timers& timers) {
  constexpr std::array kNames{"upload", "kernels", "download"};
  spans_.clear();
  for (std::size_t lane = timers.uploads ? 0 : 1; lane < kNames.size(); ++lane) {
    spans_.push_back({.part = kNames[lane],
                      .begin = accelerator_->time_of(timers.begin[lane]),
                      .end = accelerator_->time_of(timers.end[lane])});
  }
}

Status GpuDevice::begin(const Job& job, Started& started) {
  SLALOM_TRY(layers_.check(job));
  if (!timers_.empty()) {
    present_ = started.timers = &timers_[next_output_ % timers_.size()];
    present_->uploads = false;
  }
  const JobLayer& layer = *layers_.find(job.layer);
  const auto found = sent_.input(job, layer, [&] { return upload(job); });
  if (!found) return found.error();
  const Sent::Input* const input = *found;
  Buffer& out = outputs_[next_output_++ % outputs_.size()];
  accelerator_->wait(Lane::kCompute, input->kept->filled);
  stamp(&Timers::begin, Lane::kCompute);
  compute(job, *input, out.memory);
  stamp(&Timers::end, Lane::kCompute);
  accelerator_->set(Lane::kCompute, input->kept->read);
  accelerator_->set(Lane::kCompute, out.filled);
  accelerator_->wait(Lane::kDownload, out.filled);
  stamp(&Timers::begin, Lane::kDownload);
  accelerator_->download(job.output, out.memory);
  stamp(&Timers::end, Lane::kDownload);
  accelerator_->set(Lane::kDownload, out.read);
  started.done = out.read;
  if (const auto gone = sent_.settle(*input)) free_inputs_.push_back(*gone);
  return accelerator_->error();
}

Result<GpuDevice::Buffer*> GpuDevice::upload(const Job& job) {
  if (free_inputs_.empty()) SLALOM_TRY(add_input_buffer());
  Buffer* const buffer = free_inputs_.front();
  free_inputs_.erase(free_inputs_.begin());
  accelerator_->wait(Lane::kUpload, buffer->read);
  stamp(&Timers::begin, Lane::kUpload);
  accelerator_->upload(buffer->memory, job.input);
  stamp(&Timers::end, Lane::kUpload);
  if (present_ != nullptr) present_->uploads = true;
  accelerator_->set(Lane::kUpload, buffer->filled);
  return buffer;
}

void GpuDevice::compute(const Job& job, const Sent::Input& input, std::byte* out) {
  const std::vector<Stage>& stages = stages_[job.layer];
  const bool codes = input.kind == InputKind::kCodes;
  gpu::Tensor from{.data = reinterpret_cast<const std::uint8_t*>(input.kept->memory),
                   .format = codes ? gpu::Format::kCodes : gpu::Format::kPacked,
                   .numbers = numbers_of(job.field)};
  std::int32_t padding = codes ? static_cast<std::int32_t>(input.pad_code) - 128 : 0;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const bool last = s + 1 == stages.size();
    const gpu::Output to{.data = reinterpret_cast<std::uint8_t*>(last ? out : between_),
                         .format = last ? gpu::Format::kPacked : gpu::Format::kWide,
                         .numbers = numbers_of(job.field)};
    compute_stage(stages[s], from, padding, job.batch, to);
    from = {.data = to.data, .format = gpu::Format::kWide, .numbers = to.numbers};
    padding = 0;
  }
}

void GpuDevice::compute_stage(const Stage& stage, const gpu::Tensor& in, std::int32_t padding,
                              std::size_t batch, const gpu::Output& out) {
  const gpu::Geometry& shape = stage.shape;
  const auto rows = static_cast<std::uint32_t>(batch * shape.out_h * shape.out_w);
  if (stage.depth == 0) {
    accelerator_->direct({.in = in,
                          .shape = shape,
                          .padding = padding,
                          .rows = rows,
                          .weights = stage.weights,
                          .out = out});
    return;
  }
  const std::uint32_t digits = in.format == gpu::Format::kCodes ? 1 : in.numbers.digits;
  const std::size_t row_bytes = digits * std::max(stage.depth, 4 * stage.columns);
  // digits * piece is a multiple of kGroup, whatever the digits.
  const std::size_t fit = options_.piece_bytes / row_bytes / gpu::kGroup * gpu::kGroup;
  for (std::uint32_t first = 0; first < rows;) {
    const auto piece = static_cast<std::uint32_t>(std::min<std::size_t>(fit, rows - first));
    auto* const matrix = reinterpret_cast<std::int8_t*>(matrix_);
    auto* const sums = reinterpret_cast<std::int32_t*>(sums_);
    accelerator_->gather({.in = in,
                          .shape = shape,
                          .padding = padding,
                          .first_row = first,
                          .rows = piece,
                          .digits = digits,
                          .terms = static_cast<std::uint32_t>(stage.terms),
                          .depth = static_cast<std::uint32_t>(stage.depth),
                          .out = matrix});
    accelerator_->multiply({.a = matrix,
                            .w = stage.weights,
                            .c = sums,
                            .rows = round_up(std::size_t{piece} * digits, gpu::kGroup),
                            .columns = stage.columns,
                            .depth = stage.depth});
    accelerator_->recombine({.sums = sums,
                             .digits = digits,
                             .first_row = first,
                             .rows = piece,
                             .columns = shape.out_c,
                             .stride = static_cast<std::uint32_t>(stage.columns),
                             .out = out});
    first += piece;
  }
}

}  // namespace slalom::device
