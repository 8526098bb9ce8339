// SPDX-License-Identifier: Apache-2.0
// The paper's micro-benchmarks (Tramer and Boneh 2019, section 4.3 and appendix): a layer computed
// in the trusted process beside the check of a device's answer to it, on one core. Dense layers of
// n x n; 3x3 convolutions and separable convolutions with as many channels out as in.
//   bench_paper --benchmark_filter=conv
//   paper/SHAPE/compute               int8, requantised, the engine that the runtime takes
//   paper/SHAPE/preprocessed/images:B input side, and the pass over the answer (both checks,
//                                     requantised); B images share the check vectors' tiles
//   paper/SHAPE/batched/images:B      the same with a challenge drawn for each batch
// A separable shape is checked as one layer ("fused") and as two, each with its own answer.
// Answers are the right ones, and every check has accepted them before it is timed. Counters, an
// image: us, and `faster`, the least time to compute over this time (if compute ran before).

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "field/challenge.h"
#include "field/random.h"
#include "field/requant.h"
#include "linear/engine.h"
#include "linear_shapes.h"

namespace slalom::bench {
namespace {

using field::Field;

constexpr std::size_t kOutputTile = 8192;  // words
constexpr std::size_t kInputTile = 4096;   // codes
constexpr std::uint8_t kPadCode = 0;       // the zero point after a ReLU

const field::Kernels& kernels() {
  static const field::Kernels& chosen = field::choose_kernels(base::detect_cpu());
  return chosen;
}

field::Random& system_random() {
  static const std::unique_ptr<field::Random> random =
      std::move(field::make_system_random(base::detect_cpu())).value();
  return *random;
}

// Shape is a list of layers, one after the other, and the largest batch it is measured with.
struct Shape {
  std::string name;
  std::vector<model::Linear> (*make)(std::uint32_t size, std::uint32_t channels);
  std::uint32_t size, channels;
  std::size_t compute_batch;
  std::vector<std::size_t> batches;
};

void choose_field(model::Linear& layer) {
  const std::vector<std::int64_t> bounds = model::sum_bound(layer);
  const std::int64_t most = *std::max_element(bounds.begin(), bounds.end());
  layer.field = most <= (modulus(Field::kP24) - 1) / 2 ? Field::kP24 : Field::kP31;
}

std::vector<model::Linear> dense(std::uint32_t n, std::uint32_t) {
  std::vector<model::Linear> layers{make_layer({1, n, n, 1, 1, 1, 1})};
  choose_field(layers[0]);
  return layers;
}

std::vector<model::Linear> conv(std::uint32_t size, std::uint32_t channels) {
  std::vector<model::Linear> layers{make_layer({size, channels, channels, 3, 1, 1, 1})};
  choose_field(layers[0]);
  return layers;
}

std::vector<model::Linear> two_layers(std::uint32_t size, std::uint32_t channels) {
  std::vector<model::Linear> layers{make_layer({size, channels, channels, 3, 1, channels, 1}),
                                    make_layer({size, channels, channels, 1, 1, 1, 1})};
  for (model::Linear& layer : layers) choose_field(layer);
  return layers;
}

std::vector<model::Linear> fused(std::uint32_t size, std::uint32_t channels) {
  std::vector<model::Linear> pair = two_layers(size, channels);
  std::vector<model::Linear> layers{pair[1]};
  layers[0].stages.insert(layers[0].stages.begin(), pair[0].stages[0]);
  for (float& m : layers[0].requant.multiplier) m /= 100;
  choose_field(layers[0]);
  return layers;
}

// Asked is one layer with images for it and what an honest device answers, as it lies in a slot.
struct Asked {
  const model::Linear* layer;
  std::unique_ptr<linear::Engine> engine;
  field::EpilogueTables tables;
  std::vector<std::uint8_t> codes;
  std::vector<std::byte> answers;
  std::vector<std::uint8_t> out;

  Asked(const model::Linear& l, base::ThreadPool& pool, const Shape& shape)
      : layer(&l), tables(l, field::InputForm::kCodes, kPadCode) {
    const std::size_t images = std::max(
        shape.compute_batch, *std::max_element(shape.batches.begin(), shape.batches.end()));
    engine = std::move(linear::make_engine(l, {.cpu = base::detect_cpu(),
                                               .pool = pool,
                                               .max_batch = shape.compute_batch}))
                 .value();
    codes.resize(images * l.in().elements());
    std::mt19937 random(static_cast<std::uint32_t>(codes.size()));
    for (auto& q : codes) q = static_cast<std::uint8_t>(random());
    const Field f = *l.field;
    const std::size_t words = l.out().elements();
    answers.resize(images * words * word_bytes(f));
    out.resize(shape.compute_batch * words);
    std::vector<std::int32_t> y(words);
    std::vector<std::uint32_t> residues(words);
    for (std::size_t b = 0; b < images; ++b) {
      engine->run_codes({codes.data() + b * l.in().elements(), l.in().elements()}, kPadCode, 1, y);
      for (std::size_t i = 0; i < words; ++i) {
        const std::int64_t p = modulus(f);
        residues[i] = static_cast<std::uint32_t>((y[i] % p + p) % p);
      }
      kernels().pack(f, residues.data(), words, answers.data() + b * words * word_bytes(f));
    }
  }

  [[nodiscard]] const std::uint8_t* image(std::size_t b) const {
    return codes.data() + b * layer->in().elements();
  }

  // consume takes one answer in, tile by tile, as the runtime does.
  field::OutputSum consume(const field::OutputChallenge& challenge, std::size_t b) {
    const Field f = *layer->field;
    const std::size_t channels = layer->out().c;
    const std::size_t positions = layer->out().positions();
    const std::size_t step = std::max<std::size_t>(1, kOutputTile / channels);
    const std::byte* words = answers.data() + b * positions * channels * word_bytes(f);
    const field::Epilogue epilogue = tables.requantising();
    field::OutputSum sum;
    for (std::size_t at = 0; at < positions; at += step) {
      kernels().consume_codes({f, std::min(step, positions - at), channels,
                               words + at * channels * word_bytes(f), nullptr},
                              challenge.from(at), epilogue, out.data() + at * channels, sum);
    }
    return sum;
  }
};

struct Setup {
  base::ThreadPool pool{1};
  std::vector<model::Linear> layers;
  std::vector<field::CheckedLayer> checked;
  std::vector<Asked> asked;

  explicit Setup(const Shape& shape) : layers(shape.make(shape.size, shape.channels)) {
    for (const model::Linear& layer : layers) {
      checked.push_back({&layer, kPadCode, field::InputForm::kCodes});
      asked.emplace_back(layer, pool, shape);
    }
  }
};

Setup& setup_of(const Shape& shape) {
  static std::string last;
  static std::unique_ptr<Setup> setup;
  if (last != shape.name) {
    setup.reset();
    setup = std::make_unique<Setup>(shape);
    last = shape.name;
  }
  return *setup;
}

// What an image took to compute, by what it is held against.
std::map<std::string, double>& computed() {
  static std::map<std::string, double> seconds;
  return seconds;
}

// timed runs body until there was time enough, and reports an image's share.
template <class Body>
double timed(benchmark::State& state, const std::string& against, std::size_t images, Body body) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  for (auto _ : state) body();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count() /
                         static_cast<double>(images) / static_cast<double>(state.iterations());
  state.counters["us"] = 1e6 * seconds;
  const auto found = computed().find(against);
  if (found != computed().end()) state.counters["faster"] = found->second / seconds;
  return seconds;
}

bool accepted(field::Verdict& verdict) {
  return static_cast<field::Verdict&&>(verdict).take_verdict();
}

void compute(benchmark::State& state, const Shape& shape, const std::string& against) {
  Setup& setup = setup_of(shape);
  const auto all = [&] {
    for (Asked& a : setup.asked) {
      const std::size_t n = shape.compute_batch * a.layer->in().elements();
      a.engine->run_requant({a.codes.data(), n}, kPadCode, shape.compute_batch, a.out);
      benchmark::DoNotOptimize(a.out.data());
    }
  };
  all();
  const double seconds = timed(state, "", shape.compute_batch, all);
  // Of two ways to compute the same the faster is the one to be beaten.
  const auto [at, fresh] = computed().emplace(against, seconds);
  if (!fresh) at->second = std::min(at->second, seconds);
  state.SetLabel(std::string(setup.asked[0].engine->backend_name()));
}

void preprocessed(benchmark::State& state, const Shape& shape, const std::string& against,
                  std::size_t images) {
  Setup& setup = setup_of(shape);
  const auto set =
      std::move(field::ChallengeSet::create(setup.checked, {}, kernels(), system_random())).value();
  field::Verdict verdict;
  std::vector<field::Residues> inputs(images);
  std::vector<const std::uint8_t*> starts(images);
  const auto check = [&] {
    for (std::size_t i = 0; i < setup.asked.size(); ++i) {
      Asked& a = setup.asked[i];
      const field::ChallengeSet::Layer& layer = set->layers()[i];
      inputs.assign(images, {});
      const std::size_t elements = a.layer->in().elements();
      for (std::size_t first = 0; first < elements; first += kInputTile) {
        for (std::size_t b = 0; b < images; ++b) starts[b] = a.image(b) + first;
        kernels().check_input(layer.input, first, std::min(kInputTile, elements - first),
                              starts.data(), images, inputs.data());
      }
      for (std::size_t b = 0; b < images; ++b) {
        const field::OutputSum out = a.consume(layer.output, b);
        verdict.add(layer.difference(out, inputs[b]), out.bad);
      }
    }
  };
  check();
  timed(state, against, images, check);
  if (!accepted(verdict)) state.SkipWithError("a right answer was rejected");
  state.SetLabel(std::string(kernels().name));
}

void batched(benchmark::State& state, const Shape& shape, const std::string& against,
             std::size_t images) {
  Setup& setup = setup_of(shape);
  auto fresh =
      std::move(field::FreshChallenge::create(setup.checked, images, true, {}, kernels())).value();
  std::vector<std::uint32_t> scratch(fresh.scratch_words());
  std::vector<field::OutputSum> outputs(images);
  std::vector<const std::uint8_t*> starts(images);
  field::Verdict verdict;
  const auto check = [&] {
    for (std::size_t i = 0; i < setup.asked.size(); ++i) {
      Asked& a = setup.asked[i];
      fresh.draw(i, images, system_random());
      std::uint32_t bad = 0;
      for (std::size_t b = 0; b < images; ++b) {
        outputs[b] = a.consume(fresh.output(), b);
        bad |= outputs[b].bad;
        starts[b] = a.image(b);
      }
      field::Residues input;
      fresh.input_rows(0, a.layer->in().h, starts, scratch, input);
      verdict.add(fresh.difference(outputs, input), bad);
    }
  };
  check();
  timed(state, against, images, check);
  if (!accepted(verdict)) state.SkipWithError("a right answer was rejected");
  state.SetLabel(std::string(kernels().name));
}

class Measurement : public benchmark::internal::Benchmark {
 public:
  Measurement(const std::string& name, std::function<void(benchmark::State&)> body)
      : Benchmark(name.c_str()), body_(std::move(body)) {
    Unit(benchmark::kMillisecond)->UseRealTime();
  }
  void Run(benchmark::State& state) override { body_(state); }

 private:
  std::function<void(benchmark::State&)> body_;
};

void add(const Shape& shape, const std::string& what, std::function<void(benchmark::State&)> body) {
  // The library owns it from here on.
  benchmark::internal::RegisterBenchmarkInternal(
      new Measurement("paper/" + shape.name + "/" + what, std::move(body)));
}  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks)

// `against`: checks of several forms of one shape are held against the same computation.
void add_shape(const Shape& shape, const std::string& against) {
  add(shape, "compute", [=](benchmark::State& state) { compute(state, shape, against); });
  for (const std::size_t images : {std::size_t{1}, std::size_t{4}}) {
    add(shape, "preprocessed/images:" + std::to_string(images),
        [=](benchmark::State& state) { preprocessed(state, shape, against, images); });
  }
  for (const std::size_t images : shape.batches) {
    add(shape, "batched/images:" + std::to_string(images),
        [=](benchmark::State& state) { batched(state, shape, against, images); });
  }
}

void add_all() {
  for (std::uint32_t n = 256; n <= 8192; n *= 2) {
    const std::string name = "dense/" + std::to_string(n);
    // The paper's batch is n; a batched check takes 256 images at most.
    add_shape({name, dense, n, n, 256, {16, 256}}, name);
  }
  constexpr std::pair<std::uint32_t, std::uint32_t> kConvs[] = {
      {224, 64}, {112, 128}, {56, 256}, {28, 512}, {14, 512}};
  for (const auto& [size, channels] : kConvs) {
    const std::string name = "conv/" + std::to_string(size) + "x" + std::to_string(channels);
    add_shape({name, conv, size, channels, 4, {4, 8, 12, 16}}, name);
  }
  constexpr std::pair<std::uint32_t, std::uint32_t> kSeparable[] = {
      {112, 32}, {56, 128}, {28, 256}, {14, 512}};
  for (const auto& [size, channels] : kSeparable) {
    const std::string name = "separable/" + std::to_string(size) + "x" + std::to_string(channels);
    add_shape({name + "/two_layers", two_layers, size, channels, 4, {4, 8, 16, 32}}, name);
    add_shape({name + "/fused", fused, size, channels, 4, {4, 8, 16, 32}}, name);
  }
}

}  // namespace
}  // namespace slalom::bench

int main(int argc, char** argv) {
  slalom::bench::add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
