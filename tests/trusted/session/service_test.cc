// SPDX-License-Identifier: Apache-2.0
#include "session/service.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "support/session_fakes.h"

namespace slalom::session {
namespace {

using testing::FakeMakers;
using testing::session_plan;

class ServiceTest : public ::testing::Test {
 protected:
  void load() { ASSERT_TRUE(service_.load(model::encode_plan(session_plan())).ok()); }
  Status configure(const Configure& c) { return service_.configure(c, {}); }

  FakeMakers makers_;
  Service service_{makers_, base::detect_cpu()};
};

TEST_F(ServiceTest, GoesThroughItsStatesInOrder) {
  EXPECT_EQ(service_.welcome().state, State::kEmpty);
  EXPECT_EQ(configure({}).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(service_.attach().error().code, Errc::kInvalidArgument);
  EXPECT_EQ(service_.start().error().code, Errc::kInvalidArgument);
  load();
  EXPECT_EQ(service_.welcome().state, State::kLoaded);
  EXPECT_EQ(service_.welcome().input_bytes, 48U);
  EXPECT_EQ(service_.welcome().digest, *model::plan_digest(model::encode_plan(session_plan())));
  EXPECT_EQ(service_.attach().error().code, Errc::kInvalidArgument);
  ASSERT_TRUE(configure({.threads = 3, .micro_batch = 2, .timeout_ms = 50}).ok());
  EXPECT_FALSE(configure({}).ok()) << "reset comes first";
  const auto attached = service_.attach();
  ASSERT_TRUE(attached.ok());
  EXPECT_GE(attached->segment, 0);
  ASSERT_TRUE(service_.attach().ok());
  const auto started = service_.start();
  ASSERT_TRUE(started.ok());
  EXPECT_EQ(started->layers_checked, 3U);
  EXPECT_EQ(started->soundness_bits, 42.5);
  EXPECT_EQ(makers_.last_ports, 2U);
  EXPECT_EQ(makers_.last_options.threads, 3U);
  EXPECT_EQ(makers_.last_options.timeout, std::chrono::milliseconds(50));
  EXPECT_EQ(makers_.last_placement.remote, runtime::default_placement(session_plan()).remote);
  EXPECT_FALSE(service_.attach().ok());
  EXPECT_FALSE(service_.start().ok()) << "it runs already";
  EXPECT_FALSE(configure({}).ok());
  service_.reset();
  EXPECT_EQ(service_.welcome().state, State::kLoaded);
  EXPECT_TRUE(configure({}).ok());
  EXPECT_EQ(service_.start()->layers_checked, 3U);
  EXPECT_EQ(makers_.last_ports, 0U);
  EXPECT_GE(makers_.last_options.threads, 1U) << "0 means all processors";
}

TEST_F(ServiceTest, ABadPlanLeavesTheOldOne) {
  load();
  auto bytes = model::encode_plan(session_plan());
  bytes[bytes.size() / 2] ^= std::byte{1};
  const auto loaded = service_.load(std::move(bytes));
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, Errc::kMalformed);
  EXPECT_EQ(service_.welcome().state, State::kLoaded);
  EXPECT_EQ(service_.load({}).error().code, Errc::kMalformed);
}

TEST_F(ServiceTest, ANewPlanLeavesNothingOfTheOldOne) {
  load();
  ASSERT_TRUE(configure({.privacy = model::Privacy::kPads}).ok());
  ASSERT_TRUE(service_.attach().ok());
  ASSERT_TRUE(service_.start().ok());
  EXPECT_TRUE(service_.stock().ok());
  load();
  EXPECT_EQ(service_.welcome().state, State::kLoaded);
  EXPECT_FALSE(service_.stock().ok());
  EXPECT_FALSE(configure({.privacy = model::Privacy::kPads, .store = StoreUse::kKeep}).ok());
  ASSERT_TRUE(configure({}).ok());
  ASSERT_TRUE(service_.start().ok());
  EXPECT_EQ(makers_.last_ports, 0U);
  EXPECT_EQ(makers_.last_pads, nullptr);
}

TEST_F(ServiceTest, PlacementsMustFitThePlan) {
  load();
  EXPECT_FALSE(configure({.remote = {1}}).ok());
  EXPECT_FALSE(configure({.remote = {1, 1, 1, 1}}).ok()) << "node 2 is a reshape";
  ASSERT_TRUE(configure({.remote = {1, 0, 0, 0}}).ok());
  ASSERT_TRUE(service_.start().ok());
  EXPECT_EQ(makers_.last_placement.remote, (std::vector<bool>{true, false, false, false}));
}

TEST_F(ServiceTest, AFailedStartCanBeTriedAgain) {
  load();
  ASSERT_TRUE(configure({.soundness_bits = 200}).ok());
  EXPECT_FALSE(service_.start().ok());
  EXPECT_EQ(service_.welcome().state, State::kConfigured);
  service_.reset();
  ASSERT_TRUE(configure({}).ok());
  EXPECT_TRUE(service_.start().ok());
}

TEST_F(ServiceTest, TooManyDevicesAreRefused) {
  load();
  ASSERT_TRUE(configure({}).ok());
  for (std::size_t i = 0; i < kMaxDevices; ++i) ASSERT_TRUE(service_.attach().ok());
  EXPECT_FALSE(service_.attach().ok());
}

TEST_F(ServiceTest, PadsAreMadeKeptOrReplaced) {
  load();
  EXPECT_FALSE(service_.stock().ok());
  const auto always = [](void*, std::uint64_t, std::uint64_t) { return true; };
  EXPECT_EQ(service_.prepare(1, always, nullptr).error().code, Errc::kInvalidArgument);
  EXPECT_FALSE(configure({.privacy = model::Privacy::kPads, .store = StoreUse::kKeep}).ok());
  EXPECT_FALSE(configure({.privacy = model::Privacy::kPads, .store = StoreUse::kPassed}).ok())
      << "no descriptor came";
  outside::Descriptor stray(memfd_create("store", 0));
  EXPECT_FALSE(service_.configure({.privacy = model::Privacy::kPads}, std::move(stray)).ok());

  outside::Descriptor store(memfd_create("store", 0));
  ASSERT_TRUE(service_
                  .configure({.privacy = model::Privacy::kPads, .store = StoreUse::kPassed},
                             std::move(store))
                  .ok());
  EXPECT_TRUE(makers_.last_store);
  EXPECT_EQ(*service_.prepare(7, always, nullptr), 7U);
  EXPECT_EQ(service_.stock()->images, 7U);
  EXPECT_EQ(service_.stock()->bytes_per_image, 1000U);
  EXPECT_FALSE(service_.stock()->dead_stock);
  ASSERT_TRUE(service_.start().ok());
  EXPECT_NE(makers_.last_pads, nullptr);

  service_.reset();
  EXPECT_EQ(service_.stock()->images, 7U) << "a reset leaves them for the next configuration";
  EXPECT_FALSE(
      configure(
          {.privacy = model::Privacy::kPads, .store = StoreUse::kKeep, .remote = {1, 0, 0, 0}})
          .ok())
      << "pads belong to a placement";
  ASSERT_TRUE(configure({.integrity = model::Integrity::kPlain,
                         .privacy = model::Privacy::kPads,
                         .store = StoreUse::kKeep})
                  .ok());
  EXPECT_EQ(makers_.vaults, 1);
  EXPECT_EQ(service_.stock()->images, 7U);

  service_.reset();
  makers_.dead_stock = true;
  ASSERT_TRUE(configure({.privacy = model::Privacy::kPads}).ok());
  EXPECT_EQ(makers_.vaults, 2);
  EXPECT_EQ(service_.stock()->images, 0U);
  EXPECT_TRUE(service_.stock()->dead_stock);
  service_.reset();
  ASSERT_TRUE(configure({}).ok());
  EXPECT_FALSE(service_.stock().ok());
  ASSERT_TRUE(service_.start().ok());
  EXPECT_EQ(makers_.last_pads, nullptr);
}

TEST_F(ServiceTest, ReportsTheMachine) {
  const Report report = service_.report();
  const base::CpuFeatures cpu = base::detect_cpu();
  EXPECT_EQ(std::memcmp(&report.cpu, &cpu, sizeof(cpu)), 0);
  EXPECT_GT(report.processors, 0U);
  EXPECT_GT(report.memory_bytes, 1U << 20);
}

}  // namespace
}  // namespace slalom::session
