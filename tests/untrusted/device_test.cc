// SPDX-License-Identifier: Apache-2.0
// What every kind of device must do. The same tests run for each of them: devices_cpu.cc and
// devices_cuda.cc say which.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "support/devices.h"
#include "support/plans.h"
#include "trusted/linear/layers.h"

namespace slalom::device {
namespace {

using channel::InputKind;
using field::Field;
using linear_test::Wide;

constexpr std::size_t kMaxBatch = 3;

// One request with memory of its own, and the answer that an honest device gives.
struct Call {
  Job job;
  std::vector<std::byte> input;
  std::vector<std::byte> output;
  std::vector<std::byte> expected;

  Job& resolve() {
    job.input = input;
    job.output = output;
    return job;
  }
};

class DeviceTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { load(testing::small_network()); }

  // load makes a device that has loaded the plan, or skips the test.
  void load(model::Plan plan) {
    auto made = testing::make_device(GetParam());
    if (!made.ok()) GTEST_SKIP() << made.error().message;
    device_ = std::move(*made);
    plan_ = std::make_shared<const model::Plan>(std::move(plan));
    const Status loaded = device_->load(plan_, kMaxBatch);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    layers_.clear();
    for (std::uint32_t i = 0; i < plan_->nodes.size(); ++i) {
      const auto* linear = std::get_if<model::Linear>(&plan_->nodes[i].op);
      if (linear != nullptr && linear->field) layers_[i] = linear;
    }
  }

  Call make_call(std::uint32_t layer, InputKind kind, std::uint32_t batch) {
    Call call;
    const model::Linear& linear = *layers_.at(layer);
    const Field f = *linear.field;
    const std::size_t step = field::word_bytes(f);
    const auto pad = static_cast<std::uint8_t>(random_());
    call.job = {.layer = layer,
                .batch = batch,
                .attempt = random_(),
                .kind = kind,
                .field = f,
                .pad_code = pad};
    const std::size_t in = linear.in().elements();
    for (std::uint32_t image = 0; image < batch; ++image) {
      std::vector<Wide> x;
      for (std::size_t i = 0; i < in; ++i) {
        const auto v = kind == InputKind::kCodes
                           ? static_cast<std::uint32_t>(random_() % 256)
                           : static_cast<std::uint32_t>(random_() % field::modulus(f));
        append(call.input, v, kind == InputKind::kCodes ? 1 : step);
        x.push_back(kind == InputKind::kCodes ? Wide{v} - 128 : Wide{v});
      }
      const Wide outside = kind == InputKind::kCodes ? Wide{pad} - 128 : 0;
      for (const Wide y : linear_test::naive(linear, x, outside)) {
        append(call.expected, static_cast<std::uint32_t>(linear_test::modulo(y, f)), step);
      }
    }
    call.output.assign(call.expected.size(), std::byte{0xee});
    return call;
  }

  static void append(std::vector<std::byte>& bytes, std::uint32_t v, std::size_t step) {
    for (std::size_t b = 0; b < step; ++b) bytes.push_back(static_cast<std::byte>(v >> (8 * b)));
  }
  // run_together keeps as many jobs begun as the device takes.
  void run_together(std::vector<Call>& calls) {
    std::size_t begun = 0;
    for (std::size_t done = 0; done < calls.size(); ++done) {
      while (begun < calls.size() && begun - done < device_->depth()) {
        ASSERT_TRUE(device_->start(calls[begun++].resolve()).ok());
      }
      const Status status = device_->finish();
      ASSERT_TRUE(status.ok()) << "job " << done << ": " << status.error().message;
    }
  }
  void expect_refused(Call& call, Errc code) {
    const Status status = device_->run(call.job);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, code);
  }

  std::mt19937_64 random_{7};
  std::shared_ptr<const model::Plan> plan_;
  std::unique_ptr<Device> device_;
  std::map<std::uint32_t, const model::Linear*> layers_;
};

TEST_P(DeviceTest, ComputesEveryLayerExactly) {
  ASSERT_GE(layers_.size(), 7U);
  for (const auto& [layer, linear] : layers_) {
    for (const InputKind kind : {InputKind::kCodes, InputKind::kWords}) {
      for (std::uint32_t batch = 1; batch <= kMaxBatch; ++batch) {
        Call call = make_call(layer, kind, batch);
        const Status status = device_->run(call.resolve());
        ASSERT_TRUE(status.ok()) << status.error().message;
        ASSERT_EQ(call.output, call.expected)
            << "layer " << layer << " kind " << static_cast<int>(kind) << " batch " << batch;
      }
    }
  }
}

TEST_P(DeviceTest, RefusesWhatThePlanDoesNotAllow) {
  const std::uint32_t layer = layers_.begin()->first;
  const auto changed = [&](auto change, Errc code) {
    Call call = make_call(layer, InputKind::kWords, 2);
    change(call);
    call.resolve();
    expect_refused(call, code);
  };
  changed([](Call& c) { c.job.layer = 10'000; }, Errc::kInvalidArgument);
  changed([](Call& c) { c.job.layer = 1; }, Errc::kInvalidArgument);  // a pooling
  changed([](Call& c) { c.job.batch = 0; }, Errc::kInvalidArgument);
  changed([](Call& c) { c.job.batch = 4; }, Errc::kInvalidArgument);
  changed([](Call& c) { c.job.batch = 0xffffffff; }, Errc::kInvalidArgument);
  changed([](Call& c) { c.job.batch = 1; }, Errc::kInvalidArgument);
  changed([](Call& c) { c.input.pop_back(); }, Errc::kInvalidArgument);
  changed([](Call& c) { c.output.pop_back(); }, Errc::kInvalidArgument);
  changed([](Call& c) { c.output.push_back({}); }, Errc::kInvalidArgument);
  changed([](Call& c) { c.job.kind = InputKind::kCodes; }, Errc::kInvalidArgument);
  changed([](Call& c) { c.job.kind = static_cast<InputKind>(9); }, Errc::kInvalidArgument);
  changed([](Call& c) { c.job.field = static_cast<Field>(7); }, Errc::kInvalidArgument);
  changed([](Call& c) { c.job.kind = InputKind::kRetained; }, Errc::kUnavailable);
}

// A request may name the other field; the answer is then reduced by that one.
TEST_P(DeviceTest, AnswersInTheFieldOfTheRequest) {
  for (const auto& [layer, linear] : layers_) {
    for (const Field f : {Field::kP24, Field::kP31}) {
      const std::vector<std::uint8_t> codes =
          linear_test::make_codes(linear->in().elements(), linear_test::Data::kEdges, random_);
      std::vector<Wide> x;
      Call call = make_call(layer, InputKind::kCodes, 1);
      call.job.field = f;
      call.input.clear();
      for (const std::uint8_t q : codes) {
        call.input.push_back(static_cast<std::byte>(q));
        x.push_back(Wide{q} - 128);
      }
      call.expected.clear();
      for (const Wide y : linear_test::naive(*linear, x, Wide{call.job.pad_code} - 128)) {
        append(call.expected, static_cast<std::uint32_t>(linear_test::modulo(y, f)),
               field::word_bytes(f));
      }
      call.output.assign(call.expected.size(), {});
      ASSERT_TRUE(device_->run(call.resolve()).ok());
      ASSERT_EQ(call.output, call.expected);
    }
  }
}

TEST_P(DeviceTest, TakesWordsThatAreNotBelowTheModulus) {
  for (const auto& [layer, linear] : layers_) {
    Call call = make_call(layer, InputKind::kWords, 1);
    std::fill(call.input.begin(), call.input.end(), std::byte{0xff});
    EXPECT_TRUE(device_->run(call.resolve()).ok());
  }
}

TEST_P(DeviceTest, RefusesToRunBeforeItIsLoaded) {
  const auto device = testing::make_device(GetParam());
  ASSERT_TRUE(device.ok());
  EXPECT_FALSE((*device)->run({}).ok());
  EXPECT_FALSE((*device)->load(nullptr, 1).ok());
}

// As many jobs as the device takes, of all layers and kinds mixed; each slot is the test's own, and
// answers come in the order of the jobs.
TEST_P(DeviceTest, ComputesSeveralJobsAtOnce) {
  std::vector<Call> calls;
  for (int round = 0; round < 3; ++round) {
    for (const auto& [layer, linear] : layers_) {
      const InputKind kind = random_() % 2 == 0 ? InputKind::kCodes : InputKind::kWords;
      calls.push_back(
          make_call(layer, kind, 1 + static_cast<std::uint32_t>(random_() % kMaxBatch)));
    }
  }
  run_together(calls);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    ASSERT_EQ(calls[i].output, calls[i].expected) << "job " << i;
  }
}

// A job that cannot be begun fails alone, in its turn.
TEST_P(DeviceTest, ARefusedJobFailsInItsTurn) {
  const std::uint32_t layer = layers_.begin()->first;
  Call good = make_call(layer, InputKind::kCodes, 1);
  Call bad = make_call(layer, InputKind::kCodes, 1);
  bad.input.pop_back();
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(device_->start(bad.resolve()).ok());
    EXPECT_FALSE(device_->finish().ok());
    ASSERT_TRUE(device_->start(good.resolve()).ok());
    EXPECT_TRUE(device_->finish().ok());
    EXPECT_EQ(good.output, good.expected);
  }
}

// Two layers that read one tensor: the second may refer to the first one's input.
class RetainedTest : public DeviceTest {
 protected:
  void SetUp() override {
    testing::PlanBuilder b;
    const auto x = b.input({6, 5, 7}, 9);
    const model::Window same3{
        .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    const auto a = b.conv(x, {.out_c = 5, .window = same3});
    const auto c = b.conv(x, {.out_c = 9});
    const auto d = b.conv(x, {.out_c = 3});
    load(b.finish({a, c, d}));
  }

  // again makes the call that computes `layer` from the input of an earlier call.
  Call again(const Call& first, std::uint32_t layer) {
    Call call;
    call.job = first.job;
    call.job.layer = layer;
    call.job.kind = InputKind::kRetained;
    call.output.resize(first.job.batch * layers_[layer]->out().elements() *
                       field::word_bytes(first.job.field));
    return call;
  }
};

TEST_P(RetainedTest, ComputesFromTheInputOfTheSameAttempt) {
  for (const InputKind kind : {InputKind::kCodes, InputKind::kWords}) {
    Call first = make_call(0, kind, 2);
    Call other = make_call(0, kind, 2);
    ASSERT_TRUE(device_->run(first.resolve()).ok());
    ASSERT_TRUE(device_->run(other.resolve()).ok());
    for (const std::uint32_t layer : {1U, 2U}) {
      Call fresh = make_call(layer, kind, 2);
      fresh.job = first.job;
      fresh.job.layer = layer;
      fresh.input = first.input;
      ASSERT_TRUE(device_->run(fresh.resolve()).ok());
      Call retained = again(first, layer);
      ASSERT_TRUE(device_->run(retained.resolve()).ok());
      EXPECT_EQ(retained.output, fresh.output);
    }
  }
}

// For timelines. Devices that tell nothing else than their answers have no spans.
TEST_P(RetainedTest, TellsWhenItsPartsWorked) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kSlack = std::chrono::milliseconds(5);  // two clocks are read one after the other
  Call first = make_call(0, InputKind::kCodes, 2);
  ASSERT_TRUE(device_->run(first.resolve()).ok());
  EXPECT_TRUE(device_->spans().empty());  // nobody asked
  device_->record_spans();
  const bool tells = GetParam().starts_with("gpu") || GetParam().starts_with("cuda");
  for (int round = 0; round < 6; ++round) {
    const auto before = Clock::now();
    std::vector<std::string> parts;
    const auto look = [&] {
      for (const Device::Span& span : device_->spans()) {
        parts.emplace_back(span.part);
        EXPECT_LE(before, span.begin + kSlack);
        EXPECT_LE(span.begin, span.end);
        EXPECT_LE(span.end, Clock::now() + kSlack);
      }
    };
    Call call = make_call(0, InputKind::kCodes, 2);
    ASSERT_TRUE(device_->run(call.resolve()).ok());
    EXPECT_EQ(call.output, call.expected);
    look();
    Call retained = again(call, 1);
    ASSERT_TRUE(device_->run(retained.resolve()).ok());
    look();
    const std::vector<std::string> all{"upload", "kernels", "download", "kernels", "download"};
    EXPECT_EQ(parts, tells ? all : std::vector<std::string>{});
  }
}

// Most of the device's memory for inputs is kept for requests to come, so the next job must wait
// for the one before it.
TEST_P(RetainedTest, AnInputStaysUntilItsLastReaderIsDone) {
  for (const InputKind kind : {InputKind::kCodes, InputKind::kWords}) {
    for (int kept = 0; kept < 3; ++kept) {
      Call call = make_call(0, kind, 2);
      ASSERT_TRUE(device_->run(call.resolve()).ok());
    }
    Call alone = make_call(0, kind, 2);
    std::vector<Call> calls = {alone, again(alone, 1), again(alone, 2), make_call(0, kind, 2)};
    for (const std::uint32_t layer : {1U, 2U}) {
      Call fresh = make_call(layer, kind, 2);
      fresh.job = alone.job;
      fresh.job.layer = layer;
      fresh.job.attempt = random_();
      fresh.input = alone.input;
      ASSERT_TRUE(device_->run(fresh.resolve()).ok());
      calls[layer].expected = fresh.output;
    }
    run_together(calls);
    for (std::size_t i = 0; i < calls.size(); ++i) {
      EXPECT_EQ(calls[i].output, calls[i].expected) << "job " << i;
    }
  }
}

TEST_P(RetainedTest, ForgetsAfterTheLastReaderAndWhenThereAreTooMany) {
  Call first = make_call(0, InputKind::kCodes, 1);
  ASSERT_TRUE(device_->run(first.resolve()).ok());
  for (const std::uint32_t layer : {1U, 2U}) {
    Call call = again(first, layer);
    ASSERT_TRUE(device_->run(call.resolve()).ok());
  }
  Call late = again(first, 1);
  late.resolve();
  expect_refused(late, Errc::kUnavailable);

  std::vector<Call> many;
  for (std::size_t i = 0; i <= Device::kRetainedInputs; ++i) {
    many.push_back(make_call(0, InputKind::kCodes, 1));
    ASSERT_TRUE(device_->run(many.back().resolve()).ok());
  }
  Call oldest = again(many[0], 1);
  oldest.resolve();
  expect_refused(oldest, Errc::kUnavailable);
  Call second = again(many[1], 1);
  EXPECT_TRUE(device_->run(second.resolve()).ok());
  Call wrong_batch = again(many[2], 1);
  wrong_batch.job.batch = 2;
  wrong_batch.output.resize(2 * wrong_batch.output.size());
  wrong_batch.resolve();
  expect_refused(wrong_batch, Errc::kUnavailable);
}

INSTANTIATE_TEST_SUITE_P(All, DeviceTest, ::testing::ValuesIn(testing::device_kinds()),
                         [](const auto& test) { return test.param; });
INSTANTIATE_TEST_SUITE_P(All, RetainedTest, ::testing::ValuesIn(testing::device_kinds()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace slalom::device
