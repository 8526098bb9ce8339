// SPDX-License-Identifier: Apache-2.0
// Linear layers of whole networks at 224x224 (convolutions and dense layers only), with and without
// AMX, by operation. The integer engines have proved themselves against plain loops before they are
// timed. Counters: GMAC/s (multiplications of the network, limbs not counted) and images/s.

#include "linear/engine.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "linear_shapes.h"
#include "thread_counts.h"
#ifdef SLALOM_WITH_ONEDNN
#include "linear_onednn.h"
#endif

namespace slalom::bench {
namespace {

enum class Operation { kCodes, kRequant, kWords24, kWords31 };

struct Prepared {
  std::vector<model::Linear> layers;
  std::vector<std::unique_ptr<linear::Engine>> engines;
  double macs = 0;
};

std::unique_ptr<Prepared> prepare(const std::vector<LayerShape>& shapes, bool amx,
                                  base::ThreadPool& pool, std::size_t batch) {
  auto out = std::make_unique<Prepared>();
  for (const LayerShape& shape : shapes) out->layers.push_back(make_layer(shape));
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    base::CpuFeatures cpu = base::detect_cpu();
    cpu.amx_int8 = cpu.amx_int8 && amx;
    auto engine =
        linear::make_engine(out->layers[i], {.cpu = cpu, .pool = pool, .max_batch = batch});
    if (!engine) return nullptr;
    out->engines.push_back(std::move(engine).value());
    out->macs += static_cast<double>(shapes[i].count) * macs(out->layers[i]);
  }
  return out;
}

void run(const Prepared& net, const std::vector<LayerShape>& shapes, Operation operation,
         std::size_t batch, std::vector<std::uint8_t>& codes, std::vector<std::uint32_t>& words) {
  for (std::size_t i = 0; i < net.engines.size(); ++i) {
    const std::size_t in = batch * net.layers[i].in().elements();
    const std::size_t out = batch * net.layers[i].out().elements();
    linear::Engine& engine = *net.engines[i];
    for (std::size_t repeat = 0; repeat < shapes[i].count; ++repeat) {
      switch (operation) {
        case Operation::kCodes:
          engine.run_codes({codes.data(), in}, 0, batch,
                           {reinterpret_cast<std::int32_t*>(words.data()), out});
          break;
        case Operation::kRequant:
          engine.run_requant({codes.data(), in}, 0, batch, {codes.data() + codes.size() / 2, out});
          break;
        case Operation::kWords24:
        case Operation::kWords31:
          engine.run_words(
              operation == Operation::kWords24 ? field::Field::kP24 : field::Field::kP31,
              {words.data() + words.size() / 2, in}, batch, {words.data(), out});
          break;
      }
    }
  }
}

void report(benchmark::State& state, double macs, std::size_t batch) {
  const auto images = static_cast<double>(state.iterations()) * static_cast<double>(batch);
  state.counters["GMAC/s"] = benchmark::Counter(macs * images / 1e9, benchmark::Counter::kIsRate);
  state.counters["images/s"] = benchmark::Counter(images, benchmark::Counter::kIsRate);
}

void network(benchmark::State& state, const char* name, bool amx, Operation operation,
             std::size_t threads, std::size_t batch) {
  const std::vector<LayerShape> shapes = network_shapes(name);
  // Repetitions of one benchmark follow each other: they share what takes long to prove.
  static std::string last;
  static std::unique_ptr<base::ThreadPool> pool;
  static std::unique_ptr<Prepared> net;
  const std::string key = std::string(name) + '/' + (amx ? '+' : '-') + '/' +
                          std::to_string(threads) + '/' + std::to_string(batch);
  if (key != last) {
    net.reset();
    pool = std::make_unique<base::ThreadPool>(threads);
    net = prepare(shapes, amx, *pool, batch);
    last = key;
  }
  if (net == nullptr) {
    state.SkipWithError("no engine serves this network here");
    return;
  }
  std::size_t largest = 0;
  for (const model::Linear& layer : net->layers) {
    largest = std::max({largest, layer.in().elements(), layer.out().elements()});
  }
  std::mt19937 random(1);
  std::vector<std::uint8_t> codes(2 * batch * largest);
  std::vector<std::uint32_t> words(2 * batch * largest);
  for (auto& q : codes) q = static_cast<std::uint8_t>(random());
  for (auto& v : words) v = static_cast<std::uint32_t>(random() % field::kP24);
  for (auto _ : state) run(*net, shapes, operation, batch, codes, words);
  report(state, net->macs, batch);
  state.SetLabel(std::string(net->engines.back()->backend_name()));
}

#ifdef SLALOM_WITH_ONEDNN
// oneDNN's own primitives, to hold the engines against.
void onednn_network(benchmark::State& state, const char* name, OneDnnNetwork::Kind kind,
                    std::size_t threads, std::size_t batch) {
  const std::vector<LayerShape> shapes = network_shapes(name);
  static std::string last;
  static std::unique_ptr<OneDnnNetwork> net;
  const std::string key = std::string(name) + '/' + std::to_string(static_cast<int>(kind)) + '/' +
                          std::to_string(threads) + '/' + std::to_string(batch);
  if (key != last) {
    net = std::make_unique<OneDnnNetwork>(shapes, kind, threads, batch);
    last = key;
  }
  double total = 0;
  for (const LayerShape& shape : shapes) {
    const model::Conv c = make_conv(shape);
    total += static_cast<double>(shape.count) * static_cast<double>(c.out.elements()) *
             static_cast<double>(c.terms());
  }
  net->run();
  for (auto _ : state) net->run();
  report(state, total, batch);
}
#endif

template <class Body>
void add(const std::string& name, std::size_t threads, std::size_t batch, Body body) {
  const std::string full =
      name + "/threads:" + std::to_string(threads) + "/batch:" + std::to_string(batch);
  benchmark::RegisterBenchmark(full.c_str(), body)->Unit(benchmark::kMillisecond)->UseRealTime();
}

void add_all() {
  struct Named {
    const char* name;
    bool amx;
  };
  constexpr Named kEngines[] = {{"auto", true}, {"no_amx", false}};
  constexpr std::pair<const char*, Operation> kOperations[] = {{"requant", Operation::kRequant},
                                                               {"codes", Operation::kCodes},
                                                               {"words24", Operation::kWords24},
                                                               {"words31", Operation::kWords31}};
  for (const char* net : {"vgg16", "vgg16_convs", "resnet50", "mobilenet"}) {
    const std::string prefix = std::string(net) + "/";
    for (const std::size_t threads : thread_counts()) {
      for (const std::size_t batch : {1U, 4U}) {
        for (const Named& engine : kEngines) {
          for (const auto& [operation_name, operation] : kOperations) {
            const bool amx = engine.amx;
            const Operation o = operation;
            add(prefix + engine.name + "/" + operation_name, threads, batch,
                [=](benchmark::State& state) { network(state, net, amx, o, threads, batch); });
          }
        }
#ifdef SLALOM_WITH_ONEDNN
        constexpr std::pair<const char*, OneDnnNetwork::Kind> kKinds[] = {
            {"u8", OneDnnNetwork::Kind::kU8},
            {"s32", OneDnnNetwork::Kind::kS32},
            {"fp32", OneDnnNetwork::Kind::kF32}};
        for (const auto& [kind_name, kind_value] : kKinds) {
          const OneDnnNetwork::Kind kind = kind_value;
          add(prefix + "onednn_direct/" + kind_name, threads, batch,
              [=](benchmark::State& state) { onednn_network(state, net, kind, threads, batch); });
        }
#endif
      }
    }
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
