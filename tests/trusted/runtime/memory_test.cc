// SPDX-License-Identifier: Apache-2.0
// No allocation per inference: every call of the allocator in this program is counted.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "trusted/runtime/fixture.h"

namespace {

std::atomic<std::uint64_t> allocations{0};

void* counted(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return counted(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return counted(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace slalom::testing {
namespace {

using model::Integrity;

// EndlessSource gives one image again and again; CountingSink compares results and keeps none.
class EndlessSource final : public runtime::Source {
 public:
  EndlessSource(const Image& image, std::size_t count) : image_(image), left_(count) {}
  bool next(std::span<std::uint8_t> codes) override {
    if (left_ == 0) return false;
    --left_;
    std::copy(image_.begin(), image_.end(), codes.begin());
    return true;
  }

 private:
  const Image& image_;
  std::size_t left_;
};
class CountingSink final : public runtime::Sink {
 public:
  explicit CountingSink(const std::vector<std::int32_t>& expected) : expected_(expected) {}
  std::size_t right = 0, wrong = 0;
  void deliver(std::uint64_t /*image*/, std::span<const runtime::OutputView> outputs) override {
    const auto& got = outputs[0].integers;
    (std::equal(got.begin(), got.end(), expected_.begin(), expected_.end()) ? right : wrong)++;
  }
  void fail(std::uint64_t /*image*/, Error /*error*/) override { ++wrong; }

 private:
  const std::vector<std::int32_t>& expected_;
};

// MutePort answers from memory made beforehand, so that the double itself does not allocate: the
// answers to one image, repeated, are recorded once from a TestPort.
class MutePort final : public channel::Port {
 public:
  explicit MutePort(std::size_t bytes) : memory_(bytes) { queue_.reserve(1024); }
  std::map<std::uint32_t, std::vector<std::byte>> answers;  // by layer, one image

  Result<channel::Slot> allocate(std::size_t bytes) override {
    const std::size_t at = used_;
    used_ += bytes;
    return channel::Slot{at, {memory_.data() + at, bytes}};
  }
  Result<std::uint64_t> submit(channel::Request request) override {
    request.sequence = ++sequence_;
    queue_.push_back(request);
    return request.sequence;
  }
  Result<std::optional<channel::Completion>> poll() override {
    if (queue_.empty()) return std::optional<channel::Completion>();
    const channel::Request request = queue_.front();
    queue_.erase(queue_.begin());
    const auto& answer = answers.at(request.layer);
    for (std::uint32_t b = 0; b < request.batch; ++b) {
      std::copy(answer.begin(), answer.end(),
                memory_.data() + request.output_offset + b * answer.size());
    }
    return std::optional(channel::Completion{request.sequence, true, 0});
  }
  Result<std::optional<channel::Completion>> wait(std::chrono::nanoseconds /*time*/) override {
    return poll();
  }
  std::uint64_t bytes_out() const noexcept override { return 0; }
  std::uint64_t bytes_in() const noexcept override { return 0; }

 private:
  std::vector<std::byte> memory_;
  std::size_t used_ = 0;
  std::uint64_t sequence_ = 0;
  std::vector<channel::Request> queue_;
};

class MemoryTest : public ::testing::TestWithParam<Integrity> {};

TEST_P(MemoryTest, AThousandImagesAllocateNothing) {
  Rig rig(small_network());
  const auto image = random_images(rig.plan, 1, 1);
  const auto expected = expected_outputs(rig.plan, image);
  rig.options.integrity = GetParam();
  rig.options.micro_batch = 1;
  MutePort port(runtime::port_bytes(rig.plan, rig.placement, rig.options) * 8);
  rig.start();
  rig.ports[0]->tamper = [&](const channel::Request& request, std::span<std::byte> words) {
    port.answers[request.layer] = {words.begin(), words.end()};
  };
  rig.expect_right(image, expected);

  rig.options.micro_batch = 4;
  rig.options.threads = 2;
  std::vector<channel::Port*> ports = {&port};
  auto executor = runtime::Executor::create(rig.plan, rig.placement, rig.options, ports, nullptr);
  ASSERT_TRUE(executor.ok());
  CountingSink sink(expected[0][0]);
  EndlessSource warm(image[0], 9);
  ASSERT_TRUE((*executor)->run(warm, sink).ok());
  EndlessSource source(image[0], 1000);
  const std::uint64_t before = allocations.load();
  const Status done = (*executor)->run(source, sink);
  EXPECT_EQ(allocations.load(), before);
  EXPECT_TRUE(done.ok());
  EXPECT_EQ(sink.right, 1009U);
  EXPECT_EQ(sink.wrong, 0U);
}

INSTANTIATE_TEST_SUITE_P(All, MemoryTest,
                         ::testing::Values(Integrity::kOff, Integrity::kPlain, Integrity::kBatched,
                                           Integrity::kPreprocessed));

TEST(Memory, TheLocalBaselineAllocatesNothing) {
  Rig rig(small_network());
  const auto image = random_images(rig.plan, 1, 1);
  const auto expected = expected_outputs(rig.plan, image);
  rig.num_ports = 0;
  rig.start();
  CountingSink sink(expected[0][0]);
  EndlessSource warm(image[0], 5);
  ASSERT_TRUE(rig.executor->run(warm, sink).ok());
  EndlessSource source(image[0], 1000);
  const std::uint64_t before = allocations.load();
  const Status done = rig.executor->run(source, sink);
  EXPECT_EQ(allocations.load(), before);
  EXPECT_TRUE(done.ok());
  EXPECT_EQ(sink.right, 1005U);
}

}  // namespace
}  // namespace slalom::testing
