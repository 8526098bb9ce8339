// SPDX-License-Identifier: Apache-2.0
#include "runtime/ops/kernels.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace slalom::runtime {
namespace {

struct Level {
  std::string name;
  base::CpuFeatures cpu;
};

// Every implementation that this processor has, against the rule of model/plan.h in long double.
class OpKernelsTest : public ::testing::TestWithParam<Level> {
 protected:
  void SetUp() override {
    const base::CpuFeatures here = base::detect_cpu();
    const base::CpuFeatures& asked = GetParam().cpu;
    if (asked.avx2 > here.avx2 || asked.avx512 > here.avx512) {
      GTEST_SKIP() << "not on this processor";
    }
    ASSERT_EQ(kernels_.name, GetParam().name);
  }
  std::vector<std::uint8_t> bytes(std::size_t n) {
    std::vector<std::uint8_t> out(n);
    for (auto& b : out) b = static_cast<std::uint8_t>(random_());
    return out;
  }
  float real(float lo, float hi) { return std::uniform_real_distribution<float>(lo, hi)(random_); }
  std::int32_t code() { return static_cast<std::int32_t>(random_() % 256); }
  Requantise rounding() {
    return {code(), static_cast<std::int32_t>(random_() % 100),
            static_cast<std::int32_t>(100 + random_() % 156)};
  }

  const OpKernels& kernels_ = choose_op_kernels(GetParam().cpu);
  std::mt19937 random_{7};
  const FloatEnvironment environment_;
};

template <class T>
std::byte* raw(std::vector<T>& v) {
  return reinterpret_cast<std::byte*>(v.data());
}

constexpr std::size_t kLengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 257};
constexpr std::size_t kGuard = 64;

int rule(float v, const Requantise& to) {
  // binary32 to integer, nearest even, by the C library in its default mode.
  const double limited = std::min(std::max(static_cast<double>(v), -1073741824.0), 1073741824.0);
  const long long sum = std::llrint(limited) + to.zero_point;
  return static_cast<int>(std::min<long long>(std::max<long long>(sum, to.lo), to.hi));
}

TEST_P(OpKernelsTest, AddFollowsTheRule) {
  const FloatEnvironment environment;
  for (const std::size_t n : kLengths) {
    const auto a = bytes(n);
    const auto b = bytes(n);
    AddRow row{code(), code(), real(0.0F, 1.0F), real(-1.0F, 1.0F), rounding()};
    if (n == 64) row.multiplier_a = row.multiplier_b = 0.5F;  // ties
    if (n == 65) row.multiplier_a = 1e29F;                    // far beyond every integer
    std::vector<std::uint8_t> out(n + kGuard, 0xa5);
    std::vector<std::int32_t> wide(n);
    kernels_.add(a.data(), b.data(), n, row, raw(out));
    AddRow wide_row = row;
    wide_row.to.wide = true;
    kernels_.add(a.data(), b.data(), n, wide_row, raw(wide));
    for (std::size_t i = 0; i < n; ++i) {
      const volatile float left = static_cast<float>(a[i] - row.zero_a) * row.multiplier_a;
      const volatile float right = static_cast<float>(b[i] - row.zero_b) * row.multiplier_b;
      const volatile float sum = left + right;
      ASSERT_EQ(out[i], rule(sum, row.to)) << n << " " << i;
      ASSERT_EQ(wide[i], rule(sum, row.to));
    }
    for (std::size_t i = n; i < out.size(); ++i) ASSERT_EQ(out[i], 0xa5) << n;
  }
}

TEST_P(OpKernelsTest, MulFollowsTheRule) {
  for (const std::size_t n : kLengths) {
    const auto a = bytes(n);
    const auto b = bytes(n);
    const MulRow row{code(), code(), real(0.0F, 0.02F), rounding()};
    std::vector<std::uint8_t> out(n + kGuard, 0xa5);
    kernels_.mul(a.data(), b.data(), n, row, raw(out));
    for (std::size_t i = 0; i < n; ++i) {
      const volatile float v =
          static_cast<float>((a[i] - row.zero_a) * (b[i] - row.zero_b)) * row.multiplier;
      ASSERT_EQ(out[i], rule(v, row.to)) << n << " " << i;
    }
    for (std::size_t i = n; i < out.size(); ++i) ASSERT_EQ(out[i], 0xa5) << n;
  }
}

TEST_P(OpKernelsTest, ScaleAndPreluFollowTheRule) {
  for (const std::size_t n : kLengths) {
    const auto a = bytes(n);
    const ScaleRow scale{code(), real(0.1F, 2.0F), rounding()};
    const ScaleRow prelu{code(), real(0.5F, 1.5F), rounding()};
    std::vector<float> negative(n);
    for (float& v : negative) v = real(-1.0F, 1.0F);
    std::vector<std::uint8_t> scaled(n + kGuard, 0xa5);
    std::vector<std::uint8_t> bent(n + kGuard, 0xa5);
    kernels_.scale(a.data(), n, scale, raw(scaled));
    kernels_.prelu(a.data(), negative.data(), n, prelu, raw(bent));
    for (std::size_t i = 0; i < n; ++i) {
      const volatile float v = static_cast<float>(a[i] - scale.zero) * scale.multiplier;
      ASSERT_EQ(scaled[i], rule(v, scale.to)) << n << " " << i;
      const float slope = a[i] >= prelu.zero ? prelu.multiplier : negative[i];
      const volatile float w = static_cast<float>(a[i] - prelu.zero) * slope;
      ASSERT_EQ(bent[i], rule(w, prelu.to)) << n << " " << i;
    }
    for (std::size_t i = n; i < n + kGuard; ++i) {
      ASSERT_EQ(scaled[i], 0xa5) << n;
      ASSERT_EQ(bent[i], 0xa5) << n;
    }
  }
}

TEST_P(OpKernelsTest, TapsAreTakenFromTheRectangle) {
  for (const std::size_t n : kLengths) {
    const std::size_t columns = 1 + n % 5;
    const std::size_t rows = 1 + n % 3;
    const std::size_t column_stride = n + 3;
    const std::size_t row_stride = columns * column_stride + 11;
    const auto data = bytes(rows * row_stride);
    const Taps taps{data.data(), rows, columns, row_stride, column_stride};
    std::vector<std::uint8_t> most(n + kGuard, 0xa5);
    std::vector<std::int32_t> sums(n + 1, 12345);
    std::vector<std::uint8_t> mean(n + kGuard, 0xa5);
    kernels_.max_taps(taps, n, most.data());
    kernels_.sum_taps(taps, n, sums.data());
    const ScaleRow row{static_cast<std::int32_t>(rows * columns) * code(),
                       1.0F / static_cast<float>(rows * columns), rounding()};
    kernels_.scale_sums(sums.data(), n, row, raw(mean));
    for (std::size_t i = 0; i < n; ++i) {
      int largest = 0;
      int sum = 0;
      for (std::size_t y = 0; y < rows; ++y) {
        for (std::size_t x = 0; x < columns; ++x) {
          const int v = data[y * row_stride + x * column_stride + i];
          largest = std::max(largest, v);
          sum += v;
        }
      }
      ASSERT_EQ(most[i], largest) << n << " " << i;
      ASSERT_EQ(sums[i], sum) << n << " " << i;
      const volatile float v = static_cast<float>(sum - row.zero) * row.multiplier;
      ASSERT_EQ(mean[i], rule(v, row.to)) << n << " " << i;
    }
    ASSERT_EQ(sums[n], 12345);
    for (std::size_t i = n; i < n + kGuard; ++i) {
      ASSERT_EQ(most[i], 0xa5) << n;
      ASSERT_EQ(mean[i], 0xa5) << n;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, OpKernelsTest,
                         ::testing::Values(Level{"portable", {}}, Level{"avx2", {.avx2 = true}},
                                           Level{"avx512", {.avx2 = true, .avx512 = true}}),
                         [](const auto& suite) { return suite.param.name; });

TEST(OpKernels, TheFastestThatTheProcessorHasIsChosen) {
  base::CpuFeatures cpu;
  EXPECT_EQ(choose_op_kernels(cpu).name, "portable");
  cpu.avx2 = true;
  EXPECT_EQ(choose_op_kernels(cpu).name, "avx2");
  cpu.avx512 = true;
  EXPECT_EQ(choose_op_kernels(cpu).name, "avx512");
}

TEST(Rounding, IsTotal) {
  const FloatEnvironment environment;
  EXPECT_EQ(round_to_integer(0.5F), 0);
  EXPECT_EQ(round_to_integer(1.5F), 2);
  EXPECT_EQ(round_to_integer(-2.5F), -2);
  EXPECT_EQ(round_to_integer(1e38F), 1 << 30);
  EXPECT_EQ(round_to_integer(-1e38F), -(1 << 30));
  EXPECT_EQ(round_to_integer(INFINITY), 1 << 30);
  EXPECT_EQ(requantise(-1e38F, {255, -(1 << 30), 1 << 30}), -(1 << 30) + 255);
  EXPECT_EQ(requantise(1e38F, {255, -(1 << 30), 1 << 30}), 1 << 30);
}

TEST(Rounding, TheCallersModeComesBack) {
  const volatile float half = 1.5F;  // or the compiler would round it itself
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x6000);  // toward zero
  {
    const FloatEnvironment environment;
    EXPECT_EQ(round_to_integer(half), 2);
  }
  EXPECT_EQ(round_to_integer(half), 1);
  _mm_setcsr(before);
}

}  // namespace
}  // namespace slalom::runtime
