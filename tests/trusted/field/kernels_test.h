// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/cpu.h"
#include "field/kernels.h"
#include "field/prime.h"

// What the tests of all kernels share: a test of each implementation, and arithmetic in 128 bits.

namespace slalom::field::test {

using Wide = __int128;

inline std::uint32_t mod(Wide x, Field f) {
  const auto p = static_cast<Wide>(modulus(f));
  return static_cast<std::uint32_t>(((x % p) + p) % p);
}

class EachKernels : public ::testing::TestWithParam<const Kernels*> {
 protected:
  void SetUp() override {
    if (!GetParam()->supported(base::detect_cpu())) GTEST_SKIP() << "this CPU lacks it";
  }
  const Kernels& kernels() { return *GetParam(); }
};

inline std::string kernels_name(const ::testing::TestParamInfo<const Kernels*>& info) {
  return std::string(info.param->name);
}

}  // namespace slalom::field::test
