// SPDX-License-Identifier: Apache-2.0
#include "runtime/pass.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <vector>

#include "base/arena.h"
#include "base/round_up.h"
#include "base/secret.h"
#include "field/pad_stream.h"
#include "field/requant.h"
#include "linear/engine.h"
#include "runtime/ops/rounding.h"

namespace slalom::runtime {
namespace {

using Clock = std::chrono::steady_clock;

// kMaxOperands bounds the operands of a node that are found without allocation; wider nodes (a
// Concat of hundreds) are split by the plan's author.
constexpr std::size_t kMaxOperands = 256;

// Window is the part of one image's unblinding factors that one worker has open.
struct Window {
  std::span<std::uint32_t> words;
  std::size_t first = 0, last = 0;  // words [first, last) of the layer lie at words[0...]
};
// Worker is the memory of one thread of the pool. What it adds up is joined after each step.
struct Worker {
  Status done;                  // of its last tile
  std::vector<Window> windows;  // by image
  std::span<std::uint32_t> pad;
  std::span<std::byte> scratch;
  std::span<std::byte> passing;         // tiles of the tensors that pass through a step
  std::span<field::OutputSum> outputs;  // by image
  std::span<field::Residues> inputs;    // by link of the step's uploads, then image
};
// Tile is what one thread works on at a time: units [first, last) of a step.
struct Tile {
  const Lane& lane;
  const Step& step;
  Worker& worker;
  std::size_t first = 0, last = 0;

  [[nodiscard]] std::size_t begin(const Part& part) const noexcept {
    return part.at(first, step.units);
  }
  [[nodiscard]] std::size_t end(const Part& part) const noexcept {
    return part.at(last, step.units);
  }
};

class TiledPass final : public Pass {
 public:
  TiledPass(Setup& setup, Checks& checks) : setup_(setup), checks_(checks) {}
  ~TiledPass() override { close_pads(); }

  Status prepare() {
    SLALOM_TRY(prepare_layers());
    return prepare_workers();
  }

  [[nodiscard]] Status run(Lane& lane) override {
    const Step& step = setup_.program.steps[lane.step];
    if (step.kind == StepKind::kRemoteLinear) {
      checks_.begin_answer(step.link, lane.images);
    } else if (step.kind == StepKind::kLocalLinear) {
      compute_local(lane, step.head.index);
    } else if (step.whole) {
      compute_whole(lane, step);
    }
    if ((step.whole || step.kind == StepKind::kInput) && step.tail.empty() && step.sends.empty()) {
      return {};
    }
    Status done = open_pads(lane, step);
    if (done.ok()) done = run_tiles(lane, step);
    close_pads();
    if (done.ok()) join_sums(lane, step);
    return done;
  }

  [[nodiscard]] double pad_seconds() const noexcept override {
    return static_cast<double>(pad_ns_.load(std::memory_order_relaxed)) * 1e-9;
  }

 private:
  Status prepare_layers() {
    const model::Plan& plan = setup_.plan;
    engines_.resize(plan.nodes.size());
    for (const Step& step : setup_.program.steps) {
      if (step.kind != StepKind::kLocalLinear) continue;
      auto engine = linear::make_engine(std::get<model::Linear>(plan.nodes[step.head.index].op),
                                        {.cpu = setup_.options.cpu,
                                         .pool = setup_.pool,
                                         .max_batch = setup_.options.micro_batch});
      if (!engine) return engine.error();
      engines_[step.head.index] = std::move(*engine);
    }
    for (const Link& link : setup_.program.links) {
      const model::Node& node = plan.nodes[link.node];
      const auto pad_code = static_cast<std::uint8_t>(plan.tensors[node.inputs[0]].zero_point);
      tables_.emplace_back(std::get<model::Linear>(node.op), setup_.input_form(), pad_code);
    }
    for (const model::Node& node : plan.nodes) {
      if (node.inputs.size() > kMaxOperands) {
        return Error{Errc::kInvalidArgument, "a node has more than 256 operands"};
      }
    }
    return {};
  }

  Status prepare_workers() {
    std::size_t pad_words = 0;
    std::size_t window_words = 0;
    std::size_t scratch = 0;
    std::size_t links = 0;
    std::size_t sends = 0;
    for (const Step& step : setup_.program.steps) {
      sends = std::max(sends, step.sends.size());
      std::size_t step_links = 0;
      for (const Part& part : step.sends) {
        pad_words = std::max(pad_words, step.largest_tile(part));
        step_links += setup_.program.uploads[part.index].links.size();
      }
      links = std::max(links, step_links);
      if (step.kind == StepKind::kRemoteLinear) {
        const Link& link = setup_.program.links[step.link];
        // A tile, what is left of the chunk before it, and the rest of the chunk that ends it.
        window_words = std::max(window_words, step.largest_tile(step.head) * link.channels +
                                                  2 * vault::Pads::chunk_words(link.field));
      }
    }
    for (const auto& op : setup_.operators) {
      if (op) scratch = std::max(scratch, op->scratch_bytes());
    }
    if (setup_.pads == nullptr) pad_words = window_words = sends = 0;
    const std::size_t images = setup_.options.micro_batch;
    using base::SecretArena;
    const std::size_t stream_bytes = sends * images * sizeof(field::PadStream);
    const std::size_t bytes =
        setup_.pool.size() * (images * SecretArena::bytes_for<std::uint32_t>(window_words) +
                              SecretArena::bytes_for<std::uint32_t>(pad_words) +
                              SecretArena::bytes_for<std::byte>(scratch) +
                              SecretArena::bytes_for<std::byte>(setup_.program.passing_bytes) +
                              SecretArena::bytes_for<field::OutputSum>(images) +
                              SecretArena::bytes_for<field::Residues>(links * images)) +
        SecretArena::bytes_for<std::byte>(stream_bytes);
    auto memory = SecretArena::create(bytes, base::Lock::kWhereAllowed);
    if (!memory) return memory.error();
    memory_ = std::move(*memory);
    workers_.resize(setup_.pool.size());
    for (Worker& worker : workers_) {
      for (std::size_t b = 0; b < images; ++b) {
        worker.windows.push_back({memory_.take<std::uint32_t>(window_words)});
      }
      worker.pad = memory_.take<std::uint32_t>(pad_words);
      worker.scratch = memory_.take<std::byte>(scratch);
      worker.passing = memory_.take<std::byte>(setup_.program.passing_bytes);
      worker.outputs = memory_.take<field::OutputSum>(images);
      worker.inputs = memory_.take<field::Residues>(links * images);
    }
    streams_ = reinterpret_cast<field::PadStream*>(memory_.take<std::byte>(stream_bytes).data());
    inputs_.resize(images);
    outputs_.resize(images);
    return {};
  }

  [[nodiscard]] std::byte* tensor(const Lane& lane, model::TensorId id, std::size_t image) const {
    return setup_.tensor(lane.arena, id, image);
  }
  [[nodiscard]] const std::uint8_t* codes(const Lane& lane, model::TensorId id,
                                          std::size_t image) const {
    return reinterpret_cast<const std::uint8_t*>(tensor(lane, id, image));
  }
  // place is where element 0 of one image's tensor is or would be: only the tile's elements of a
  // passing tensor exist.
  [[nodiscard]] std::byte* place(const Tile& tile, model::TensorId id, std::size_t image) const {
    const Place& place = setup_.program.places[id];
    if (!place.passing) return tensor(tile.lane, id, image);
    const std::size_t first =
        tile.begin(place.elements) * element_bytes(setup_.plan.tensors[id].dtype);
    // An address before the room: counted in integers, never dereferenced there.
    const auto start = reinterpret_cast<std::uintptr_t>(tile.worker.passing.data());
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    return reinterpret_cast<std::byte*>(start + place.offset + image * place.image_bytes - first);
  }

  void add_pad_time(Clock::time_point start) noexcept {
    pad_ns_.fetch_add(std::chrono::nanoseconds(Clock::now() - start).count(),
                      std::memory_order_relaxed);
  }

  void compute_local(Lane& lane, std::uint32_t node_index) noexcept {
    const model::Node& node = setup_.plan.nodes[node_index];
    const auto& linear = std::get<model::Linear>(node.op);
    const model::TensorInfo& in = setup_.plan.tensors[node.inputs[0]];
    const model::TensorInfo& out = setup_.plan.tensors[node.output];
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

  void compute_whole(const Lane& lane, const Step& step) noexcept {
    const Operator& op = *setup_.operators[step.head.index];
    const std::size_t tasks = base::div_up(op.units(), op.grain());
    setup_.pool.parallel_for(tasks, [&](std::size_t task, std::size_t worker) {
      const std::size_t first = task * op.grain();
      run_operator({lane, step, workers_[worker]}, step.head.index, first,
                   std::min(first + op.grain(), op.units()));
    });
  }

  // open_pads expands the keys of the pads that this step's uploads take.
  Status open_pads(const Lane& lane, const Step& step) {
    if (setup_.pads == nullptr) return {};
    for (const Part& part : step.sends) {
      const Upload& upload = setup_.program.uploads[part.index];
      for (std::size_t b = 0; b < lane.images; ++b) {
        base::Wiped<field::StreamKey> key;
        SLALOM_TRY(setup_.pads->pad_key(lane.tickets[b], upload.tensor, key.reveal()));
        new (streams_ + open_) field::PadStream(key.reveal(), upload.field, setup_.kernels);
        ++open_;
      }
    }
    return {};
  }

  void close_pads() noexcept {
    for (; open_ != 0; --open_) streams_[open_ - 1].~PadStream();
  }

  Status run_tiles(Lane& lane, const Step& step) {
    for (Worker& worker : workers_) {
      worker.done = {};
      std::fill(worker.outputs.begin(), worker.outputs.end(), field::OutputSum{});
      std::fill(worker.inputs.begin(), worker.inputs.end(), field::Residues{});
    }
    std::atomic<bool> failed{false};
    const std::size_t tasks = base::div_up(step.units, step.task_units);
    setup_.pool.parallel_for(tasks, [&](std::size_t task, std::size_t index) {
      Worker& worker = workers_[index];
      for (Window& window : worker.windows) window.first = window.last = 0;
      const std::size_t end = std::min((task + 1) * step.task_units, step.units);
      for (std::size_t u = task * step.task_units; u < end; u += step.tile_units) {
        if (failed.load(std::memory_order_relaxed)) return;
        worker.done = run_tile({lane, step, worker, u, std::min(u + step.tile_units, end)});
        if (!worker.done.ok()) failed.store(true);
      }
      setup_.kernels.fence();
    });
    for (const Worker& worker : workers_) SLALOM_TRY(worker.done);
    return {};
  }

  [[nodiscard]] Status run_tile(const Tile& tile) {
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

  Status consume(const Tile& tile) {
    const Lane& lane = tile.lane;
    const Link& link = setup_.program.links[tile.step.link];
    const std::size_t first = tile.begin(tile.step.head);
    const std::size_t last = tile.end(tile.step.head);
    const std::size_t first_word = first * link.channels;
    const model::TensorId id = setup_.plan.nodes[link.node].output;
    const bool wide = setup_.plan.tensors[id].dtype == model::Dtype::kI32;
    const std::byte* answer = lane.slots[lane.port].memory.data() + link.slot_offset;
    const field::Epilogue epilogue = tables_[tile.step.link].requantising();
    for (std::size_t b = 0; b < lane.images; ++b) {
      field::OutputTile words{
          .field = link.field,
          .positions = last - first,
          .channels = link.channels,
          .words = answer + b * link.image_bytes + first_word * field::word_bytes(link.field),
          .u = nullptr};
      if (setup_.pads != nullptr) {
        auto u = factors(lane, link, b, first_word, last * link.channels, tile.worker.windows[b]);
        if (!u) return u.error();
        words.u = *u;
      }
      const field::OutputChallenge challenge =
          checks_.output(lane.set.get(), tile.step.link, b).from(first);
      field::OutputSum& sum = tile.worker.outputs[b];
      std::byte* dst = place(tile, id, b);
      if (wide) {
        setup_.kernels.consume_integers(words, challenge, epilogue,
                                        reinterpret_cast<std::int32_t*>(dst) + first_word, sum);
      } else {
        setup_.kernels.consume_codes(words, challenge, epilogue,
                                     reinterpret_cast<std::uint8_t*>(dst) + first_word, sum);
      }
    }
    return {};
  }

  // factors returns words [first, last) of u for one image, opening the sealed chunks that it has
  // not yet. Calls of one task come in order, so the window only moves forward.
  Result<const std::uint32_t*> factors(const Lane& lane, const Link& link, std::size_t image,
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
    for (std::size_t n = 0; window.last < last; window.last += n) {
      n = std::min(chunk, link.words() - window.last);
      SLALOM_TRY(setup_.pads->open_factors(lane.tickets[image], link.node, link.field, window.last,
                                           window.words.subspan(window.last - window.first, n)));
    }
    add_pad_time(start);
    return const_cast<const std::uint32_t*>(window.words.data()) + (first - window.first);
  }

  void run_operator(const Tile& tile, std::uint32_t node_index, std::size_t first,
                    std::size_t last) const noexcept {
    const model::Node& node = setup_.plan.nodes[node_index];
    std::array<const std::uint8_t*, kMaxOperands> operands{};
    for (std::size_t b = 0; b < tile.lane.images; ++b) {
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        operands[i] = reinterpret_cast<const std::uint8_t*>(place(tile, node.inputs[i], b));
      }
      setup_.operators[node_index]->run({operands.data(), node.inputs.size()},
                                        place(tile, node.output, b), first, last,
                                        tile.worker.scratch);
    }
  }

  void send(const Tile& tile) noexcept {
    const Lane& lane = tile.lane;
    std::array<const std::uint8_t*, kMaxImages> x{};
    std::size_t row = 0;
    for (std::size_t s = 0; s < tile.step.sends.size(); ++s) {
      const Part& part = tile.step.sends[s];
      const Upload& upload = setup_.program.uploads[part.index];
      const std::size_t first = tile.begin(part);
      const std::size_t n = tile.end(part) - first;
      for (std::size_t b = 0; b < lane.images; ++b) {
        x[b] = reinterpret_cast<const std::uint8_t*>(place(tile, upload.tensor, b)) + first;
      }
      for (const std::uint32_t link : upload.links) {
        if (setup_.input_side_first()) {
          setup_.kernels.check_input(lane.set->layers()[link].input, first, n, x.data(),
                                     lane.images,
                                     &tile.worker.inputs[row * setup_.options.micro_batch]);
        }
        ++row;
      }
      for (std::size_t b = 0; b < lane.images; ++b) {
        std::byte* dst =
            lane.slots[lane.port].memory.data() + upload.slot_offset + b * upload.image_bytes;
        if (setup_.pads != nullptr) {
          mask(upload, streams_[s * lane.images + b], x[b], first, n, dst, tile.worker);
        } else {
          setup_.kernels.send_codes(x[b], n, dst + first);
        }
      }
    }
  }

  // mask writes elements [first, first + n) of one image, blinded. codes is at element `first`, dst
  // at the start of the image.
  void mask(const Upload& upload, const field::PadStream& stream, const std::uint8_t* codes,
            std::size_t first, std::size_t n, std::byte* dst, Worker& worker) noexcept {
    const auto start = Clock::now();
    stream.fill(first, worker.pad.first(n));
    add_pad_time(start);
    const auto zero = static_cast<std::uint8_t>(setup_.plan.tensors[upload.tensor].zero_point);
    setup_.kernels.blind(upload.field, codes, zero, worker.pad.data(), n,
                         dst + first * field::word_bytes(upload.field));
  }

  void join_sums(Lane& lane, const Step& step) noexcept {
    std::size_t row = 0;
    for (const Part& part : step.sends) {
      for (const std::uint32_t link : setup_.program.uploads[part.index].links) {
        for (std::size_t b = 0; b < lane.images; ++b) {
          field::Residues& sum = lane.input_sums[link * setup_.options.micro_batch + b];
          sum = {};
          for (const Worker& worker : workers_) {
            field::merge(setup_.program.links[link].field, sum,
                         worker.inputs[row * setup_.options.micro_batch + b]);
          }
        }
        ++row;
      }
    }
    if (step.kind != StepKind::kRemoteLinear) return;
    const Link& link = setup_.program.links[step.link];
    for (std::size_t b = 0; b < lane.images; ++b) {
      outputs_[b] = {};
      for (const Worker& worker : workers_) {
        field::merge(link.field, outputs_[b], worker.outputs[b]);
      }
      if (setup_.keep_inputs())
        inputs_[b] = codes(lane, setup_.program.uploads[link.upload].tensor, b);
    }
    checks_.finish_answer(
        lane.set.get(), step.link, std::span(outputs_).first(lane.images),
        lane.input_sums.subspan(step.link * setup_.options.micro_batch, lane.images),
        std::span(inputs_).first(lane.images), lane.verdict);
  }

  Setup& setup_;
  Checks& checks_;
  std::vector<std::unique_ptr<linear::Engine>> engines_;  // by node; local layers
  std::vector<field::EpilogueTables> tables_;             // by link
  base::SecretArena memory_;
  std::vector<Worker> workers_;
  field::PadStream* streams_ = nullptr;      // of the step: by upload, then image
  std::size_t open_ = 0;                     // how many of them live
  std::vector<const std::uint8_t*> inputs_;  // of the layer that is being checked
  std::vector<field::OutputSum> outputs_;
  std::atomic<std::int64_t> pad_ns_{0};
};

}  // namespace

Result<std::unique_ptr<Pass>> Pass::create(Setup& setup, Checks& checks) {
  auto pass = std::make_unique<TiledPass>(setup, checks);
  SLALOM_TRY(pass->prepare());
  return std::unique_ptr<Pass>(std::move(pass));
}

}  // namespace slalom::runtime
