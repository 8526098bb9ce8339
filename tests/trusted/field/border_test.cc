// SPDX-License-Identifier: Apache-2.0
// What the kernels may do to a slot: load each word once, and take nothing else for it, while the
// device rewrites it as fast as it can.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "field/arithmetic.h"
#include "field/kernels.h"
#include "trusted/field/support.h"

namespace slalom::field {
namespace {

using test::Dice;

// ---- every load of a slot, counted by the processor ----

// The slot is a page without access. Each instruction that touches it faults; the handler notes the
// address, opens the page for that one instruction (trap flag) and closes it again.
constexpr std::size_t kPage = 4096;
constexpr std::uint64_t kTrapFlag = 0x100;
std::byte* g_page = nullptr;
std::atomic<std::size_t> g_loads{0};

void on_fault(int, siginfo_t* info, void* context) {
  const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const auto page = reinterpret_cast<std::uintptr_t>(g_page);
  if (at < page || at >= page + kPage) _exit(99);
  ++g_loads;
  mprotect(g_page, kPage, PROT_READ);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= kTrapFlag;
}
void on_step(int, siginfo_t*, void* context) {
  mprotect(g_page, kPage, PROT_NONE);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
}

class CountedPage {
 public:
  CountedPage() {
    g_page = static_cast<std::byte*>(
        mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = on_fault;
    sigaction(SIGSEGV, &action, &old_fault_);
    action.sa_sigaction = on_step;
    sigaction(SIGTRAP, &action, &old_step_);
  }
  ~CountedPage() {
    sigaction(SIGSEGV, &old_fault_, nullptr);
    sigaction(SIGTRAP, &old_step_, nullptr);
    munmap(g_page, kPage);
  }
  CountedPage(const CountedPage&) = delete;
  CountedPage& operator=(const CountedPage&) = delete;

  void fill(const std::vector<std::uint32_t>& words, Field f) {
    mprotect(g_page, kPage, PROT_READ | PROT_WRITE);
    for (std::size_t i = 0; i < words.size(); ++i) {
      std::memcpy(g_page + i * word_bytes(f), &words[i], word_bytes(f));
    }
    mprotect(g_page, kPage, PROT_NONE);
    g_loads = 0;
  }

 private:
  struct sigaction old_fault_ {};
  struct sigaction old_step_ {};
};

struct Tables {
  std::vector<std::uint32_t> threshold, a, c;
  std::vector<std::int32_t> offset;
  std::vector<float> multiplier;
  Epilogue epilogue;
  OutputChallenge challenge;

  Tables(Dice& dice, Field f, std::size_t positions, std::size_t channels, std::size_t repetitions,
         float scale) {
    const std::size_t padded = (channels + kChannelPad - 1) / kChannelPad * kChannelPad;
    threshold.assign(padded, modulus(f) / 2);
    offset.assign(padded, 0);
    multiplier.assign(padded, scale);
    a.assign(repetitions * padded, 0);
    c.assign(repetitions * positions, 0);
    for (std::size_t k = 0; k < repetitions; ++k) {
      for (std::size_t i = 0; i < channels; ++i) a[k * padded + i] = dice.word(Field::kP24);
    }
    for (auto& w : c) w = dice.word(Field::kP24);
    epilogue = {threshold.data(), offset.data(), multiplier.data(), 100, 0, 255,
                nullptr,          scale <= 0.5F};
    challenge = {repetitions, a.data(), padded, c.data(), positions};
  }
};

// loads_of_row is how many load instructions a row of channels takes when no byte is loaded twice:
// whole registers as far as the kernels' width goes, then the rest in one (AVX-512) or byte by
// byte. More loads than this, or fewer bytes than all, is a word that was read again or not at all;
// that none is missing is known from the results.
std::size_t loads_of_row(const Kernels& kernels, Field f, std::size_t channels, bool quads) {
  const std::size_t bytes = word_bytes(f);
  if (kernels.name == "portable") return channels * bytes;
  const bool wide = kernels.name != "avx2";
  const std::size_t width = wide ? 16 : 8;
  std::size_t loads = 0;
  while (wide && quads && channels >= 4 * width) {
    loads += bytes;  // 64 words of 3 or 4 bytes fill 3 or 4 registers
    channels -= 4 * width;
  }
  loads += channels / width;
  const std::size_t rest = channels % width;
  if (rest == 0) return loads;
  return loads + (wide || f == Field::kP31 ? 1 : rest * bytes);
}

TEST(BorderTest, EachWordIsLoadedOnce) {
  CountedPage page;
  Dice dice(1);
  for (const Kernels* kernels : test::supported_kernels()) {
    for (const Field f : test::kFields) {
      for (const std::size_t channels : {1U, 7U, 8U, 16U, 24U, 40U, 64U, 80U, 150U}) {
        // Across a block of positions where the rows are short.
        const std::size_t positions = channels == 8 ? 17 : 2;
        for (const std::size_t repetitions : {0U, 2U, 3U}) {
          for (const bool unblind : {false, true}) {
            if (unblind != (repetitions == 2) && channels != 80) continue;
            const std::vector<std::uint32_t> words = dice.words(f, positions * channels);
            const std::vector<std::uint32_t> u = dice.words(f, unblind ? words.size() : 0);
            const Tables tables(dice, f, positions, channels, repetitions, 1e-6F);
            page.fill(words, f);
            const OutputTile tile{f, positions, channels, g_page, unblind ? u.data() : nullptr};
            std::vector<std::uint8_t> codes(words.size());
            OutputSum sum;
            kernels->consume_codes(tile, tables.challenge, tables.epilogue, codes.data(), sum);
            const std::size_t quads = repetitions < 3 ? 1 : 0;
            ASSERT_EQ(g_loads, positions * loads_of_row(*kernels, f, channels, quads != 0))
                << kernels->name << " channels " << channels << " k " << repetitions;
            // Integers take the narrow loop.
            page.fill(words, f);
            std::vector<std::int32_t> integers(words.size());
            kernels->consume_integers(tile, tables.challenge, tables.epilogue, integers.data(),
                                      sum);
            ASSERT_EQ(g_loads, positions * loads_of_row(*kernels, f, channels, false));
          }
        }
      }
    }
  }
}

// ---- a device that rewrites the words meanwhile ----

// Rewriter flips every word of a slot between two values until it is told to stop.
class Rewriter {
 public:
  Rewriter(std::vector<std::byte>& slot, Field f, std::uint32_t first, std::uint32_t second)
      : thread_([&slot, f, first, second, this] {
          const std::size_t bytes = word_bytes(f);
          auto* const at = reinterpret_cast<volatile std::uint8_t*>(slot.data());
          for (std::uint32_t round = 0; !stop_.load(std::memory_order_relaxed); ++round) {
            // Only the first byte differs, so that no word is ever half of each.
            const auto byte = static_cast<std::uint8_t>((round & 1) != 0 ? first : second);
            for (std::size_t i = 0; i < slot.size(); i += bytes) at[i] = byte;
          }
        }) {}
  ~Rewriter() {
    stop_ = true;
    thread_.join();
  }
  Rewriter(const Rewriter&) = delete;
  Rewriter& operator=(const Rewriter&) = delete;

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// race runs consume_codes against a rewriter until both values were seen in one tile often enough,
// and requires that codes, residues and the range test speak of the same words.
void race(const Kernels& kernels, Field f, std::uint32_t first, std::uint32_t second) {
  constexpr std::size_t kPositions = 64;
  constexpr std::size_t kChannels = 72;  // both the wide loop and the narrow one
  constexpr std::size_t kWords = kPositions * kChannels;
  Dice dice(2);
  const Tables tables(dice, f, kPositions, kChannels, 2, 0.25F);
  std::vector<std::byte> slot(kWords * word_bytes(f));
  for (std::size_t i = 0; i < kWords; ++i) {
    std::memcpy(slot.data() + i * word_bytes(f), &first, word_bytes(f));
  }
  // The codes of the two values, and what a word of each counts for.
  const std::uint32_t mask = f == Field::kP24 ? 0xff'ffff : 0x7fff'ffff;
  const auto code_of = [&](std::uint32_t w) {
    std::uint8_t code = 0;
    std::vector<std::byte> one(word_bytes(f));
    std::memcpy(one.data(), &w, one.size());
    OutputSum unused;
    test::portable().consume_codes({f, 1, 1, one.data(), nullptr}, {}, tables.epilogue, &code,
                                   unused);
    return code;
  };
  const std::uint8_t first_code = code_of(first);
  const std::uint8_t second_code = code_of(second);
  ASSERT_NE(first_code, second_code);
  Rewriter rewriter(slot, f, first, second);
  int mixed = 0;
  for (int round = 0; mixed < 30 && round < 200'000; ++round) {
    std::vector<std::uint8_t> codes(kWords);
    OutputSum sum;
    kernels.consume_codes({f, kPositions, kChannels, slot.data(), nullptr}, tables.challenge,
                          tables.epilogue, codes.data(), sum);
    std::size_t seconds = 0;
    bool bad = false;
    Residues want;
    for (std::size_t i = 0; i < kWords; ++i) {
      ASSERT_TRUE(codes[i] == first_code || codes[i] == second_code);
      const std::uint32_t word = codes[i] == first_code ? first : second;
      seconds += word == second ? 1 : 0;
      bad = bad || word >= modulus(f);
      for (std::size_t k = 0; k < 2; ++k) {
        const std::uint32_t s = mul(tables.a[k * tables.challenge.a_stride + i % kChannels],
                                    tables.c[k * kPositions + i / kChannels], f);
        want.value[k] = add(want.value[k], mul(reduce(word & mask, f), s, f), f);
      }
    }
    ASSERT_EQ(sum.residues.value, want.value) << kernels.name;
    ASSERT_EQ(sum.bad != 0, bad) << kernels.name;
    if (seconds != 0 && seconds != kWords) ++mixed;
  }
  EXPECT_GE(mixed, 30) << "the rewriter never met a tile half way";
}

TEST(BorderTest, CodesAndChecksComeFromTheSameLoad) {
  for (const Kernels* kernels : test::supported_kernels()) {
    for (const Field f : test::kFields) race(*kernels, f, 3, 200);
  }
}

// Between a good word and one that is out of range: bad is set exactly when a bad one was taken.
TEST(BorderTest, TheRangeTestSeesTheWordThatIsUsed) {
  for (const Kernels* kernels : test::supported_kernels()) {
    // 2^24 - 255 (that is -252) and 2^24 - 2 = p + 1; the same below 2^31.
    race(*kernels, Field::kP24, 0xff'ff01, 0xff'fffe);
    race(*kernels, Field::kP31, 0x7fff'ff01, 0x7fff'ffff);
  }
}

}  // namespace
}  // namespace slalom::field
