// SPDX-License-Identifier: Apache-2.0
// The executor on whole networks, in one process. The device's answers were recorded beforehand
// (from the CPU device, honest), so that what is timed is the trusted side alone: the time that it
// takes to put an answer into its slot is measured and left out. Pads are the same in every
// inference, which is what makes a recording possible; their words and factors are made and opened
// as in earnest.
//
// Counters: images/s and ns a word of the devices' answers, both of trusted time; GB/s over the
// border. "local" is the honest alternative: the same network wholly inside, in int8.

#include <benchmark/benchmark.h>
#include <immintrin.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device/cpu/cpu_device.h"
#include "field/pad_stream.h"
#include "inference_networks.h"
#include "linear/engine.h"
#include "runtime/executor.h"
#include "thread_counts.h"
#include "vault/sealer.h"

namespace slalom::bench {
namespace {

using model::Integrity;
using model::Privacy;

// seconds_now is the wall clock, or, for one thread, the processor time of this process, which
// other programs on the machine disturb less.
double seconds_now(bool processor) {
  timespec now{};
  clock_gettime(processor ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

constexpr std::size_t kThreadsOfSetup = 2;

[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "bench_inference: %s\n", what);
  std::exit(1);
}

// RecordingPort asks the CPU device the first time that a layer comes, and afterwards repeats what
// it answered to the first image of the batch.
class RecordingPort final : public channel::Port {
 public:
  RecordingPort(std::shared_ptr<const model::Plan> plan, std::size_t bytes, std::size_t batch)
      : device_({.cpu = base::detect_cpu(), .threads = kThreadsOfSetup}), memory_(bytes + 4096) {
    if (!device_.load(std::move(plan), batch).ok()) stop("the CPU device does not load");
    queue_.reserve(4096);
  }
  double copy_seconds = 0;
  bool processor_time = false;

  Result<channel::Slot> allocate(std::size_t bytes) override {
    const std::size_t at =
        used_ + (64 - (reinterpret_cast<std::uintptr_t>(memory_.data()) + used_) % 64) % 64;
    used_ = at + bytes;
    if (used_ > memory_.size()) return Error{Errc::kUnavailable, "full"};
    return channel::Slot{at, {memory_.data() + at, bytes}};
  }
  Result<std::uint64_t> submit(channel::Request request) override {
    request.sequence = ++sequence_;
    out_ += request.input_bytes;
    if (answers_.count(request.layer) == 0) record(request);
    queue_.push_back(request);
    return request.sequence;
  }
  Result<std::optional<channel::Completion>> poll() override {
    if (next_ == queue_.size()) return std::optional<channel::Completion>();
    const channel::Request request = queue_[next_++];
    if (next_ == queue_.size()) {
      queue_.clear();
      next_ = 0;
    }
    const double start = seconds_now(processor_time);
    const auto& answer = answers_.at(request.layer);
    for (std::uint32_t b = 0; b < request.batch; ++b) {
      deliver(memory_.data() + request.output_offset + b * answer.size(), answer);
    }
    copy_seconds += seconds_now(processor_time) - start;
    in_ += request.output_bytes;
    return std::optional(channel::Completion{request.sequence, true, 0});
  }
  Result<std::optional<channel::Completion>> wait(std::chrono::nanoseconds /*time*/) override {
    return poll();
  }
  std::uint64_t bytes_out() const noexcept override { return out_; }
  std::uint64_t bytes_in() const noexcept override { return in_; }

 private:
  // deliver writes past the caches, as a device does, and leaves no dirty lines to be paid for
  // later.
  static void deliver(std::byte* to, const std::vector<std::byte>& answer) {
    std::size_t at = 0;
    for (; at < answer.size() && reinterpret_cast<std::uintptr_t>(to + at) % 16 != 0; ++at) {
      to[at] = answer[at];
    }
    for (; at + 16 <= answer.size(); at += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + at),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(answer.data() + at)));
    }
    for (; at < answer.size(); ++at) to[at] = answer[at];
    _mm_sfence();
  }
  void record(const channel::Request& request) {
    std::vector<std::byte> output(request.output_bytes);
    device::Job job;
    job.layer = request.layer;
    job.batch = request.batch;
    job.attempt = request.attempt;
    job.kind = request.kind;
    job.field = request.field;
    job.pad_code = request.pad_code;
    job.input = {memory_.data() + request.input_offset, request.input_bytes};
    job.output = output;
    if (!device_.run(job).ok()) stop("the CPU device does not answer");
    output.resize(output.size() / request.batch);
    answers_[request.layer] = std::move(output);
  }

  device::CpuDevice device_;
  std::vector<std::byte> memory_;
  std::size_t used_ = 0;
  std::uint64_t sequence_ = 0, out_ = 0, in_ = 0;
  std::vector<channel::Request> queue_;
  std::size_t next_ = 0;
  std::map<std::uint32_t, std::vector<std::byte>> answers_;
};

// RepeatingPads gives every image the same pads. Factors are sealed once and opened each time, or
// kept as they are.
class RepeatingPads final : public vault::Pads {
 public:
  RepeatingPads(const model::Plan& plan, bool in_memory)
      : in_memory_(in_memory), kernels_(field::choose_kernels(base::detect_cpu())) {
    key_.fill(std::byte{7});
    base::ThreadPool pool(kThreadsOfSetup);
    for (std::uint32_t n = 0; n < plan.nodes.size(); ++n) {
      const auto* layer = std::get_if<model::Linear>(&plan.nodes[n].op);
      if (layer == nullptr || !layer->field) continue;
      seal(*layer, n, plan.nodes[n].inputs[0], pool);
    }
  }
  Result<vault::PadTicket> take() override { return vault::PadTicket{1, true}; }
  Status pad_key(const vault::PadTicket& /*ticket*/, model::TensorId tensor,
                 field::StreamKey& key) override {
    key = stream_key(tensor);
    return {};
  }
  Status open_factors(const vault::PadTicket& /*ticket*/, std::uint32_t node, field::Field f,
                      std::size_t first, std::span<std::uint32_t> out) override {
    const Sealed& sealed = sealed_.at(node);
    const std::size_t chunk = first / chunk_words(f);
    const std::size_t bytes = out.size() * field::word_bytes(f);
    const std::byte* const kept = sealed.bytes.data() + first * field::word_bytes(f);
    if (in_memory_) {
      kernels_.unpack(f, kept, out.size(), out.data());
      return {};
    }
    thread_local std::vector<std::byte> buffer(chunk_words(f) * 4);
    std::memcpy(buffer.data(), kept, bytes);
    vault::Sealer sealer(key_, address(node));
    auto tag = sealed.tags[chunk];
    SLALOM_TRY(sealer.open(static_cast<std::uint32_t>(chunk), {buffer.data(), bytes}, tag));
    kernels_.unpack(f, buffer.data(), out.size(), out.data());
    return {};
  }
  void destroy(const vault::PadTicket& /*ticket*/) override {}
  Result<std::uint64_t> prepare(std::uint64_t count, Progress /*progress*/,
                                void* /*context*/) override {
    return count;
  }
  std::uint64_t stock() const noexcept override { return ~0ULL; }
  std::uint64_t bytes_per_image() const noexcept override { return 0; }

 private:
  struct Sealed {
    std::vector<std::byte> bytes;
    std::vector<std::array<std::byte, vault::kTagBytes>> tags;
  };
  field::StreamKey stream_key(model::TensorId tensor) const {
    field::StreamKey key;
    field::Address address;
    address.index = tensor;
    field::derive_stream_key(key_, address, key);
    return key;
  }
  static field::Address address(std::uint32_t node) {
    field::Address out;
    out.index = node;
    return out;
  }
  void seal(const model::Linear& layer, std::uint32_t node, model::TensorId tensor,
            base::ThreadPool& pool) {
    const field::Field f = *layer.field;
    std::vector<std::uint32_t> r(layer.in().elements());
    std::vector<std::uint32_t> u(layer.out().elements());
    field::PadStream(stream_key(tensor), f, kernels_).fill(0, r);
    auto engine =
        linear::make_engine(layer, {.cpu = base::detect_cpu(), .pool = pool, .prove = false});
    if (!engine) stop("no engine for the factors");
    (*engine)->run_words(f, r, 1, u);
    Sealed sealed;
    sealed.bytes.resize(u.size() * field::word_bytes(f));
    kernels_.pack(f, u.data(), u.size(), sealed.bytes.data());
    if (in_memory_) {
      sealed_[node] = std::move(sealed);
      return;
    }
    vault::Sealer sealer(key_, address(node));
    const std::size_t chunk = chunk_words(f) * field::word_bytes(f);
    for (std::size_t at = 0; at < sealed.bytes.size(); at += chunk) {
      auto& tag = sealed.tags.emplace_back();
      sealer.seal(static_cast<std::uint32_t>(at / chunk),
                  {sealed.bytes.data() + at, std::min(chunk, sealed.bytes.size() - at)}, tag);
    }
    sealed_[node] = std::move(sealed);
  }

  const bool in_memory_;
  const field::Kernels& kernels_;
  field::StreamKey key_{};
  std::map<std::uint32_t, Sealed> sealed_;
};

class RepeatingSource final : public runtime::Source {
 public:
  RepeatingSource(const std::vector<std::uint8_t>& image, std::size_t count)
      : image_(image), left_(count) {}
  bool next(std::span<std::uint8_t> codes) override {
    if (left_ == 0) return false;
    --left_;
    std::memcpy(codes.data(), image_.data(), codes.size());
    return true;
  }

 private:
  const std::vector<std::uint8_t>& image_;
  std::size_t left_;
};
class ComparingSink final : public runtime::Sink {
 public:
  explicit ComparingSink(std::vector<std::int32_t>& expected) : expected_(expected) {}
  void deliver(std::uint64_t /*image*/, std::span<const runtime::OutputView> outputs) override {
    const auto& got = outputs[0].integers;
    if (expected_.empty()) expected_.assign(got.begin(), got.end());
    if (!std::equal(got.begin(), got.end(), expected_.begin(), expected_.end())) {
      stop("two modes give different integers");
    }
  }
  void fail(std::uint64_t /*image*/, Error error) override { stop(error.message); }

 private:
  std::vector<std::int32_t>& expected_;
};

struct Mode {
  const char* name;
  bool local;
  Integrity integrity;
  Privacy privacy;
  bool pads_in_memory = false;
};
constexpr Mode kModes[] = {
    {"local", true, Integrity::kOff, Privacy::kOff},
    {"unchecked", false, Integrity::kOff, Privacy::kOff},
    {"verified", false, Integrity::kPreprocessed, Privacy::kOff},
    {"private", false, Integrity::kOff, Privacy::kPads},
    {"private_verified", false, Integrity::kPreprocessed, Privacy::kPads},
    {"private_verified_memory", false, Integrity::kPreprocessed, Privacy::kPads, true},
    {"verified_batched", false, Integrity::kBatched, Privacy::kOff},
    {"verified_plain", false, Integrity::kPlain, Privacy::kOff},
};

// Network is a plan and the integers that every mode has to give.
struct Network {
  std::shared_ptr<const model::Plan> plan;
  std::vector<std::uint8_t> image;
  std::vector<std::int32_t> expected;
  double answer_words = 0;
};
Network& network_of(const std::string& name) {
  static std::map<std::string, Network> all;
  Network& net = all[name];
  if (net.plan != nullptr) return net;
  net.plan = std::make_shared<const model::Plan>(network(name));
  std::mt19937 random(1);
  net.image.resize(net.plan->tensors[net.plan->inputs[0]].shape.elements());
  for (auto& q : net.image) q = static_cast<std::uint8_t>(random());
  for (const model::Node& node : net.plan->nodes) {
    const auto* layer = std::get_if<model::Linear>(&node.op);
    if (layer != nullptr && layer->field) {
      net.answer_words += static_cast<double>(layer->out().elements());
    }
  }
  return net;
}

// Rig is an executor with a port and pads; its members die in the right order.
struct Rig {
  std::unique_ptr<RecordingPort> port;
  std::unique_ptr<RepeatingPads> pads;
  std::unique_ptr<runtime::Executor> executor;
};

constexpr std::size_t kInFlight = 2;

std::unique_ptr<Rig> make_rig(const Network& net, const Mode& mode, std::size_t threads,
                              std::size_t micro_batch) {
  runtime::Options options;
  options.integrity = mode.integrity;
  options.privacy = mode.privacy;
  options.threads = threads;
  options.bind = true;
  options.micro_batch = micro_batch;
  options.in_flight = kInFlight;
  options.cpu = base::detect_cpu();
  const auto placement = runtime::default_placement(*net.plan);
  auto rig = std::make_unique<Rig>();
  std::vector<channel::Port*> ports;
  if (!mode.local) {
    rig->port = std::make_unique<RecordingPort>(
        net.plan, runtime::port_bytes(*net.plan, placement, options) + 8192, micro_batch);
    rig->port->processor_time = threads == 1;
    ports.push_back(rig->port.get());
    if (mode.privacy != Privacy::kOff) {
      rig->pads = std::make_unique<RepeatingPads>(*net.plan, mode.pads_in_memory);
    }
  }
  auto executor = runtime::Executor::create(*net.plan, placement, options, ports, rig->pads.get());
  if (!executor) stop(executor.error().message);
  rig->executor = std::move(executor).value();
  return rig;
}

void inference(benchmark::State& state, const std::string& name, const Mode& mode,
               std::size_t threads, std::size_t micro_batch) {
  Network& net = network_of(name);
  const std::size_t images = micro_batch * kInFlight;
  ComparingSink sink(net.expected);
  // Repetitions of one benchmark follow each other: they share what takes long to record.
  static std::string last;
  static std::unique_ptr<Rig> rig;
  const auto run = [&] {
    RepeatingSource source(net.image, images);
    if (!rig->executor->run(source, sink).ok()) stop("a run fails");
  };
  const std::string key =
      name + '/' + mode.name + '/' + std::to_string(threads) + '/' + std::to_string(micro_batch);
  if (key != last) {
    rig.reset();
    rig = make_rig(net, mode, threads, micro_batch);
    run();  // records, warms, and checks the result
    last = key;
  }
  RecordingPort* const port = rig->port.get();
  runtime::Executor* const executor = rig->executor.get();
  const double pads_before = executor->stats().pad_s;
  double best = 1e9;
  for (auto _ : state) {
    if (port) port->copy_seconds = 0;
    const double start = seconds_now(threads == 1);
    run();
    const double seconds = seconds_now(threads == 1) - start - (port ? port->copy_seconds : 0);
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  const double count = static_cast<double>(state.iterations()) * static_cast<double>(images);
  state.counters["images/s"] = benchmark::Counter(count, benchmark::Counter::kIsRate);
  if (mode.local) return;
  const double words = count * net.answer_words;
  state.counters["ns/word"] =
      benchmark::Counter(words * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["best_ns/word"] = best * 1e9 / (net.answer_words * static_cast<double>(images));
  state.counters["pad_ns/word"] = (executor->stats().pad_s - pads_before) * 1e9 / words;
}

void register_all() {
  for (const char* name : {"vgg16", "resnet50", "mobilenet"}) {
    for (const Mode& mode : kModes) {
      for (const std::size_t threads : thread_counts()) {
        for (const std::size_t batch : {1, 4, 8, 16}) {
          const std::string title = std::string(name) + "/" + mode.name +
                                    "/threads:" + std::to_string(threads) +
                                    "/batch:" + std::to_string(batch);
          benchmark::RegisterBenchmark(
              title.c_str(),
              [=](benchmark::State& state) { inference(state, name, mode, threads, batch); })
              ->UseManualTime()
              ->Unit(benchmark::kMillisecond);
        }
      }
    }
  }
}

}  // namespace
}  // namespace slalom::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  slalom::bench::register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
