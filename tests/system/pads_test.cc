// SPDX-License-Identifier: Apache-2.0
// The trusted process is killed at random moments of its work with pads, and its store file is
// replaced by older copies. The device, which outlives it, keeps what it was sent: for one and the
// same image, so that two equal messages would be one pad twice.
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <iterator>
#include <random>
#include <set>

#include "support/plans.h"
#include "system/liar_bench.h"

namespace slalom {
namespace {

using host::Modes;
using model::Privacy;
using testing::Answers;
using testing::Fingerprint;
using testing::Folder;
using testing::LiarBench;

// SameImage gives one image again and again.
class SameImage final : public runtime::Source {
 public:
  explicit SameImage(std::uint64_t count) : left_(count) {}
  bool next(std::span<std::uint8_t> codes) override {
    if (left_ == 0) return false;
    --left_;
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(7 * i);
    return true;
  }

 private:
  std::uint64_t left_;
};

// child_named finds a child of this process by its program's name; -1: there is none.
pid_t child_named(const std::string& name) {
  std::error_code gone;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", gone)) {
    std::ifstream children(task.path() / "children");
    for (pid_t pid = 0; children >> pid;) {
      std::string comm;
      std::ifstream("/proc/" + std::to_string(pid) + "/comm") >> comm;
      if (comm == name) return pid;
    }
  }
  return -1;
}

// Killer kills the trusted process some time after it was told to.
class Killer {
 public:
  ~Killer() { finish(); }
  // As soon as there is one, and `delay` after that.
  void start(std::chrono::microseconds delay) {
    thread_ = std::thread([this, delay] {
      while (!stop_) {
        if (const pid_t pid = child_named("slalom-trusted"); pid > 0) {
          std::this_thread::sleep_for(delay);
          landed_ = kill(pid, SIGKILL) == 0;
          return;
        }
      }
    });
  }
  // finish waits for the end and returns whether something was killed.
  bool finish() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return landed_;
  }
  [[nodiscard]] bool started() const { return thread_.joinable(); }

 private:
  std::thread thread_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> landed_ = false;
};

// KillAt keeps the answers and acts when the n-th of them is released.
class KillAt final : public runtime::Sink {
 public:
  KillAt(std::uint64_t n, std::function<void()> act) : left_(n), act_(std::move(act)) {}
  void deliver(std::uint64_t image, std::span<const runtime::OutputView> outputs) override {
    answers.deliver(image, outputs);
    if (left_ > 0 && --left_ == 0) act_();
  }
  void fail(std::uint64_t image, Error error) override { answers.fail(image, error); }
  Answers answers;

 private:
  std::uint64_t left_;
  std::function<void()> act_;
};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void write_file(const std::string& path, const std::string& bytes) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  ASSERT_TRUE(file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())));
}

class PadsTest : public ::testing::Test {
 protected:
  void SetUp() override { SLALOM_NEEDS_DEVICE(); }
  PadsTest() : bench_(folder_.write("plan.slalom", plan_), folder_.file("liar"), 2) {
    bench_.watch(plan_.nodes[0].inputs[0] == plan_.inputs[0] ? 0 : testing::kAnyLayer);
  }
  [[nodiscard]] Modes modes() const {
    Modes m;
    m.options.privacy = Privacy::kPads;
    m.options.threads = 1;
    m.options.micro_batch = 2;
    m.options.in_flight = 2;
    m.pad_store = store_;
    return m;
  }
  // fresh takes what the device saw since the last call and returns how many images there were;
  // none may have come before.
  std::size_t fresh() {
    std::size_t count = 0;
    for (const Fingerprint& words : bench_.seen()) {
      EXPECT_TRUE(used_.insert(words).second) << "one pad came twice";
      ++count;
    }
    return count;
  }

  model::Plan plan_ = testing::small_network();
  Folder folder_;
  std::string store_ = folder_.file("pads");
  LiarBench bench_;
  std::set<Fingerprint> used_;
};

TEST_F(PadsTest, NoPadComesTwiceOverManyKilledProcesses) {
  constexpr int kKills = 210;
  enum Phase { kStarting, kPreparing, kRunning };
  std::array<int, 3> landed{};
  std::mt19937 random(17);
  std::string older;
  std::optional<Answers::Image> honest;
  int dead = 0;
  int kills = 0;
  for (int round = 0; kills < kKills; ++round) {
    ASSERT_LT(round, 2 * kKills) << "most kills come too late";
    const auto phase = static_cast<Phase>(round % 3);
    const auto delay = std::chrono::microseconds(random() % (phase == kStarting ? 20'000 : 3'000));
    const bool stocked = std::filesystem::exists(store_) && std::filesystem::file_size(store_) > 0;
    Killer killer;
    if (phase == kStarting) killer.start(delay);
    if (bench_.start(modes()).ok()) {
      const auto stock = bench_.engine().pad_stock();
      if (stock.ok()) {
        EXPECT_EQ(stock->dead_stock, stocked);
        EXPECT_EQ(stock->images, 0U) << "of a dead process";
        dead += stocked ? 1 : 0;
      }
      const std::uint64_t moment = 1 + random() % 6;
      static_cast<void>(bench_.engine().prepare(6, [&](std::uint64_t done, std::uint64_t) {
        if (phase == kPreparing && done == moment) killer.start(delay);
        return true;
      }));
      SameImage images(100'000);
      KillAt sink(moment, [&] {
        if (!killer.started()) killer.start(delay);
      });
      EXPECT_FALSE(bench_.engine().run(images, sink).ok()) << "it was killed";
      for (const auto& [image, code] : sink.answers.failed) EXPECT_NE(code, Errc::kRejected);
      for (Answers::Image image : sink.answers.released) {
        image.number = 0;
        if (!honest) honest = image;
        ASSERT_EQ(image, *honest);
      }
    }
    bench_.stop();
    if (killer.finish()) {
      ++kills;
      ++landed[phase];
    }
    fresh();
    if (round % 5 == 3) older = read_file(store_);
    if (round % 5 == 1 && !older.empty()) write_file(store_, older);
    if (HasFailure()) return;
  }
  for (const int n : landed) EXPECT_GT(n, kKills / 10);
  EXPECT_GT(dead, kKills / 4);
  EXPECT_GT(used_.size(), 500U);
  std::printf(
      "%d kills (%d starting, %d preparing, %d running), %zu pads seen, none twice; "
      "%d dead stores recognised\n",
      kills, landed[0], landed[1], landed[2], used_.size(), dead);
}

// The tests above can fail: without pads the device sees one image as one message.
TEST_F(PadsTest, WithoutPadsEqualImagesAreSeen) {
  Modes open = modes();
  open.options.privacy = Privacy::kOff;
  ASSERT_TRUE(bench_.start(open).ok());
  SameImage images(4);
  Answers out;
  ASSERT_TRUE(bench_.engine().run(images, out).ok());
  const auto seen = bench_.seen();
  ASSERT_EQ(seen.size(), 4U);
  EXPECT_EQ(seen[0], seen[3]);
}

// Within one process: old factors in the place of new ones reject their images and show nothing.
TEST_F(PadsTest, AnOlderCopyOfTheStoreIsRejected) {
  ASSERT_TRUE(bench_.start(modes()).ok());
  const auto run = [&](std::uint64_t count) {
    SameImage images(count);
    Answers out;
    static_cast<void>(bench_.engine().run(images, out));
    return out;
  };
  const auto prepare = [&] {
    const auto made = bench_.engine().prepare(4, [](auto, auto) { return true; });
    ASSERT_TRUE(made.ok());
  };
  prepare();
  const std::string older = read_file(store_);
  ASSERT_EQ(run(4).released.size(), 4U);
  prepare();
  const std::string newer = read_file(store_);
  ASSERT_EQ(newer.size(), older.size()) << "places are used again";
  ASSERT_NE(newer, older);
  write_file(store_, older);
  const Answers out = run(4);
  EXPECT_TRUE(out.released.empty());
  EXPECT_EQ(out.failed.size(), 4U);
  for (const auto& [image, code] : out.failed) EXPECT_EQ(code, Errc::kRejected);
  // The newer copy comes back: those numbers are spent and their pads gone for good.
  write_file(store_, newer);
  EXPECT_EQ(bench_.engine().pad_stock()->images, 0U);
  EXPECT_EQ(run(4).released.size(), 4U);
  EXPECT_EQ(fresh(), 12U);
}

}  // namespace
}  // namespace slalom
