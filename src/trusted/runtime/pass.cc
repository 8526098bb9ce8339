// SPDX-License-Identifier: Apache-2.0
#include "runtime/pass.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>

#include "base/assert.h"
#include "base/checked.h"
#include "base/secret.h"
#include "runtime/ops/rounding.h"

namespace slalom::runtime {
namespace {

using Clock = std::chrono::steady_clock;

// kTileElements of one image are worked on at a time: with four images, pads and the input side's
// vectors a tile needs some 300 KiB.
constexpr std::size_t kTileElements = 16'384;
// kMaxOperands bounds the operands of a node that are found without allocation; wider nodes (a
// Concat of hundreds) are split by the plan's author.
constexpr std::size_t kMaxOperands = 256;

std::uint64_t since(Clock::time_point start) noexcept {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
}

}  // namespace

Result<std::unique_ptr<Pass>> Pass::create(const Parts& parts) {
  std::unique_ptr<Pass> pass(new Pass(parts));
  for (const model::Node& node : parts.plan.nodes) {
    if (node.inputs.size() > kMaxOperands) {
      return Error{Errc::kInvalidArgument, "a node has more than 256 operands"};
    }
  }
  SLALOM_TRY(pass->prepare_layers());
  pass->prepare_cuts();
  SLALOM_TRY(pass->prepare_workers());
  return pass;
}

Status Pass::prepare_layers() {
  const model::Plan& plan = parts_.plan;
  engines_.resize(plan.nodes.size());
  for (const Step& step : parts_.program.steps) {
    if (step.kind != StepKind::kLocalLinear) continue;
    auto engine = linear::make_engine(
        std::get<model::Linear>(plan.nodes[step.head.index].op),
        {.cpu = parts_.cpu, .pool = parts_.pool, .max_batch = parts_.micro_batch});
    if (!engine) return engine.error();
    engines_[step.head.index] = std::move(*engine);
  }
  const auto form = parts_.pads != nullptr ? field::InputForm::kWords : field::InputForm::kCodes;
  for (const Link& link : parts_.program.links) {
    const model::Node& node = plan.nodes[link.node];
    const auto pad_code = static_cast<std::uint8_t>(plan.tensors[node.inputs[0]].zero_point);
    tables_.emplace_back(std::in_place, std::get<model::Linear>(node.op), form, pad_code);
  }
  return {};
}

// A task is a run of tiles. With pads its edges should fall on the edges of sealed chunks, since a
// chunk is opened as a whole.
void Pass::prepare_cuts() {
  for (const Step& step : parts_.program.steps) {
    Cut cut;
    cut.tile_units = std::max<std::size_t>(1, kTileElements / step.unit_elements);
    cut.task_units = cut.tile_units;
    if (step.kind == StepKind::kRemoteLinear && parts_.pads != nullptr) {
      const field::Field f = parts_.program.links[step.link].field;
      const std::size_t chunk = vault::Pads::chunk_words(f);
      const std::size_t aligned = std::lcm(step.unit_elements, chunk) / step.unit_elements;
      const std::size_t most = step.units / (2 * parts_.pool.size());
      cut.task_units = aligned <= most ? aligned : std::max(cut.tile_units, most);
    }
    if (step.kind == StepKind::kOperator && !step.whole) {
      const std::size_t grain = parts_.operators[step.head.index]->grain();
      cut.tile_units = std::max(cut.tile_units, grain);
      cut.task_units = cut.tile_units;
    }
    cuts_.push_back(cut);
  }
}

std::size_t Pass::largest_tile(const Step& step, const Cut& cut, const Part& part) const noexcept {
  // Only the last tile can be longer than the others, by what the last unit takes over.
  const std::size_t units = std::min(cut.tile_units, step.units);
  return std::max(part.at(units, step.units), part.total - part.at(step.units - units, step.units));
}

// place_passing gives every passing tensor room for a tile of each image, step by step in the same
// memory, and returns its size.
std::size_t Pass::place_passing() {
  const Program& program = parts_.program;
  rooms_.resize(parts_.plan.tensors.size());
  std::size_t most = 0;
  for (std::size_t i = 0; i < cuts_.size(); ++i) {
    const Step& step = program.steps[i];
    std::size_t used = 0;
    const auto add = [&](std::uint32_t node) {
      const model::TensorId id = parts_.plan.nodes[node].output;
      const Passing& passing = program.passing[id];
      if (!passing.passing) return;
      const std::size_t bytes = base::round_up(largest_tile(step, cuts_[i], passing.elements) *
                                                   element_bytes(parts_.plan.tensors[id].dtype),
                                               64);
      rooms_[id] = {used, bytes};
      used += bytes * parts_.micro_batch;
    };
    if (step.kind != StepKind::kInput) add(step.head.index);
    for (const Part& part : step.tail) add(part.index);
    most = std::max(most, used);
  }
  return most;
}

std::byte* Pass::place(const Tile& tile, model::TensorId id, std::size_t image) const {
  const Passing& passing = parts_.program.passing[id];
  if (!passing.passing) return tensor(tile.lane, id, image);
  const Room& room = rooms_[parts_.program.root[id]];
  const std::size_t first =
      tile.begin(passing.elements) * element_bytes(parts_.plan.tensors[id].dtype);
  // An address before the room: counted in integers, never dereferenced there.
  const auto start = reinterpret_cast<std::uintptr_t>(tile.worker.passing.data());
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  return reinterpret_cast<std::byte*>(start + room.offset + image * room.image_bytes - first);
}

Status Pass::prepare_workers() {
  std::size_t pad_words = 0;
  std::size_t window_words = 0;
  std::size_t scratch = 0;
  std::size_t links = 0;
  std::size_t sends = 0;
  for (std::size_t i = 0; i < cuts_.size(); ++i) {
    const Step& step = parts_.program.steps[i];
    sends = std::max(sends, step.sends.size());
    std::size_t step_links = 0;
    for (const Part& part : step.sends) {
      pad_words = std::max(pad_words, largest_tile(step, cuts_[i], part));
      step_links += parts_.program.uploads[part.index].links.size();
    }
    links = std::max(links, step_links);
    if (step.kind == StepKind::kRemoteLinear) {
      const Link& link = parts_.program.links[step.link];
      // A tile, what is left of the chunk before it, and the rest of the chunk that ends it.
      window_words =
          std::max(window_words, largest_tile(step, cuts_[i], step.head) * link.channels +
                                     2 * vault::Pads::chunk_words(link.field));
    }
  }
  for (const auto& op : parts_.operators) {
    if (op) scratch = std::max(scratch, op->scratch_bytes());
  }
  if (parts_.pads == nullptr) pad_words = window_words = sends = 0;
  const std::size_t images = parts_.micro_batch;
  const std::size_t passing = place_passing();
  using base::SecretArena;
  const std::size_t bytes =
      parts_.pool.size() *
          (images * SecretArena::bytes_for<std::uint32_t>(window_words) +
           SecretArena::bytes_for<std::uint32_t>(pad_words) +
           SecretArena::bytes_for<std::byte>(scratch) + SecretArena::bytes_for<std::byte>(passing) +
           SecretArena::bytes_for<field::OutputSum>(images) +
           SecretArena::bytes_for<field::Residues>(links * images)) +
      SecretArena::bytes_for<std::byte>(sends * images * sizeof(field::PadStream));
  auto memory = SecretArena::create(bytes, base::Lock::kWhereAllowed);
  if (!memory) return memory.error();
  memory_ = std::move(*memory);
  workers_.resize(parts_.pool.size());
  for (Worker& worker : workers_) {
    worker.windows.resize(images);
    for (Window& window : worker.windows) {
      window.words = memory_.take<std::uint32_t>(window_words);
    }
    worker.pad = memory_.take<std::uint32_t>(pad_words);
    worker.scratch = memory_.take<std::byte>(scratch);
    worker.passing = memory_.take<std::byte>(passing);
    worker.outputs = memory_.take<field::OutputSum>(images);
    worker.inputs = memory_.take<field::Residues>(links * images);
  }
  stream_memory_ = memory_.take<std::byte>(sends * images * sizeof(field::PadStream));
  inputs_.resize(images);
  outputs_.resize(images);
  return {};
}

Status Pass::run(Lane& lane) {
  const Step& step = parts_.program.steps[lane.step];
  if (step.kind == StepKind::kRemoteLinear) {
    parts_.checks.begin_answer(step.link, lane.images);
  } else if (step.whole) {
    compute_whole(lane, step);
    if (step.tail.empty() && step.sends.empty()) return {};
  }
  if (step.kind == StepKind::kInput && step.sends.empty()) return {};
  const Status opened = open_pads(lane, step);
  const Status done = opened.ok() ? run_tiles(lane, step, cuts_[lane.step]) : opened;
  close_pads();
  if (!done.ok()) return done;
  join_sums(lane, step);
  return {};
}

void Pass::compute_whole(Lane& lane, const Step& step) noexcept {
  if (step.kind == StepKind::kLocalLinear) {
    compute_local(lane, step.head.index);
    return;
  }
  const Operator& op = *parts_.operators[step.head.index];
  const std::size_t tasks = base::div_up(op.units(), op.grain());
  parts_.pool.parallel_for(tasks, [&](std::size_t task, std::size_t worker) {
    const std::size_t first = task * op.grain();
    run_operator({lane, step, workers_[worker]}, step.head.index, first,
                 std::min(first + op.grain(), op.units()));
  });
}

void Pass::compute_local(Lane& lane, std::uint32_t node_index) noexcept {
  const model::Node& node = parts_.plan.nodes[node_index];
  const auto& linear = std::get<model::Linear>(node.op);
  const model::TensorInfo& in = parts_.plan.tensors[node.inputs[0]];
  const model::TensorInfo& out = parts_.plan.tensors[node.output];
  const std::span<const std::uint8_t> x(codes(lane, node.inputs[0], 0),
                                        lane.images * in.shape.elements());
  const std::size_t n = lane.images * out.shape.elements();
  std::byte* y = tensor(lane, node.output, 0);
  const auto pad_code = static_cast<std::uint8_t>(in.zero_point);
  linear::Engine& engine = *engines_[node_index];
  if (out.dtype == model::Dtype::kU8) {
    engine.run_requant(x, pad_code, lane.images, {reinterpret_cast<std::uint8_t*>(y), n});
    return;
  }
  auto* sums = reinterpret_cast<std::int32_t*>(y);
  engine.run_codes(x, pad_code, lane.images, {sums, n});
  const model::Requant& r = linear.requant;
  const Requantise to{r.zero_point, r.lo, r.hi};
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t channel = i % out.shape.c;
    const float multiplier = r.multiplier[r.multiplier.size() == 1 ? 0 : channel];
    sums[i] = requantise(static_cast<float>(sums[i] + linear.bias[channel]) * multiplier, to);
  }
}

// open_pads expands the keys of the pads that this step's uploads take.
Status Pass::open_pads(const Lane& lane, const Step& step) {
  if (parts_.pads == nullptr) return {};
  for (const Part& part : step.sends) {
    const Upload& upload = parts_.program.uploads[part.index];
    for (std::size_t b = 0; b < lane.images; ++b) {
      base::Wiped<field::StreamKey> key;
      SLALOM_TRY(parts_.pads->pad_key(lane.tickets[b], upload.tensor, key.reveal()));
      new (streams() + streams_) field::PadStream(key.reveal(), upload.field, parts_.kernels);
      ++streams_;
    }
  }
  return {};
}

void Pass::close_pads() noexcept {
  for (; streams_ != 0; --streams_) streams()[streams_ - 1].~PadStream();
}

Status Pass::run_tiles(Lane& lane, const Step& step, const Cut& cut) {
  for (Worker& worker : workers_) {
    std::fill(worker.outputs.begin(), worker.outputs.end(), field::OutputSum{});
    std::fill(worker.inputs.begin(), worker.inputs.end(), field::Residues{});
  }
  std::atomic<std::uint32_t> failed{0};
  std::atomic<const char*> message{""};
  const std::size_t tasks = base::div_up(step.units, cut.task_units);
  parts_.pool.parallel_for(tasks, [&](std::size_t task, std::size_t index) {
    Worker& worker = workers_[index];
    for (Window& window : worker.windows) window.first = window.last = 0;
    const std::size_t end = std::min((task + 1) * cut.task_units, step.units);
    for (std::size_t u = task * cut.task_units; u < end; u += cut.tile_units) {
      if (failed.load(std::memory_order_relaxed) != 0) return;
      const Status done = run_tile({lane, step, worker, u, std::min(u + cut.tile_units, end)});
      if (!done.ok()) {
        message.store(done.error().message);
        failed.store(static_cast<std::uint32_t>(done.error().code));
      }
    }
    parts_.kernels.fence();
  });
  const auto code = static_cast<Errc>(failed.load());
  if (failed.load() != 0) return Error{code, message.load()};
  return {};
}

Status Pass::run_tile(const Tile& tile) {
  const Step& step = tile.step;
  if (step.kind == StepKind::kRemoteLinear) {
    SLALOM_TRY(consume(tile));
  } else if (step.kind == StepKind::kOperator && !step.whole) {
    run_operator(tile, step.head.index, tile.begin(step.head), tile.end(step.head));
  }
  for (const Part& part : step.tail) {
    run_operator(tile, part.index, tile.begin(part), tile.end(part));
  }
  send(tile);
  return {};
}

Status Pass::consume(const Tile& tile) {
  const Lane& lane = tile.lane;
  const Link& link = parts_.program.links[tile.step.link];
  const std::size_t first = tile.begin(tile.step.head);
  const std::size_t last = tile.end(tile.step.head);
  const std::size_t first_word = first * link.channels;
  const model::TensorId id = parts_.plan.nodes[link.node].output;
  const bool wide = parts_.plan.tensors[id].dtype == model::Dtype::kI32;
  const std::byte* answer = lane.slots[lane.port].memory.data() + link.slot_offset;
  const field::Epilogue epilogue = tables_[tile.step.link]->requantising();
  for (std::size_t b = 0; b < lane.images; ++b) {
    field::OutputTile words{
        .field = link.field,
        .positions = last - first,
        .channels = link.channels,
        .words = answer + b * link.image_bytes + first_word * field::word_bytes(link.field),
        .u = nullptr};
    if (parts_.pads != nullptr) {
      auto u = factors(lane, link, b, first_word, last * link.channels, tile.worker.windows[b]);
      if (!u) return u.error();
      words.u = *u;
    }
    const field::OutputChallenge challenge =
        parts_.checks.output(lane.set.get(), tile.step.link, b).from(first);
    field::OutputSum& sum = tile.worker.outputs[b];
    std::byte* dst = place(tile, id, b);
    if (wide) {
      parts_.kernels.consume_integers(words, challenge, epilogue,
                                      reinterpret_cast<std::int32_t*>(dst) + first_word, sum);
    } else {
      parts_.kernels.consume_codes(words, challenge, epilogue,
                                   reinterpret_cast<std::uint8_t*>(dst) + first_word, sum);
    }
  }
  return {};
}

// factors returns words [first, last) of u for one image, opening the sealed chunks that it has not
// yet. Calls of one task come in order, so the window only moves forward.
Result<const std::uint32_t*> Pass::factors(const Lane& lane, const Link& link, std::size_t image,
                                           std::size_t first, std::size_t last, Window& window) {
  const std::size_t chunk = vault::Pads::chunk_words(link.field);
  if (window.last <= first) {
    window.first = window.last = first / chunk * chunk;
  } else {
    std::copy(window.words.begin() + static_cast<std::ptrdiff_t>(first - window.first),
              window.words.begin() + static_cast<std::ptrdiff_t>(window.last - window.first),
              window.words.begin());
    window.first = first;
  }
  const auto start = Clock::now();
  while (window.last < last) {
    const std::size_t n = std::min(chunk, link.words() - window.last);
    SLALOM_TRY(parts_.pads->open_factors(lane.tickets[image], link.node, link.field, window.last,
                                         window.words.subspan(window.last - window.first, n)));
    window.last += n;
  }
  pad_ns_.fetch_add(since(start), std::memory_order_relaxed);
  return const_cast<const std::uint32_t*>(window.words.data()) + (first - window.first);
}

void Pass::run_operator(const Tile& tile, std::uint32_t node_index, std::size_t first,
                        std::size_t last) const noexcept {
  const model::Node& node = parts_.plan.nodes[node_index];
  std::array<const std::uint8_t*, kMaxOperands> operands{};
  for (std::size_t b = 0; b < tile.lane.images; ++b) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      operands[i] = reinterpret_cast<const std::uint8_t*>(place(tile, node.inputs[i], b));
    }
    parts_.operators[node_index]->run({operands.data(), node.inputs.size()},
                                      place(tile, node.output, b), first, last,
                                      tile.worker.scratch);
  }
}

void Pass::send(const Tile& tile) noexcept {
  const Lane& lane = tile.lane;
  std::array<const std::uint8_t*, kMaxImages> x{};
  std::size_t row = 0;
  for (std::size_t s = 0; s < tile.step.sends.size(); ++s) {
    const Part& part = tile.step.sends[s];
    const Upload& upload = parts_.program.uploads[part.index];
    const std::size_t first = tile.begin(part);
    const std::size_t n = tile.end(part) - first;
    for (std::size_t b = 0; b < lane.images; ++b) {
      x[b] = reinterpret_cast<const std::uint8_t*>(place(tile, upload.tensor, b)) + first;
    }
    for (const std::uint32_t link : upload.links) {
      if (parts_.checks.input_side_first()) {
        parts_.kernels.check_input(lane.set->layers()[link].input, first, n, x.data(), lane.images,
                                   &tile.worker.inputs[row * parts_.micro_batch]);
      }
      ++row;
    }
    for (std::size_t b = 0; b < lane.images; ++b) {
      std::byte* dst =
          lane.slots[lane.port].memory.data() + upload.slot_offset + b * upload.image_bytes;
      if (parts_.pads != nullptr) {
        mask(upload, streams()[s * lane.images + b], x[b], first, n, dst, tile.worker);
      } else {
        parts_.kernels.send_codes(x[b], n, dst + first);
      }
    }
  }
}

// mask writes elements [first, first + n) of one image, blinded. codes is at element `first`, dst
// at the start of the image.
void Pass::mask(const Upload& upload, const field::PadStream& stream, const std::uint8_t* codes,
                std::size_t first, std::size_t n, std::byte* dst, Worker& worker) noexcept {
  const auto start = Clock::now();
  stream.fill(first, worker.pad.first(n));
  pad_ns_.fetch_add(since(start), std::memory_order_relaxed);
  const auto zero = static_cast<std::uint8_t>(parts_.plan.tensors[upload.tensor].zero_point);
  parts_.kernels.blind(upload.field, codes, zero, worker.pad.data(), n,
                       dst + first * field::word_bytes(upload.field));
}

void Pass::join_sums(Lane& lane, const Step& step) noexcept {
  std::size_t row = 0;
  for (const Part& part : step.sends) {
    for (const std::uint32_t link : parts_.program.uploads[part.index].links) {
      for (std::size_t b = 0; b < lane.images; ++b) {
        field::Residues& sum = lane.input_sums[link * parts_.micro_batch + b];
        sum = {};
        for (const Worker& worker : workers_) {
          field::merge(parts_.program.links[link].field, sum,
                       worker.inputs[row * parts_.micro_batch + b]);
        }
      }
      ++row;
    }
  }
  if (step.kind != StepKind::kRemoteLinear) return;
  const Link& link = parts_.program.links[step.link];
  for (std::size_t b = 0; b < lane.images; ++b) {
    outputs_[b] = {};
    for (const Worker& worker : workers_) {
      field::merge(link.field, outputs_[b], worker.outputs[b]);
    }
    inputs_[b] = codes(lane, parts_.program.uploads[link.upload].tensor, b);
  }
  parts_.checks.finish_answer(lane.set.get(), step.link, std::span(outputs_).first(lane.images),
                              lane.input_sums.subspan(step.link * parts_.micro_batch, lane.images),
                              std::span(inputs_).first(lane.images), lane.verdict);
}

}  // namespace slalom::runtime
