// SPDX-License-Identifier: Apache-2.0
// The field kernels on one core, each compared with the portable ones before it is timed. Rates are
// per word (consume, blind, pads) or per code and image (check_input); `ns_word` is nanoseconds.
//   bench_field --benchmark_filter=consume/avx512ifma
// "stream" walks through 48 MB of slots (memory), "hot" stays in 24 KiB (first-level cache).
#include <benchmark/benchmark.h>
#include <x86intrin.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "field/kernels.h"
#include "field/pad_stream.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file
using field::Field;
using field::Kernels;

constexpr std::size_t kStream = std::size_t{16} << 20;  // words
constexpr std::size_t kHot = 8192;

void require(bool same, const char* what) {
  if (same) return;
  std::fprintf(stderr, "bench_field: %s differs from the portable kernels\n", what);
  std::exit(1);
}

const Kernels& portable() { return *field::all_kernels().back(); }

std::mt19937_64& engine() {
  static std::mt19937_64 e(1);
  return e;
}
std::vector<std::uint32_t> words_below(std::size_t n, std::uint32_t range) {
  std::vector<std::uint32_t> out(n);
  for (auto& w : out) w = static_cast<std::uint32_t>(engine()() % range);
  return out;
}
std::vector<std::uint8_t> codes_of(std::size_t n) {
  std::vector<std::uint8_t> out(n);
  for (auto& q : out) q = static_cast<std::uint8_t>(engine()());
  return out;
}

// Slot is 64-byte aligned memory, as the channel's.
struct Slot {
  explicit Slot(std::size_t bytes)
      : memory(static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64))) {
    std::memset(memory, 0, bytes);
  }
  ~Slot() { std::free(memory); }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  std::byte* memory;
};

// clock_ghz is the rate of the time-stamp counter: cycles are those of the nominal clock, whatever
// the core's present one is.
double clock_ghz() {
  static const double ghz = [] {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    const std::uint64_t first = __rdtsc();
    while (Clock::now() - start < std::chrono::milliseconds(50)) {
    }
    const std::uint64_t last = __rdtsc();
    return static_cast<double>(last - first) /
           std::chrono::duration<double, std::nano>(Clock::now() - start).count();
  }();
  return ghz;
}

void report(benchmark::State& state, std::size_t items, std::size_t bytes_each) {
  const auto total =
      static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(items);
  state.SetItemsProcessed(total);
  state.SetBytesProcessed(total * static_cast<std::int64_t>(bytes_each));
  state.counters["ns_word"] = benchmark::Counter(
      static_cast<double>(total) * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["cycles_word"] =
      benchmark::Counter(static_cast<double>(total) * 1e-9 / clock_ghz(),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

struct Output {
  Field f;
  std::size_t words, channels, repetitions;
  bool unblind;
  bool table;
};

void consume(benchmark::State& state, const Kernels* kernels, Output o) {
  const std::size_t bytes = word_bytes(o.f);
  const std::size_t positions = o.words / o.channels;
  Slot slot(o.words * bytes);
  const std::vector<std::uint32_t> sample = words_below(1 << 16, modulus(o.f));
  for (std::size_t i = 0; i < o.words; ++i) {
    std::memcpy(slot.memory + i * bytes, &sample[i % sample.size()], bytes);
  }
  // The unblinding words of a tile were just opened: they are in cache.
  const std::vector<std::uint32_t> u = words_below(o.unblind ? 2 * kHot : 0, modulus(o.f));
  const std::size_t padded =
      (o.channels + field::kChannelPad - 1) / field::kChannelPad * field::kChannelPad;
  std::vector<std::uint32_t> a = words_below(o.repetitions * padded, field::kChallengeRange);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = i % padded < o.channels ? a[i] : 0;
  const std::vector<std::uint32_t> c =
      words_below(o.repetitions * positions, field::kChallengeRange);
  const field::OutputChallenge challenge{o.repetitions, a.data(), padded, c.data(), positions};
  const std::vector<std::uint32_t> threshold(padded, modulus(o.f) / 2);
  const std::vector<std::int32_t> offset(padded, 1000);
  const std::vector<float> multiplier(padded, 300.0F / static_cast<float>(modulus(o.f)));
  const std::vector<std::uint8_t> table = codes_of(256);
  const field::Epilogue epilogue{threshold.data(),
                                 offset.data(),
                                 multiplier.data(),
                                 3,
                                 3,
                                 255,
                                 o.table ? table.data() : nullptr,
                                 true};
  // Tiles of about 8,192 words, into codes that stay in cache.
  const std::size_t tile_positions =
      std::max<std::size_t>(1, std::min(positions, kHot / o.channels));
  std::vector<std::uint8_t> codes(tile_positions * o.channels);
  field::OutputSum sum;
  const auto tile = [&](const Kernels& k, std::size_t pos) {
    const std::size_t count = std::min(tile_positions, positions - pos);
    k.consume_codes({o.f, count, o.channels, slot.memory + pos * o.channels * bytes,
                     o.unblind ? u.data() : nullptr},
                    challenge.from(pos), epilogue, codes.data(), sum);
  };
  tile(portable(), 0);
  const field::OutputSum want = sum;
  const std::vector<std::uint8_t> want_codes = codes;
  sum = {};
  tile(*kernels, 0);
  require(sum.residues.value == want.residues.value && codes == want_codes, "consume");
  for (auto _ : state) {
    for (std::size_t pos = 0; pos < positions; pos += tile_positions) tile(*kernels, pos);
    benchmark::DoNotOptimize(sum);
    benchmark::ClobberMemory();
  }
  report(state, positions * o.channels, bytes);
}

void check_input(benchmark::State& state, const Kernels* kernels, Field f, std::size_t images,
                 std::size_t elements) {
  constexpr std::size_t kRepetitions = 2;
  std::vector<const std::uint32_t*> rows;
  const std::vector<std::uint32_t> s = words_below(kRepetitions * elements, modulus(f));
  for (std::size_t k = 0; k < kRepetitions; ++k) rows.push_back(s.data() + k * elements);
  const auto pack = [&](const Kernels& k) {
    std::vector<std::byte> packed(k.check_bytes(f, kRepetitions, elements) + 64);
    k.pack_check({f, kRepetitions, elements, nullptr}, 0, elements, rows.data(), packed.data());
    return packed;
  };
  const std::vector<std::byte> packed = pack(*kernels);
  const field::CheckVector vector{f, kRepetitions, elements, packed.data()};
  const std::vector<std::uint8_t> codes = codes_of(images * elements);
  std::vector<field::Residues> sums(images);
  const std::size_t tile = std::min<std::size_t>(elements, 4096);
  const auto run = [&](const Kernels& k, const field::CheckVector& v, std::size_t first) {
    std::vector<const std::uint8_t*> starts(images);
    for (std::size_t b = 0; b < images; ++b) starts[b] = codes.data() + b * elements + first;
    k.check_input(v, first, tile, starts.data(), images, sums.data());
  };
  const std::vector<std::byte> packed_portable = pack(portable());
  run(portable(), {f, kRepetitions, elements, packed_portable.data()}, 0);
  const std::vector<field::Residues> want = sums;
  sums.assign(images, {});
  run(*kernels, vector, 0);
  for (std::size_t b = 0; b < images; ++b) require(sums[b].value == want[b].value, "check_input");
  for (auto _ : state) {
    for (std::size_t first = 0; first + tile <= elements; first += tile)
      run(*kernels, vector, first);
    benchmark::DoNotOptimize(sums.data());
    benchmark::ClobberMemory();
  }
  report(state, elements / tile * tile * images, 1);
}

void blind(benchmark::State& state, const Kernels* kernels, Field f, std::size_t n) {
  const std::size_t bytes = word_bytes(f);
  const std::vector<std::uint8_t> codes = codes_of(kHot);
  const std::vector<std::uint32_t> r = words_below(kHot, modulus(f));
  Slot slot(n * bytes);
  std::vector<std::byte> want(kHot * bytes);
  portable().blind(f, codes.data(), 7, r.data(), kHot, want.data());
  kernels->blind(f, codes.data(), 7, r.data(), kHot, slot.memory);
  require(std::memcmp(want.data(), slot.memory, want.size()) == 0, "blind");
  for (auto _ : state) {
    for (std::size_t at = 0; at + kHot <= n; at += kHot) {
      kernels->blind(f, codes.data(), 7, r.data(), kHot, slot.memory + at * bytes);
    }
    kernels->fence();
    benchmark::ClobberMemory();
  }
  report(state, n / kHot * kHot, bytes);
}

void send_codes(benchmark::State& state, const Kernels* kernels, std::size_t n) {
  const std::vector<std::uint8_t> codes = codes_of(kHot);
  Slot slot(n);
  for (auto _ : state) {
    for (std::size_t at = 0; at + kHot <= n; at += kHot) {
      kernels->send_codes(codes.data(), kHot, slot.memory + at);
    }
    kernels->fence();
    benchmark::ClobberMemory();
  }
  report(state, n / kHot * kHot, 1);
}

void pads(benchmark::State& state, const Kernels* kernels, Field f) {
  const field::StreamKey key{std::byte{1}};
  const field::PadStream stream(key, f, *kernels);
  std::vector<std::uint32_t> out(kHot);
  std::vector<std::uint32_t> want(kHot);
  field::PadStream(key, f, portable()).fill(77, want);
  stream.fill(77, out);
  require(out == want, "pads");
  std::uint64_t first = 0;
  for (auto _ : state) {
    stream.fill(first, out);
    first += kHot;
    benchmark::ClobberMemory();
  }
  report(state, kHot, word_bytes(f));
}

void combine(benchmark::State& state, const Kernels* kernels, Field f, bool words) {
  constexpr std::size_t kRows = 9;
  constexpr std::size_t kN = 512;
  const std::vector<std::uint32_t> c = words_below(kRows, modulus(f));
  const std::vector<std::uint32_t> s = words_below(kRows * kN, modulus(f));
  std::vector<std::int8_t> w(kRows * kN);
  for (auto& v : w) v = static_cast<std::int8_t>(engine()());
  std::vector<const std::uint32_t*> word_rows;
  std::vector<const std::int8_t*> weight_rows;
  for (std::size_t t = 0; t < kRows; ++t) {
    word_rows.push_back(s.data() + t * kN);
    weight_rows.push_back(w.data() + t * kN);
  }
  std::vector<std::uint32_t> out(kN);
  for (auto _ : state) {
    if (words) {
      kernels->combine_words(f, c.data(), word_rows.data(), kRows, kN, out.data());
    } else {
      kernels->combine_weights(f, c.data(), weight_rows.data(), kRows, kN, out.data());
    }
    benchmark::ClobberMemory();
  }
  report(state, kRows * kN, words ? 4 : 1);
}

const char* name_of(Field f) { return f == Field::kP24 ? "p24" : "p31"; }

template <class... Args>
void add(const std::string& name, void (*function)(benchmark::State&, const Kernels*, Args...),
         const Kernels* kernels, std::type_identity_t<Args>... args) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) { function(state, kernels, args...); });
}

void add_all(const Kernels* k) {
  const std::string isa(k->name);
  for (const Field f : {Field::kP24, Field::kP31}) {
    const std::string tail = "/" + isa + "/" + name_of(f);
    for (const std::size_t channels : {64U, 512U, 24U}) {
      const std::string shape = "/c" + std::to_string(channels);
      for (const bool unblind : {false, true}) {
        const std::string mode = unblind ? "/private" : "/verify";
        for (const std::size_t words : {kHot, kStream}) {
          add("consume" + tail + mode + shape + (words == kHot ? "/hot" : "/stream"), consume, k,
              Output{f, words, channels, 2, unblind, false});
        }
      }
    }
    add("consume" + tail + "/unchecked/c64/hot", consume, k, Output{f, kHot, 64, 0, true, false});
    add("consume" + tail + "/k3/c64/hot", consume, k, Output{f, kHot, 64, 3, false, false});
    add("consume" + tail + "/table/c64/hot", consume, k, Output{f, kHot, 64, 2, false, true});
    for (const std::size_t images : {1U, 4U, 16U}) {
      add("check_input" + tail + "/images" + std::to_string(images) + "/hot", check_input, k, f,
          images, std::size_t{4096});
      add("check_input" + tail + "/images" + std::to_string(images) + "/stream", check_input, k, f,
          images, std::size_t{1} << 20);
    }
    add("blind" + tail + "/stream", blind, k, f, kStream);
    add("pads" + tail, pads, k, f);
    add("combine_words" + tail, combine, k, f, true);
    add("combine_weights" + tail, combine, k, f, false);
  }
  add("send_codes/" + isa + "/stream", send_codes, k, kStream);
}

}  // namespace

int main(int argc, char** argv) {
  const base::CpuFeatures cpu = base::detect_cpu();
  for (const Kernels* k : field::all_kernels()) {
    if (k->supported(cpu)) add_all(k);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
