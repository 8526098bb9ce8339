// SPDX-License-Identifier: Apache-2.0
// An inference takes no memory from its pads: every operator new and every allocation of libcrypto
// is counted from take to destroy.
#include <gtest/gtest.h>
#include <openssl/crypto.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "field/kernels.h"
#include "field/pad_stream.h"
#include "field/random.h"
#include "support/plans.h"
#include "vault/stocked_pads.h"

namespace {

std::atomic<std::uint64_t> allocations{0};  // NOLINT: replaced operators have no other place

void* counted(std::size_t bytes) {
  ++allocations;
  return std::malloc(bytes);
}
void* counted_libcrypto(std::size_t bytes, const char* /*file*/, int /*line*/) {
  return counted(bytes);
}
void* counted_again(void* memory, std::size_t bytes, const char* /*file*/, int /*line*/) {
  ++allocations;
  return std::realloc(memory, bytes);
}
// Not inlined: g++ would take the pair of new and free for a mistake.
[[gnu::noinline]] void give_back(void* memory) { std::free(memory); }
void release(void* memory, const char* /*file*/, int /*line*/) { std::free(memory); }

// Before libcrypto takes its first memory.
const int kHooked =  // NOLINT(cert-err58-cpp): nothing of it throws
    CRYPTO_set_mem_functions(counted_libcrypto, counted_again, release);

}  // namespace

void* operator new(std::size_t bytes) {
  if (void* const memory = counted(bytes)) return memory;
  std::abort();
}
void* operator new[](std::size_t bytes) { return operator new(bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto to = static_cast<std::size_t>(alignment);
  return std::aligned_alloc(to, (bytes + to - 1) / to * to);
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return operator new(bytes, alignment);
}
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete[](void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }

namespace slalom::vault {
namespace {

class Allocation : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Stock, Allocation, ::testing::Bool(),
                         [](const auto& kind) { return kind.param ? "memory" : "store"; });

TEST_P(Allocation, AnInferenceTakesNoMemoryFromItsPads) {
  const base::CpuFeatures cpu = base::detect_cpu();
  const field::Kernels& kernels = field::choose_kernels(cpu);
  ASSERT_EQ(kHooked, 1);
  const model::Plan plan = slalom::testing::small_network();
  std::vector<std::uint32_t> nodes;
  std::vector<std::vector<std::uint32_t>> words;
  for (std::uint32_t i = 0; i < plan.nodes.size(); ++i) {
    const auto* linear = std::get_if<model::Linear>(&plan.nodes[i].op);
    if (linear == nullptr || !linear->field) continue;
    nodes.push_back(i);
    words.emplace_back(linear->out().elements());
  }
  auto random = field::make_system_random(cpu);
  ASSERT_TRUE(random.ok());
  const auto epoch = Epoch::draw(**random);
  ASSERT_TRUE(epoch.ok());
  InferenceNumbers numbers;
  StockOptions options;
  options.cpu = cpu;
  std::unique_ptr<BlobStore> store;
  if (!GetParam()) {
    store = std::make_unique<FileStore>(outside::Descriptor(memfd_create("pads", MFD_CLOEXEC)));
  }
  const auto pads =
      StockedPads::create(plan, {}, nodes, *epoch, numbers, std::move(store), options);
  ASSERT_TRUE(pads.ok());
  const std::uint64_t before = allocations;
  ASSERT_TRUE((*pads)->prepare(100, nullptr, nullptr).ok());
  EXPECT_GT(allocations, before) << "nothing is counted";
  std::array<PadTicket, 10> tickets;
  std::array<std::uint32_t, 100> pad{};
  std::uint64_t failures = 0;
  const std::uint64_t start = allocations;
  for (int round = 0; round < 10; ++round) {
    for (PadTicket& ticket : tickets) ticket = *(*pads)->take();
    for (const PadTicket& ticket : tickets) {
      for (std::size_t n = 0; n < nodes.size(); ++n) {
        const model::Node& node = plan.nodes[nodes[n]];
        const field::Field f = *std::get<model::Linear>(node.op).field;
        base::Wiped<field::StreamKey> key;
        failures += (*pads)->pad_key(ticket, node.inputs[0], key.reveal()).ok() ? 0 : 1;
        field::PadStream(key.reveal(), f, kernels).fill(0, pad);
        failures += (*pads)->open_factors(ticket, nodes[n], f, 0, words[n]).ok() ? 0 : 1;
      }
      (*pads)->destroy(ticket);
    }
  }
  EXPECT_EQ(allocations - start, 0U);
  EXPECT_EQ(failures, 0U);
}

}  // namespace
}  // namespace slalom::vault
