// SPDX-License-Identifier: Apache-2.0
#include "session/control.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstring>
#include <tuple>

namespace slalom::session {
namespace {

// Every message: what is written is read back, byte for byte; each proper prefix and one byte more
// are refused.
template <class Message>
void expect_strict(const Message& message) {
  const auto bytes = encode(message);
  const auto again = decode<Message>(bytes);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(encode(*again), bytes);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(decode<Message>(std::span(bytes).first(n)).ok()) << n << " of " << bytes.size();
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  const auto refused = decode<Message>(longer);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kMalformed);
}

TEST(Control, EveryMessageIsStrict) {
  model::Digest digest{};
  digest[5] = std::byte{9};
  expect_strict(Hello{});
  expect_strict(Welcome{1, State::kStarted, digest, 150'528});
  expect_strict(PlanSize{12});
  expect_strict(PlanLoaded{digest, 7, 48});
  expect_strict(Configure{.remote = {0, 1, 1}});
  expect_strict(Configure{.integrity = model::Integrity::kPlain,
                          .privacy = model::Privacy::kPads,
                          .when_dry = vault::WhenDry::kFail,
                          .store = StoreUse::kKeep});
  expect_strict(DeviceAttached{2, 1 << 20});
  expect_strict(Started{12, 41.5});
  expect_strict(Output{3, {{4, {1, 2, 3}, {}}, {5, {}, {-1}}}});
  expect_strict(Output{});
  expect_strict(ErrorText{Errc::kRejected, "a sentence"});
  expect_strict(Failed{9, {Errc::kUnavailable, ""}});
  expect_strict(RunDone{});
  expect_strict(RunDone{ErrorText{Errc::kUnavailable, "gone"}});
  expect_strict(Prepare{5});
  expect_strict(Progress{1, 2});
  expect_strict(Prepared{1});
  expect_strict(Stock{1, 2, true});
  expect_strict(Report{.cpu = {.avx2 = true}, .dumpable = false});
  expect_strict(runtime::Stats{.images = 3,
                               .soundness_bits = 40.1,
                               .wall_s = 0.5,
                               .bytes_in = 9,
                               .steps = {{~0U, 5, 0, 7}, {1, 2, 3, 4}}});
}

TEST(Control, MembersSurviveTheWire) {
  const Configure c{.integrity = model::Integrity::kBatched,
                    .privacy = model::Privacy::kPads,
                    .when_dry = vault::WhenDry::kWait,
                    .store = StoreUse::kPassed,
                    .soundness_bits = 80,
                    .threads = 9,
                    .micro_batch = 17,
                    .in_flight = 5,
                    .timeout_ms = 50,
                    .bind = true,
                    .remote = {1, 0, 1}};
  const auto d = decode<Configure>(encode(c));
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->integrity, c.integrity);
  EXPECT_EQ(d->privacy, c.privacy);
  EXPECT_EQ(d->when_dry, c.when_dry);
  EXPECT_EQ(d->store, c.store);
  EXPECT_EQ(d->soundness_bits, 80U);
  EXPECT_EQ(d->threads, 9U);
  EXPECT_EQ(d->micro_batch, 17U);
  EXPECT_EQ(d->in_flight, 5U);
  EXPECT_EQ(d->timeout_ms, 50U);
  EXPECT_TRUE(d->bind);
  EXPECT_EQ(d->remote, c.remote);

  const Output o{7, {{4, {1, 2}, {}}, {5, {}, {-1, 1 << 30}}}};
  const auto p = decode<Output>(encode(o));
  ASSERT_TRUE(p.ok());
  ASSERT_EQ(p->outputs.size(), 2U);
  EXPECT_EQ(p->image, 7U);
  EXPECT_EQ(p->outputs[0].codes, o.outputs[0].codes);
  EXPECT_EQ(p->outputs[1].integers, o.outputs[1].integers);
  EXPECT_EQ(p->outputs[1].tensor, 5U);
}

TEST(Control, ConfigureRefusesValuesOutOfRange) {
  const auto refused = [](const Configure& c) { return !decode<Configure>(encode(c)).ok(); };
  EXPECT_FALSE(refused({}));
  EXPECT_TRUE(refused({.integrity = static_cast<model::Integrity>(4)}));
  EXPECT_TRUE(refused({.privacy = static_cast<model::Privacy>(3)}));
  EXPECT_TRUE(refused({.when_dry = static_cast<vault::WhenDry>(3)}));
  EXPECT_TRUE(refused({.store = static_cast<StoreUse>(3)}));
  EXPECT_TRUE(refused({.soundness_bits = 0}));
  EXPECT_TRUE(refused({.soundness_bits = 257}));
  EXPECT_TRUE(refused({.threads = 1025}));
  EXPECT_TRUE(refused({.micro_batch = 0}));
  EXPECT_TRUE(refused({.micro_batch = 257}));
  EXPECT_TRUE(refused({.in_flight = 0}));
  EXPECT_TRUE(refused({.in_flight = 65}));
  EXPECT_TRUE(refused({.timeout_ms = 0}));
  EXPECT_TRUE(refused({.timeout_ms = 3'600'001}));
  EXPECT_TRUE(refused({.remote = {2}}));
  EXPECT_TRUE(refused({.remote = std::vector<std::uint8_t>(kMaxNodes + 1)}));
  EXPECT_FALSE(refused({.remote = std::vector<std::uint8_t>(kMaxNodes)}));
}

TEST(Control, OtherRangesAreKept) {
  EXPECT_FALSE(decode<PlanSize>(encode(PlanSize{0})).ok());
  EXPECT_FALSE(decode<PlanSize>(encode(PlanSize{kMaxPlanBytes + 1})).ok());
  EXPECT_FALSE(decode<Welcome>(encode(Welcome{.state = static_cast<State>(4)})).ok());
  EXPECT_FALSE(decode<ErrorText>(encode(ErrorText{static_cast<Errc>(0), ""})).ok());
  EXPECT_FALSE(decode<ErrorText>(encode(ErrorText{static_cast<Errc>(6), ""})).ok());
  EXPECT_FALSE(decode<ErrorText>(encode(ErrorText{Errc::kInternal, "two\nlines"})).ok());
  EXPECT_FALSE(decode<ErrorText>(encode(ErrorText{Errc::kInternal, "\x1b[31m"})).ok());
  const auto cut = decode<ErrorText>(encode(ErrorText{Errc::kInternal, std::string(5000, 'x')}));
  ASSERT_TRUE(cut.ok());
  EXPECT_EQ(cut->text.size(), 4096U);
  EXPECT_FALSE(decode<Output>(encode(Output{1, {{2, {3}, {4}}}})).ok());
  auto report = encode(Report{});
  report.back() = std::byte{2};  // a flag that is neither 0 nor 1
  EXPECT_FALSE(decode<Report>(report).ok());
}

TEST(Control, ALyingCountAsksForNoMemory) {
  auto bytes = encode(Configure{});
  const std::uint64_t count = std::uint64_t{1} << 60;
  std::memcpy(bytes.data() + bytes.size() - 8, &count, 8);
  EXPECT_FALSE(decode<Configure>(bytes).ok());
  auto output = encode(Output{});
  const std::uint32_t outputs = 1U << 31;
  std::memcpy(output.data() + 8, &outputs, 4);
  EXPECT_FALSE(decode<Output>(output).ok());
}

TEST(Control, HeadersKnowTheirKinds) {
  const auto bytes = encode_header({0x01020304, Kind::kReportIs});
  const auto header = decode_header(bytes);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->bytes, 0x01020304U);
  EXPECT_EQ(header->kind, Kind::kReportIs);
  for (const int kind : {0, 17, 100, 115, 65535}) {
    EXPECT_FALSE(decode_header(encode_header({0, static_cast<Kind>(kind)})).ok()) << kind;
  }
  auto spoilt = bytes;
  spoilt[7] = std::byte{1};
  EXPECT_FALSE(decode_header(spoilt).ok());
}

TEST(Control, EveryCpuFeatureSurvivesTheWire) {
  using Flags = std::array<bool, sizeof(base::CpuFeatures)>;  // it holds nothing but bools
  for (std::size_t i = 0; i < std::tuple_size_v<Flags>; ++i) {
    Flags flags{};
    flags[i] = true;
    const auto bytes = encode(Report{.cpu = std::bit_cast<base::CpuFeatures>(flags)});
    EXPECT_EQ(bytes[4 + i], std::byte{1}) << i;
    EXPECT_EQ(std::bit_cast<Flags>(decode<Report>(bytes)->cpu), flags) << i;
  }
}

}  // namespace
}  // namespace slalom::session
