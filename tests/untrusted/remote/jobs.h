// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "base/cpu.h"
#include "device/cpu/cpu_device.h"
#include "device/jobs.h"
#include "support/plans.h"

namespace slalom::device {

// TestPlan is a plan of a few layers with tensors of one part and of many: layer 0 makes 3.1 MB an
// image, 1 and 2 read the same small tensor as it.
inline std::shared_ptr<const model::Plan> test_plan(unsigned seed = 1) {
  testing::PlanBuilder b(seed);
  const auto x = b.input({256, 256, 3}, 9);
  const auto a = b.conv(x, {.out_c = 16});
  const auto c = b.conv(x, {.out_c = 1});
  const auto d = b.conv(x, {.out_c = 2});
  return std::make_shared<const model::Plan>(b.finish({a, c, d}));
}

// TestJob is a job with memory of its own and the answer of a device on this machine.
struct TestJob {
  Job job;
  std::vector<std::byte> input;
  std::vector<std::byte> output;
  std::vector<std::byte> expected;

  [[nodiscard]] bool right() const { return output == expected; }
};

class TestJobs {
 public:
  explicit TestJobs(std::shared_ptr<const model::Plan> plan)
      : layers_(JobLayers::make(plan.get(), 1).value()),
        oracle_({.cpu = base::detect_cpu(), .threads = 1}) {
    EXPECT_TRUE(oracle_.load(std::move(plan), 1).ok());
  }

  // make makes a job of a layer on one image of random codes.
  std::unique_ptr<TestJob> make(std::uint32_t layer) {
    auto out = std::make_unique<TestJob>();
    const JobLayer& shape = *layers_.find(layer);
    out->input.resize(shape.in_elements);
    for (auto& byte : out->input) byte = static_cast<std::byte>(random_());
    out->job = {.layer = layer,
                .batch = 1,
                .attempt = next_attempt_++,
                .kind = channel::InputKind::kCodes,
                .field = shape.field,
                .pad_code = 3};
    finish(*out, shape);
    return out;
  }
  // again makes the job that reads the input of another one with a second layer.
  std::unique_ptr<TestJob> again(const TestJob& first, std::uint32_t layer) {
    auto out = std::make_unique<TestJob>();
    out->input = first.input;
    out->job = first.job;
    out->job.layer = layer;
    finish(*out, *layers_.find(layer));
    out->job.kind = channel::InputKind::kRetained;
    out->job.input = {};
    return out;
  }

 private:
  void finish(TestJob& out, const JobLayer& shape) {
    out.output.resize(shape.out_elements * field::word_bytes(out.job.field));
    out.job.input = out.input;
    out.job.output = out.output;
    EXPECT_TRUE(oracle_.run(out.job).ok());
    out.expected = out.output;
    std::fill(out.output.begin(), out.output.end(), std::byte{0xee});
  }

  JobLayers layers_;
  CpuDevice oracle_;
  std::mt19937 random_{3};
  std::uint64_t next_attempt_ = 1;
};

}  // namespace slalom::device
