// SPDX-License-Identifier: Apache-2.0
#include "vault/stocked_pads.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "stock_fixture.h"
#include "support/memory_scan.h"
#include "support/sanitizers.h"

namespace slalom::vault {
namespace {

// What holds wherever the stock lies.
class EitherStock : public StockedPadsTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    StockedPadsTest::SetUp();
    in_memory_ = GetParam();
  }
};
INSTANTIATE_TEST_SUITE_P(Stock, EitherStock, ::testing::Bool(),
                         [](const auto& kind) { return kind.param ? "memory" : "store"; });

TEST_P(EitherStock, FactorsAreTheLinearImageOfThePads) {
  const Epoch epoch = draw();
  const auto pads = open(epoch);
  ASSERT_TRUE(pads->prepare(4, nullptr, nullptr).ok());
  EXPECT_EQ(pads->stock(), 4U);
  for (int image = 0; image < 4; ++image) {
    const auto ticket = pads->take();
    ASSERT_TRUE(ticket.ok());
    expect_factors_of_the_pads(*pads, *ticket);
    pads->destroy(*ticket);
  }
  EXPECT_EQ(pads->take().error().code, Errc::kUnavailable);
}

TEST_P(EitherStock, NoTwoImagesShareANumberOrAPad) {
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  std::set<std::uint64_t> numbers;
  std::set<std::vector<std::uint32_t>> seen;
  for (int image = 0; image < 20; ++image) {
    const auto ticket = pads->take();
    ASSERT_TRUE(ticket.ok());
    EXPECT_TRUE(numbers.insert(ticket->inference).second);
    EXPECT_TRUE(seen.insert(pad(*pads, *ticket, nodes_[0])).second);
    pads->destroy(*ticket);
  }
}

// Nothing but an address tells one pad from another: every part of it is what it should be.
TEST_P(EitherStock, APadHasTheKeyOfItsWholeAddress) {
  const Epoch epoch = draw();
  for (const auto mode : {model::Privacy::kPads, model::Privacy::kSplit}) {
    const auto pads = open(epoch, WhenDry::kInline, mode);
    for (int image = 0; image < 3; ++image) {
      const auto ticket = pads->take();
      ASSERT_TRUE(ticket.ok());
      EXPECT_GT(ticket->inference, 0U);  // which stands for none
      for (const model::TensorId tensor : {0U, 1U, 7U}) {
        base::Wiped<field::StreamKey> expected;
        base::Wiped<field::StreamKey> key;
        field::derive_stream_key(epoch.key.reveal(),
                                 {mode, digest_, epoch.id, ticket->inference, tensor},
                                 expected.reveal());
        ASSERT_TRUE(pads->pad_key(*ticket, tensor, key.reveal()).ok());
        EXPECT_EQ(key.reveal(), expected.reveal());
      }
    }
  }
}

// Layers of more words than the factory takes at once, in either direction, of several chunks, and
// two of one tensor.
TEST_P(EitherStock, LargeLayersAreMadePieceByPiece) {
  testing::PlanBuilder b;
  const auto x = b.input({150, 150, 1});    // 22,500 words
  const auto y = b.conv(x, {.out_c = 16});  // 360,000: two runs of chunks
  plan_ = b.finish({y, b.conv(y, {.out_c = 1}), b.conv(x, {.out_c = 1})});
  nodes_ = {0, 1, 2};
  const Epoch epoch = draw();
  const auto pads = open(epoch);
  ASSERT_TRUE(pads->prepare(2, nullptr, nullptr).ok());
  for (int image = 0; image < 2; ++image) {
    const auto ticket = pads->take();
    ASSERT_TRUE(ticket.ok());
    expect_factors_of_the_pads(*pads, *ticket);
  }
}

TEST_P(EitherStock, ATicketSaysWhetherItsFactorsLayReady) {
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  ASSERT_TRUE(pads->prepare(1, nullptr, nullptr).ok());
  EXPECT_TRUE(pads->take()->stocked);
  EXPECT_FALSE(pads->take()->stocked);
}

TEST_P(EitherStock, ADestroyedTicketOpensNothing) {
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  const auto ticket = pads->take();
  ASSERT_TRUE(ticket.ok());
  pads->destroy(*ticket);
  std::vector<std::uint32_t> out;
  EXPECT_FALSE(factors(*pads, *ticket, nodes_[0], out).ok());
  base::Wiped<field::StreamKey> key;
  EXPECT_FALSE(pads->pad_key(*ticket, 0, key.reveal()).ok());
  // A number that was never handed out opens nothing either.
  EXPECT_FALSE(factors(*pads, PadTicket{999'999, true}, nodes_[0], out).ok());
}

TEST_F(StockedPadsTest, ATicketThatIsDestroyedTwiceFreesOnePlace) {
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  const auto ticket = pads->take();
  ASSERT_TRUE(ticket.ok());
  pads->destroy(*ticket);
  pads->destroy(*ticket);
  ASSERT_TRUE(pads->prepare(2, nullptr, nullptr).ok());
  const auto first = pads->take();
  const auto second = pads->take();
  EXPECT_NE(first->inference, second->inference);
  EXPECT_TRUE(usable(*pads, *first));
  EXPECT_TRUE(usable(*pads, *second));
  pads->destroy(*ticket);  // its place is another's now
  EXPECT_TRUE(usable(*pads, *first));
  EXPECT_TRUE(usable(*pads, *second));
}

// Factors are asked for as they were sealed, or not given at all.
TEST_F(StockedPadsTest, OnlyWholeChunksOfALayerAreGiven) {
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  const auto ticket = pads->take();
  ASSERT_TRUE(ticket.ok());
  const std::uint32_t node = nodes_[0];
  const auto& linear = std::get<model::Linear>(plan_.nodes[node].op);
  const field::Field f = *linear.field;
  const field::Field other = f == field::Field::kP24 ? field::Field::kP31 : field::Field::kP24;
  const std::size_t n = linear.out().elements();
  const std::size_t chunk = Pads::chunk_words(f);
  ASSERT_LT(n, chunk);
  const auto refused = [&](std::uint32_t of, field::Field in, std::size_t first, std::size_t size) {
    std::vector<std::uint32_t> out(size, 0xdead'beef);
    const auto status = pads->open_factors(*ticket, of, in, first, out);
    EXPECT_EQ(std::count(out.begin(), out.end(), 0xdead'beef), static_cast<long>(size));
    return !status.ok() && status.error().code == Errc::kInternal;
  };
  EXPECT_TRUE(refused(static_cast<std::uint32_t>(plan_.nodes.size()), f, 0, n));
  EXPECT_TRUE(refused(node, other, 0, n));
  EXPECT_TRUE(refused(node, f, 1, n - 1));
  EXPECT_TRUE(refused(node, f, chunk, chunk));
  EXPECT_TRUE(refused(node, f, 0, n + 1));
  EXPECT_TRUE(refused(node, f, 0, n - 1));
  std::vector<std::uint32_t> out;
  EXPECT_TRUE(factors(*pads, *ticket, node, out).ok());
}

TEST_F(StockedPadsTest, FactorsBeginWithAChunk) {
  testing::PlanBuilder b;
  plan_ = b.finish({b.conv(b.input({66, 66, 1}), {.out_c = 4})});  // 17,424 words
  nodes_ = {0};
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  const auto ticket = pads->take();
  ASSERT_TRUE(ticket.ok());
  const field::Field f = *std::get<model::Linear>(plan_.nodes[0].op).field;
  std::vector<std::uint32_t> whole;
  ASSERT_TRUE(factors(*pads, *ticket, 0, whole).ok());
  const std::size_t chunk = Pads::chunk_words(f);
  std::vector<std::uint32_t> out(whole.size() - chunk);
  ASSERT_TRUE(pads->open_factors(*ticket, 0, f, chunk, out).ok());
  EXPECT_TRUE(std::equal(out.begin(), out.end(), whole.end() - static_cast<long>(out.size())));
  out.resize(chunk);
  EXPECT_EQ(pads->open_factors(*ticket, 0, f, 1, out).error().code, Errc::kInternal);
}

TEST_F(StockedPadsTest, EpochsHaveKeysAndNamesOfTheirOwn) {
  const Epoch first = draw();
  const Epoch second = draw();
  EXPECT_NE(first.key.declassify(), second.key.declassify());
  EXPECT_NE(first.key.declassify(), field::StreamKey{});
  EXPECT_NE(second.key.declassify(), field::StreamKey{});
  EXPECT_NE(first.id, second.id);
}

// scrub_stack overwrites what the calls before have left on this thread's stack.
[[gnu::noinline]] void scrub_stack() {
  std::array<std::byte, 128 * 1024> room;  // NOLINT: wiped
  base::wipe(room.data(), room.size());
}

// What the factory worked on is gone when the stock is made: it can be derived from the key alone.
TEST_F(StockedPadsTest, TheFactoryKeepsNoPadAndNoFactor) {
  if (testing::kAddressSanitizer || testing::kThreadSanitizer) {
    GTEST_SKIP() << "sanitizers keep memory of their own";
  }
  testing::PlanBuilder b;
  plan_ = b.finish({b.conv(b.input({16, 16, 8}), {.out_c = 8})});
  nodes_ = {0};
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  const auto ticket = pads->take();
  ASSERT_TRUE(ticket.ok());
  std::optional<testing::Trace> trace;
  const auto watch = [&](std::vector<std::uint32_t> words) {
    trace.emplace(std::as_bytes(std::span(words).first(std::min<std::size_t>(words.size(), 8))));
    EXPECT_GE(trace->count(), 1U);  // ours
    base::wipe(words.data(), words.size() * sizeof(words[0]));
    scrub_stack();
  };
  watch(pad(*pads, *ticket, 0));
  EXPECT_EQ(trace->count(), 0U);
  std::vector<std::uint32_t> u;
  ASSERT_TRUE(factors(*pads, *ticket, 0, u).ok());
  watch(std::move(u));
  EXPECT_EQ(trace->count(), 0U);
}

// Secrets' memory is not there in a child (base/arena.h); other memory would be, and in dumps too.
TEST_F(StockedPadsTest, StockInMemoryIsKeptAsSecretsAre) {
  in_memory_ = true;
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  const auto ticket = pads->take();
  std::vector<std::uint32_t> u;
  ASSERT_TRUE(factors(*pads, *ticket, nodes_[0], u).ok());
  const pid_t child = fork();
  if (child == 0) {
    (void)signal(SIGSEGV, SIG_DFL);  // not a sanitizer's
    _exit(factors(*pads, *ticket, nodes_[0], u).ok() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) << status;
}

// A child process may not map anything more.
TEST_F(StockedPadsTest, MemoryThatIsNotThereIsUnavailable) {
  if (testing::kAddressSanitizer || testing::kThreadSanitizer) {
    GTEST_SKIP() << "sanitizers map memory of their own";
  }
  in_memory_ = true;
  testing::PlanBuilder b;
  plan_ = b.finish({b.conv(b.input({256, 256, 1}), {.out_c = 64})});  // 12.6 MB an image
  nodes_ = {0};
  const pid_t child = fork();
  if (child == 0) {
    static_cast<void>(random_.release());  // secrets of the parent, which are not here
    random_ = field::make_system_random(cpu_).value();
    const Epoch epoch = draw();
    const auto pads = open(epoch);
    if (pads->bytes_per_image() < 12'500'000) _exit(1);
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t most = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + 30'000'000;
    const rlimit limit{most, most};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(2);
    const auto made = pads->prepare(4, nullptr, nullptr);
    if (made.ok() || made.error().code != Errc::kUnavailable) _exit(3);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST_F(StockedPadsTest, ProgressCanStopAndContinue) {
  const Epoch epoch = draw();
  const auto pads = open(epoch);
  const auto stop = [](void*, std::uint64_t made, std::uint64_t) { return made < 3; };
  EXPECT_EQ(*pads->prepare(9, stop, nullptr), 3U);
  EXPECT_EQ(*pads->prepare(6, nullptr, nullptr), 6U);
  EXPECT_EQ(pads->stock(), 9U);
}

TEST_F(StockedPadsTest, OnlyWhoWaitsIsNotReady) {
  const Epoch epoch = draw();
  for (const WhenDry when_dry : {WhenDry::kInline, WhenDry::kWait, WhenDry::kFail}) {
    const auto pads = open(epoch, when_dry);
    ASSERT_TRUE(pads->prepare(2, nullptr, nullptr).ok());
    EXPECT_EQ(pads->ready(2), 2U);
    EXPECT_EQ(pads->ready(3), when_dry == WhenDry::kWait ? 2U : 3U);
  }
}

TEST_F(StockedPadsTest, WaitingForStockEndsWhenItComes) {
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kWait);
  std::atomic<bool> taken{false};
  std::thread waiter([&] { taken = pads->take().ok(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_FALSE(taken);
  ASSERT_TRUE(pads->prepare(1, nullptr, nullptr).ok());
  waiter.join();
  EXPECT_TRUE(taken);
}

TEST_F(StockedPadsTest, ManyThreadsShareOneStock) {
  const Epoch epoch = draw();
  const auto pads = open(epoch, WhenDry::kInline);
  std::mutex mutex;
  std::set<std::uint64_t> numbers;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        const auto ticket = pads->take();
        ASSERT_TRUE(ticket.ok());
        std::vector<std::uint32_t> u;
        ASSERT_TRUE(factors(*pads, *ticket, nodes_[0], u).ok());
        pads->destroy(*ticket);
        const std::lock_guard lock(mutex);
        EXPECT_TRUE(numbers.insert(ticket->inference).second);
      }
    });
  }
  EXPECT_TRUE(pads->prepare(20, nullptr, nullptr).ok());
  for (auto& t : threads) t.join();
  EXPECT_EQ(numbers.size(), 40U);
}

}  // namespace
}  // namespace slalom::vault
