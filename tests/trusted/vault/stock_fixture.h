// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <utility>
#include <variant>
#include <vector>

#include "naive_linear.h"
#include "support/plans.h"
#include "vault/stocked_pads.h"

namespace slalom::vault {

// SharedStore lets a test look at, change and bring back what the pads keep outside.
struct Outside {
  std::shared_mutex mutex;  // exclusive while the vector grows or goes
  std::vector<std::byte> bytes;
  std::uint64_t most = ~0ULL;
  bool takes = true;   // what is written
  bool clears = true;  // when it is asked to
};
class SharedStore final : public BlobStore {
 public:
  explicit SharedStore(Outside& outside) : outside_(outside) {}
  Status write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    const std::shared_lock lock(outside_.mutex);
    if (!outside_.takes) return Error{Errc::kUnavailable, "full"};
    std::memcpy(outside_.bytes.data() + offset, bytes.data(), bytes.size());
    return {};
  }
  Status read(std::uint64_t offset, std::span<std::byte> out) override {
    const std::shared_lock lock(outside_.mutex);
    if (offset + out.size() > outside_.bytes.size()) return Error{Errc::kUnavailable, "gone"};
    std::memcpy(out.data(), outside_.bytes.data() + offset, out.size());
    return {};
  }
  Status reserve(std::uint64_t bytes) override {
    const std::lock_guard lock(outside_.mutex);
    if (bytes > outside_.most) return Error{Errc::kUnavailable, "full"};
    outside_.bytes.resize(std::max<std::size_t>(outside_.bytes.size(), bytes));
    return {};
  }
  Status clear() override {
    const std::lock_guard lock(outside_.mutex);
    if (!outside_.clears) return Error{Errc::kUnavailable, "not empty"};
    outside_.bytes.clear();
    return {};
  }
  std::uint64_t size() override {
    const std::shared_lock lock(outside_.mutex);
    return outside_.bytes.size();
  }

 private:
  Outside& outside_;
};

class StockedPadsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto random = field::make_system_random(cpu_);
    ASSERT_TRUE(random.ok()) << random.error().message;
    random_ = std::move(random).value();
    for (std::uint32_t i = 0; i < plan_.nodes.size(); ++i) {
      const auto* linear = std::get_if<model::Linear>(&plan_.nodes[i].op);
      if (linear != nullptr && linear->field) nodes_.push_back(i);
    }
    digest_ = *model::plan_digest(model::encode_plan(plan_));
  }
  Epoch draw() { return Epoch::draw(*random_).value(); }
  std::unique_ptr<StockedPads> open(const Epoch& epoch, WhenDry when_dry = WhenDry::kFail,
                                    model::Privacy mode = model::Privacy::kPads) {
    StockOptions options;
    options.mode = mode;
    options.when_dry = when_dry;
    options.cpu = cpu_;
    options.batch = 3;
    auto pads = StockedPads::create(plan_, digest_, nodes_, epoch, numbers_,
                                    in_memory_ ? nullptr : std::make_unique<SharedStore>(outside_),
                                    options);
    EXPECT_TRUE(pads.ok()) << pads.error().message;
    return std::move(pads).value();
  }
  std::vector<std::uint32_t> pad(StockedPads& pads, const PadTicket& ticket, std::uint32_t node) {
    const auto& linear = std::get<model::Linear>(plan_.nodes[node].op);
    base::Wiped<field::StreamKey> key;
    EXPECT_TRUE(pads.pad_key(ticket, plan_.nodes[node].inputs[0], key.reveal()).ok());
    std::vector<std::uint32_t> words(linear.in().elements());
    field::PadStream(key.reveal(), *linear.field, field::choose_kernels(cpu_)).fill(0, words);
    return words;
  }
  Status factors(StockedPads& pads, const PadTicket& ticket, std::uint32_t node,
                 std::vector<std::uint32_t>& out) {
    const auto& linear = std::get<model::Linear>(plan_.nodes[node].op);
    out.assign(linear.out().elements(), 0);
    return pads.open_factors(ticket, node, *linear.field, 0, out);
  }
  void expect_factors_of_the_pads(StockedPads& pads, const PadTicket& ticket) {
    for (const std::uint32_t node : nodes_) {
      std::vector<std::uint32_t> u;
      ASSERT_TRUE(factors(pads, ticket, node, u).ok());
      EXPECT_EQ(
          u, naive_linear(std::get<model::Linear>(plan_.nodes[node].op), pad(pads, ticket, node)));
    }
  }
  // usable says whether every node's factors open; any failure must be kRejected.
  bool usable(StockedPads& pads, const PadTicket& ticket) {
    for (const std::uint32_t node : nodes_) {
      std::vector<std::uint32_t> out;
      const auto status = factors(pads, ticket, node, out);
      if (!status.ok()) {
        EXPECT_EQ(status.error().code, Errc::kRejected);
        return false;
      }
    }
    return true;
  }

  base::CpuFeatures cpu_ = base::detect_cpu();
  std::unique_ptr<field::Random> random_;
  model::Plan plan_ = testing::small_network();
  model::Digest digest_{};
  std::vector<std::uint32_t> nodes_;
  InferenceNumbers numbers_;
  Outside outside_;
  bool in_memory_ = false;
};

}  // namespace slalom::vault
