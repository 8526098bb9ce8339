// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/engine.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "support/session_fakes.h"
#include "untrusted/host/process.h"

namespace slalom::host {
namespace {

using std::chrono::steady_clock;

class Codes final : public runtime::Source {
 public:
  explicit Codes(std::vector<std::uint8_t> firsts) : firsts_(std::move(firsts)) {}
  bool next(std::span<std::uint8_t> codes) override {
    if (at_ == firsts_.size()) return false;
    std::fill(codes.begin(), codes.end(), std::uint8_t{3});
    codes[0] = firsts_[at_++];
    return true;
  }

 private:
  std::vector<std::uint8_t> firsts_;
  std::size_t at_ = 0;
};

class Results final : public runtime::Sink {
 public:
  void deliver(std::uint64_t image, std::span<const runtime::OutputView> outputs) override {
    order.push_back(image);
    firsts.push_back(outputs[0].codes[0]);
    integers.push_back(outputs[1].integers[0]);
  }
  void fail(std::uint64_t image, Error error) override {
    order.push_back(image);
    failures.push_back({error.code, error.message});
  }
  std::vector<std::uint64_t> order;
  std::vector<std::uint8_t> firsts;
  std::vector<std::int32_t> integers;
  std::vector<Failure> failures;
};

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("slalom-host-" + std::to_string(getpid()) + "-" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    write(plan_path(), model::encode_plan(testing::session_plan()));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string plan_path() const { return folder_ / "plan.slalom"; }
  static void write(const std::string& path, const std::vector<std::byte>& bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  [[nodiscard]] EngineOptions options(std::vector<std::string> devices = {"none"}) const {
    EngineOptions o;
    o.plan_file = plan_path();
    o.devices = std::move(devices);
    o.device_threads = 1;
    o.trusted_program = FAKE_TRUSTED;
    o.device_program = DEVICE_PROGRAM;
    return o;
  }
  // The fake misbehaves as its name says.
  [[nodiscard]] EngineOptions misbehaving(const std::string& how) const {
    EngineOptions o = options();
    o.trusted_program = folder_ / ("fake_trusted-" + how);
    std::filesystem::create_symlink(FAKE_TRUSTED, o.trusted_program);
    return o;
  }
  static Failure failure_of(const EngineOptions& o) {
    auto engine = Engine::start(o);
    EXPECT_FALSE(engine.ok());
    return engine.ok() ? Failure{} : engine.failure();
  }

  std::filesystem::path folder_;
};

TEST_F(EngineTest, RunsImagesInOrderAndReportsRejectedOnes) {
  auto engine = Engine::start(options());
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  for (int round = 0; round < 3; ++round) {
    Codes source({10, 255, 12});
    Results results;
    ASSERT_TRUE((*engine)->run(source, results).ok());
    EXPECT_EQ(results.order, (std::vector<std::uint64_t>{0, 1, 2}));
    EXPECT_EQ(results.firsts, (std::vector<std::uint8_t>{11, 13}));
    EXPECT_EQ(results.integers, (std::vector<std::int32_t>{0, 2}));
    ASSERT_EQ(results.failures.size(), 1U);
    EXPECT_EQ(results.failures[0].code, Errc::kRejected);
    EXPECT_EQ(results.failures[0].message, "a device gave a wrong answer");
  }
  EXPECT_EQ((*engine)->stats()->images, 9U);
  EXPECT_EQ((*engine)->digest(), *model::plan_digest(model::encode_plan(testing::session_plan())));
  ASSERT_NE((*engine)->plan(), nullptr);
  EXPECT_EQ((*engine)->plan()->nodes.size(), 4U);
  const auto report = (*engine)->report();
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->isa, host::isa_name(base::detect_cpu()));
}

TEST_F(EngineTest, ThousandsOfImagesFlow) {
  auto engine = Engine::start(options());
  ASSERT_TRUE(engine.ok());
  Codes source(std::vector<std::uint8_t>(20'000, 9));
  Results results;
  ASSERT_TRUE((*engine)->run(source, results).ok());
  EXPECT_EQ(results.firsts.size(), 20'000U);
}

TEST_F(EngineTest, AnEarlyEndIsTheRunsFailureAndTheEngineLives) {
  auto engine = Engine::start(options());
  ASSERT_TRUE(engine.ok());
  std::vector<std::uint8_t> many(5000, 9);
  many[2] = 254;
  Codes source(many);
  Results results;
  const Done done = (*engine)->run(source, results);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.failure().code, Errc::kUnavailable);
  EXPECT_EQ(results.firsts.size(), 2U);
  Codes again({1});
  EXPECT_TRUE((*engine)->run(again, results).ok());
}

TEST_F(EngineTest, RealWorkersLoadThePlanAndAreReplacedWhenTheyDie) {
  auto engine = Engine::start(options({"cpu", "cpu"}));
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  Codes source({1, 2});
  Results results;
  ASSERT_TRUE((*engine)->run(source, results).ok());
  Modes larger;
  larger.options.micro_batch = 9;  // more than the workers were started for
  ASSERT_TRUE((*engine)->reconfigure(larger).ok());
  EXPECT_EQ((*engine)->stats()->images, 0U);
  Codes again({1, 2});
  EXPECT_TRUE((*engine)->run(again, results).ok());
}

// Pids of the direct children of this process.
std::vector<pid_t> children() {
  std::vector<pid_t> out;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "children");
    for (pid_t pid = 0; file >> pid;) out.push_back(pid);
  }
  return out;
}
std::string name_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}
pid_t child_named(const std::string& name) {
  for (const pid_t pid : children()) {
    if (name_of(pid) == name) return pid;
  }
  return -1;
}

TEST_F(EngineTest, AWorkerThatDiesInARunIsNoticedAtOnce) {
  auto engine = Engine::start(options({"cpu"}));
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  const pid_t worker = child_named("slalom-device");
  ASSERT_GT(worker, 0);
  std::thread killer([worker] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    kill(worker, SIGKILL);
  });
  const auto start = steady_clock::now();
  Codes source({78});  // the fake waits for a minute unless the worker's end is seen
  Results results;
  const Done done = (*engine)->run(source, results);
  killer.join();
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.failure().code, Errc::kUnavailable);
  EXPECT_NE(done.failure().message.find("was killed by signal 9"), std::string::npos)
      << done.failure().message;
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(20));
  ASSERT_TRUE((*engine)->reconfigure(Modes{}).ok()) << "the worker is started again";
  Codes again({1});
  EXPECT_TRUE((*engine)->run(again, results).ok());
}

TEST_F(EngineTest, ATrustedProcessThatDiesIsSaidToHave) {
  auto engine = Engine::start(options());
  ASSERT_TRUE(engine.ok());
  Codes source({1, 77, 2});
  Results results;
  const Done done = (*engine)->run(source, results);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.failure().code, Errc::kUnavailable);
  EXPECT_NE(done.failure().message.find("killed by signal 9"), std::string::npos)
      << done.failure().message;
  EXPECT_FALSE((*engine)->stats().ok());
  EXPECT_FALSE((*engine)->reconfigure(Modes{}).ok());
}

TEST_F(EngineTest, StartFailsWithOneClearSentence) {
  EngineOptions o = options();
  o.plan_file = folder_ / "missing.slalom";
  EXPECT_EQ(failure_of(o).code, Errc::kInvalidArgument);
  EXPECT_NE(failure_of(o).message.find("missing.slalom"), std::string::npos);
  o.plan_file = folder_;
  EXPECT_EQ(failure_of(o).code, Errc::kInvalidArgument);
  o.plan_file = folder_ / "bad.slalom";
  auto bytes = model::encode_plan(testing::session_plan());
  bytes[40] ^= std::byte{1};
  write(o.plan_file, bytes);
  EXPECT_EQ(failure_of(o).code, Errc::kMalformed);
  write(o.plan_file, {});
  EXPECT_EQ(failure_of(o).code, Errc::kMalformed);

  o = options();
  o.trusted_program = folder_ / "nothing-here";
  EXPECT_EQ(failure_of(o).code, Errc::kUnavailable);
  o = options({"cpu"});
  o.device_program = folder_ / "nothing-here";
  EXPECT_EQ(failure_of(o).code, Errc::kUnavailable);
  o = options({"cpu"});
  o.device_program = "/bin/false";
  EXPECT_EQ(failure_of(o).code, Errc::kUnavailable);
  EXPECT_NE(failure_of(o).message.find("ended with status 1"), std::string::npos);

  const std::vector<std::vector<std::string>> wrong_devices = {
      {}, {"gpu"}, {"none", "cpu"}, {"unix:"}, {"unix"}, std::vector<std::string>(17, "cpu")};
  for (const auto& devices : wrong_devices) {
    EXPECT_EQ(failure_of(options(devices)).code, Errc::kInvalidArgument);
  }
  EXPECT_EQ(failure_of(options({"unix:" + std::string(folder_ / "nobody")})).code,
            Errc::kUnavailable);
  EXPECT_EQ(failure_of(options({"unix:" + std::string(200, 'x')})).code, Errc::kInvalidArgument);

  o = options();
  o.modes.options.micro_batch = 0;
  EXPECT_EQ(failure_of(o).code, Errc::kInvalidArgument);
  o = options();
  o.modes.options.soundness_bits = 200;  // the fake executor refuses this
  EXPECT_EQ(failure_of(o).message, "too many bits");
  o = options();
  o.modes.placement = runtime::Placement{{true}};
  EXPECT_EQ(failure_of(o).code, Errc::kInvalidArgument);
  o = options();
  o.modes.options.privacy = model::Privacy::kPads;
  o.modes.pad_store = folder_ / "no" / "store";
  EXPECT_EQ(failure_of(o).code, Errc::kInvalidArgument);
}

TEST_F(EngineTest, ABrokenTrustedProcessIsNoHang) {
  const Failure dead = failure_of(misbehaving("dies-at-start"));
  EXPECT_EQ(dead.code, Errc::kUnavailable);
  EXPECT_NE(dead.message.find("ended with status 7"), std::string::npos) << dead.message;
  const Failure keyless = failure_of(misbehaving("has-no-keys"));
  EXPECT_EQ(keyless.code, Errc::kUnavailable);
  EXPECT_NE(keyless.message.find("ulimit -l"), std::string::npos) << keyless.message;
  EXPECT_EQ(failure_of(misbehaving("speaks-nonsense")).code, Errc::kUnavailable);
}

TEST_F(EngineTest, ChildrenGetNoEnvironmentAndNoStrayDescriptors) {
  const int stray = dup(2);  // inheritable
  setenv("LD_PRELOAD_SLALOM_TEST", "x", 1);
  const Failure f = failure_of(misbehaving("sees-the-environment"));
  close(stray);
  EXPECT_NE(f.message.find("ended with status 11"), std::string::npos) << f.message;
}

TEST_F(EngineTest, NothingIsLeftBehind) {
  const std::string path = folder_ / "control";
  {
    EngineOptions o = options({"cpu"});
    o.listen = path;
    auto engine = Engine::start(o);
    ASSERT_TRUE(engine.ok()) << engine.failure().message;
    EXPECT_EQ(children().size(), 2U);
    EXPECT_TRUE(std::filesystem::exists(path));
    EXPECT_EQ(std::filesystem::status(path).permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  }
  EXPECT_EQ(children().size(), 0U);
  EXPECT_FALSE(std::filesystem::exists(path));
}

// Whether a process lives (zombies do not).
bool lives(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string skip, name, state;
  return static_cast<bool>(file >> skip >> name >> state) && state != "Z";
}

TEST_F(EngineTest, ChildrenDieWithAHostThatIsKilled) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const pid_t host = fork();
  if (host == 0) {
    // The engine lives in a thread that ends before the process does: children must not care.
    std::unique_ptr<Engine> engine;
    std::thread([&] {
      auto started = Engine::start(options({"cpu"}));
      if (started.ok()) engine = std::move(*started);
    }).join();
    std::vector<pid_t> all = children();
    all.resize(2, -1);
    (void)!::write(ends[1], all.data(), 2 * sizeof(pid_t));
    pause();
    _exit(0);
  }
  std::array<pid_t, 2> pids{};
  ASSERT_EQ(read(ends[0], pids.data(), sizeof(pids)), static_cast<ssize_t>(sizeof(pids)));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  for (const pid_t pid : pids) {
    ASSERT_GT(pid, 0);
    EXPECT_TRUE(lives(pid));
  }
  kill(host, SIGKILL);
  waitpid(host, nullptr, 0);
  for (const pid_t pid : pids) {
    for (int turn = 0; turn < 500 && lives(pid); ++turn) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_FALSE(lives(pid));
  }
  close(ends[0]);
  close(ends[1]);
}

TEST_F(EngineTest, OthersAttachToAResidentProcess) {
  EngineOptions o = options();
  o.listen = folder_ / "control";
  o.modes.options.privacy = model::Privacy::kPads;
  auto engine = Engine::start(o);
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  {
    auto second = Engine::attach(o.listen);
    ASSERT_TRUE(second.ok()) << second.failure().message;
    EXPECT_EQ((*second)->digest(), (*engine)->digest());
    EXPECT_EQ((*second)->plan(), nullptr);
    std::uint64_t last = 0;
    const auto made = (*second)->prepare(5, [&](std::uint64_t n, std::uint64_t count) {
      EXPECT_EQ(count, 5U);
      last = n;
      return true;
    });
    ASSERT_TRUE(made.ok());
    EXPECT_EQ(*made, 5U);
    EXPECT_EQ(last, 5U);
    Codes source({4});
    Results results;
    EXPECT_TRUE((*second)->run(source, results).ok());
    EXPECT_EQ((*second)->reconfigure(Modes{}).failure().code, Errc::kInvalidArgument);
  }
  EXPECT_EQ((*engine)->pad_stock()->images, 5U);
  EXPECT_EQ((*engine)->pad_stock()->bytes_per_image, 1000U);
  // Pads stay while the mode stays, and go with it.
  Modes same = o.modes;
  same.options.integrity = model::Integrity::kPlain;
  ASSERT_TRUE((*engine)->reconfigure(same).ok());
  EXPECT_EQ((*engine)->pad_stock()->images, 5U);
  ASSERT_TRUE((*engine)->reconfigure(Modes{}).ok());
  EXPECT_EQ((*engine)->pad_stock().failure().code, Errc::kInvalidArgument);

  auto third = Engine::attach(o.listen);
  ASSERT_TRUE(third.ok());
  EXPECT_TRUE((*third)->shutdown().ok());
  Codes source({4});
  Results results;
  EXPECT_EQ((*engine)->run(source, results).failure().code, Errc::kUnavailable);
  EXPECT_EQ(Engine::attach(folder_ / "nothing").failure().code, Errc::kUnavailable);
}

TEST_F(EngineTest, ADiskTooSmallIsRefusedBeforehand) {
  EngineOptions o = options();
  o.modes.options.privacy = model::Privacy::kPads;
  o.modes.pad_store = folder_ / "pads";
  auto engine = Engine::start(o);
  ASSERT_TRUE(engine.ok()) << engine.failure().message;
  EXPECT_TRUE(std::filesystem::exists(o.modes.pad_store));
  EXPECT_GT((*engine)->pad_stock()->free_bytes, 0U);
  const auto made = (*engine)->prepare(std::uint64_t{1} << 50, nullptr);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.failure().code, Errc::kUnavailable);
  EXPECT_NE(made.failure().message.find("room for"), std::string::npos);
}

TEST_F(EngineTest, AWorkerThatListensServesOneHostAfterAnother) {
  const std::string path = folder_ / "worker";
  auto worker = Child::spawn(DEVICE_PROGRAM,
                             {"--device", "cpu", "--plan", plan_path(), "--listen", path,
                              "--max-batch", "4", "--threads", "1"},
                             {});
  ASSERT_TRUE(worker.ok());
  const auto connected = [&] {
    for (int turn = 0; turn < 500 && !std::filesystem::exists(path); ++turn) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return options({"unix:" + path});
  };
  for (int round = 0; round < 3; ++round) {
    auto engine = Engine::start(connected());
    ASSERT_TRUE(engine.ok()) << engine.failure().message;
    Codes source({4});
    Results results;
    EXPECT_TRUE((*engine)->run(source, results).ok());
  }
  EngineOptions larger = connected();
  larger.modes.options.micro_batch = 5;
  EXPECT_EQ(failure_of(larger).code, Errc::kInvalidArgument);
  testing::PlanBuilder b(99);
  const auto in = b.input({4, 4, 3});
  write(folder_ / "other.slalom", model::encode_plan(b.finish({b.conv(in, {})})));
  EngineOptions other = connected();
  other.plan_file = folder_ / "other.slalom";
  EXPECT_EQ(failure_of(other).code, Errc::kMalformed);
}

}  // namespace
}  // namespace slalom::host
