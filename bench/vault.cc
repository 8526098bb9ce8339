// SPDX-License-Identifier: Apache-2.0
// Opening sealed unblinding factors: what an inference with `--privacy pads` pays for each word
// that comes back, whole and in parts, on 1 thread and more. bytes_per_second counts sealed bytes;
// `ns_word` is nanoseconds of one thread a word.
//   bench_vault --benchmark_filter=open_factors
// "file" walks, chunk by chunk, through 77 MB of stock in a temporary file that the kernel has in
// memory, as the command line does; "memory" through stock that is not sealed. The other parts
// work on one chunk that stays in cache.
#include <benchmark/benchmark.h>
#include <fcntl.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "field/kernels.h"
#include "field/random.h"
#include "support/plans.h"
#include "thread_counts.h"
#include "vault/sealer.h"
#include "vault/stocked_pads.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file

constexpr std::size_t kImages = 8;
constexpr std::size_t kWords = vault::Pads::chunk_words(field::Field::kP24);
constexpr std::size_t kBytes = kWords * 3;

template <class T>
T must(Result<T> made) {
  if (made.ok()) return std::move(*made);
  std::fprintf(stderr, "bench_vault: %s\n", made.error().message);
  std::exit(1);
}
void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "bench_vault: %s\n", status.error().message);
  std::exit(1);
}

std::unique_ptr<vault::FileStore> make_store() {
  const int made = open("/tmp", O_RDWR | O_TMPFILE, 0600);
  if (made < 0) std::fputs("bench_vault: no file without a name can be made in /tmp\n", stderr);
  return std::make_unique<vault::FileStore>(outside::Descriptor(made));
}

// Stock is a layer of 3.2 million words an image (as VGG16's first) with all images in use.
struct Stock {
  base::CpuFeatures cpu = base::detect_cpu();
  model::Plan plan = [] {
    testing::PlanBuilder b;
    return b.finish({b.conv(b.input({224, 224, 3}), {.out_c = 64})});
  }();
  std::unique_ptr<field::Random> random = must(field::make_system_random(cpu));
  vault::Epoch epoch = must(vault::Epoch::draw(*random));
  vault::InferenceNumbers numbers;
  std::unique_ptr<vault::StockedPads> pads;
  std::vector<vault::PadTicket> tickets;
  std::size_t words = std::get<model::Linear>(plan.nodes[0].op).out().elements();

  explicit Stock(bool file) {
    const std::array<std::uint32_t, 1> nodes = {0};
    vault::StockOptions options;
    options.cpu = cpu;
    options.threads = 2;
    pads = must(vault::StockedPads::create(plan, {}, nodes, epoch, numbers,
                                           file ? make_store() : nullptr, options));
    (void)must(pads->prepare(kImages, nullptr, nullptr));
    while (tickets.size() < kImages) tickets.push_back(must(pads->take()));
  }
};
template <bool kFile>
Stock& stock() {
  static Stock the_stock(kFile);
  return the_stock;
}

void report(benchmark::State& state, std::size_t words, std::size_t bytes) {
  const auto iterations = static_cast<std::int64_t>(state.iterations());
  state.SetBytesProcessed(iterations * static_cast<std::int64_t>(bytes));
  state.counters["ns_word"] =
      benchmark::Counter(static_cast<double>(iterations) * static_cast<double>(words) * 1e-9,
                         benchmark::Counter::kAvgThreadsRate | benchmark::Counter::kInvert);
}

// open_factors: one chunk a call, as the executor asks for them; each thread has its own part of
// every image.
template <bool kFile>
void open_factors(benchmark::State& state) {
  Stock& s = stock<kFile>();
  const std::size_t chunks = s.words / kWords;
  const auto threads = static_cast<std::size_t>(state.threads());
  std::size_t at = static_cast<std::size_t>(state.thread_index());
  std::vector<std::uint32_t> out(kWords);
  for (auto _ : state) {
    const std::size_t image = at / chunks % kImages;
    must(s.pads->open_factors(s.tickets[image], 0, field::Field::kP24, at % chunks * kWords, out));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
    at += threads;
  }
  report(state, kWords, kBytes);
}

// read_chunk: the host's bytes into private memory.
void read_chunk(benchmark::State& state) {
  static const std::unique_ptr<vault::FileStore> store = [] {
    auto made = make_store();
    must(made->reserve(kImages << 24));
    const std::vector<std::byte> bytes(kImages << 24, std::byte{1});
    must(made->write(0, bytes));
    return made;
  }();
  std::vector<std::byte> out(kBytes + vault::kTagBytes);
  const std::size_t chunks = (kImages << 24) / out.size();
  auto at = static_cast<std::size_t>(state.thread_index());
  for (auto _ : state) {
    must(store->read(at % chunks * out.size(), out));
    benchmark::ClobberMemory();
    at += static_cast<std::size_t>(state.threads());
  }
  report(state, kWords, kBytes);
}

// decrypt: a chunk is copied, authenticated and decrypted. copy: the copy alone.
void decrypt(benchmark::State& state) {
  vault::Sealer sealer({}, {});
  std::vector<std::byte> sealed(kBytes);
  std::array<std::byte, vault::kTagBytes> tag{};
  sealer.seal(0, sealed, tag);
  std::vector<std::byte> bytes;
  for (auto _ : state) {
    bytes = sealed;  // timed too: see copy
    must(sealer.open(0, bytes, tag));
    benchmark::ClobberMemory();
  }
  report(state, kWords, kBytes);
}

void copy(benchmark::State& state) {
  const std::vector<std::byte> sealed(kBytes);
  std::vector<std::byte> bytes;
  for (auto _ : state) {
    bytes = sealed;
    benchmark::ClobberMemory();
  }
  report(state, kWords, kBytes);
}

void unpack(benchmark::State& state) {
  const auto& kernels = field::choose_kernels(base::detect_cpu());
  const std::vector<std::byte> packed(kBytes);
  std::vector<std::uint32_t> out(kWords);
  for (auto _ : state) {
    kernels.unpack(field::Field::kP24, packed.data(), kWords, out.data());
    benchmark::ClobberMemory();
  }
  report(state, kWords, kBytes);
}

// keys: what a Sealer costs before its first chunk; ns_word spreads it over a chunk.
void keys(benchmark::State& state) {
  field::Address address;
  for (auto _ : state) {
    ++address.inference;
    vault::Sealer sealer({}, address);
    benchmark::DoNotOptimize(&sealer);
  }
  report(state, kWords, kBytes);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (const std::size_t n : bench::thread_counts()) {
    const auto threads = static_cast<int>(n);
    using Named = std::pair<const char*, void (*)(benchmark::State&)>;
    for (const Named& part :
         {Named("open_factors/file", open_factors<true>),
          Named("open_factors/memory", open_factors<false>), Named("read", read_chunk),
          Named("unpack", unpack), Named("copy", copy), Named("decrypt", decrypt),
          Named("keys", keys)}) {
      benchmark::RegisterBenchmark(part.first, part.second)->Threads(threads)->UseRealTime();
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
