// SPDX-License-Identifier: Apache-2.0
#include "device/cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

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

class CpuDeviceTest : public ::testing::Test {
 protected:
  CpuDeviceTest()
      : plan_(std::make_shared<const model::Plan>(testing::small_network())),
        device_({.cpu = base::detect_cpu(), .threads = 2}) {
    const Status loaded = device_.load(plan_, kMaxBatch);
    EXPECT_TRUE(loaded.ok());
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
  void expect_refused(Call& call, Errc code) {
    const Status status = device_.run(call.job);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, code);
  }

  std::mt19937_64 random_{7};
  std::shared_ptr<const model::Plan> plan_;
  CpuDevice device_;
  std::map<std::uint32_t, const model::Linear*> layers_;
};

TEST_F(CpuDeviceTest, ComputesEveryLayerExactly) {
  ASSERT_GE(layers_.size(), 7U);
  for (const auto& [layer, linear] : layers_) {
    for (const InputKind kind : {InputKind::kCodes, InputKind::kWords}) {
      for (std::uint32_t batch = 1; batch <= kMaxBatch; ++batch) {
        Call call = make_call(layer, kind, batch);
        const Status status = device_.run(call.resolve());
        ASSERT_TRUE(status.ok()) << status.error().message;
        ASSERT_EQ(call.output, call.expected)
            << "layer " << layer << " kind " << static_cast<int>(kind) << " batch " << batch;
      }
    }
  }
}

TEST_F(CpuDeviceTest, RefusesWhatThePlanDoesNotAllow) {
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
TEST_F(CpuDeviceTest, AnswersInTheFieldOfTheRequest) {
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
      ASSERT_TRUE(device_.run(call.resolve()).ok());
      ASSERT_EQ(call.output, call.expected);
    }
  }
}

TEST_F(CpuDeviceTest, TakesWordsThatAreNotBelowTheModulus) {
  for (const auto& [layer, linear] : layers_) {
    Call call = make_call(layer, InputKind::kWords, 1);
    std::fill(call.input.begin(), call.input.end(), std::byte{0xff});
    EXPECT_TRUE(device_.run(call.resolve()).ok());
  }
}

TEST(CpuDevice, RefusesToRunBeforeItIsLoaded) {
  CpuDevice device({.cpu = base::detect_cpu()});
  EXPECT_FALSE(device.run({}).ok());
  EXPECT_FALSE(device.load(nullptr, 1).ok());
}

// Two layers that read one tensor: the second may refer to the first one's input.
class RetainedTest : public CpuDeviceTest {
 protected:
  RetainedTest() {
    testing::PlanBuilder b;
    const auto x = b.input({6, 5, 7}, 9);
    const model::Window same3{
        .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    const auto a = b.conv(x, {.out_c = 5, .window = same3});
    const auto c = b.conv(x, {.out_c = 9});
    const auto d = b.conv(x, {.out_c = 3});
    plan_ = std::make_shared<const model::Plan>(b.finish({a, c, d}));
    layers_.clear();
    for (std::uint32_t i = 0; i < 3; ++i) layers_[i] = &std::get<model::Linear>(plan_->nodes[i].op);
    EXPECT_TRUE(device_.load(plan_, kMaxBatch).ok());
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

TEST_F(RetainedTest, ComputesFromTheInputOfTheSameAttempt) {
  for (const InputKind kind : {InputKind::kCodes, InputKind::kWords}) {
    Call first = make_call(0, kind, 2);
    Call other = make_call(0, kind, 2);
    ASSERT_TRUE(device_.run(first.resolve()).ok());
    ASSERT_TRUE(device_.run(other.resolve()).ok());
    for (const std::uint32_t layer : {1U, 2U}) {
      Call fresh = make_call(layer, kind, 2);
      fresh.job = first.job;
      fresh.job.layer = layer;
      fresh.input = first.input;
      ASSERT_TRUE(CpuDeviceTest::device_.run(fresh.resolve()).ok());
      Call retained = again(first, layer);
      ASSERT_TRUE(device_.run(retained.resolve()).ok());
      EXPECT_EQ(retained.output, fresh.output);
    }
  }
}

TEST_F(RetainedTest, ForgetsAfterTheLastReaderAndWhenThereAreTooMany) {
  Call first = make_call(0, InputKind::kCodes, 1);
  ASSERT_TRUE(device_.run(first.resolve()).ok());
  for (const std::uint32_t layer : {1U, 2U}) {
    Call call = again(first, layer);
    ASSERT_TRUE(device_.run(call.resolve()).ok());
  }
  Call late = again(first, 1);
  late.resolve();
  expect_refused(late, Errc::kUnavailable);

  std::vector<Call> many;
  for (std::size_t i = 0; i <= CpuDevice::kRetainedInputs; ++i) {
    many.push_back(make_call(0, InputKind::kCodes, 1));
    ASSERT_TRUE(device_.run(many.back().resolve()).ok());
  }
  Call oldest = again(many[0], 1);
  oldest.resolve();
  expect_refused(oldest, Errc::kUnavailable);
  Call second = again(many[1], 1);
  EXPECT_TRUE(device_.run(second.resolve()).ok());
  Call wrong_batch = again(many[2], 1);
  wrong_batch.job.batch = 2;
  wrong_batch.output.resize(2 * wrong_batch.output.size());
  wrong_batch.resolve();
  expect_refused(wrong_batch, Errc::kUnavailable);
}

}  // namespace
}  // namespace slalom::device
