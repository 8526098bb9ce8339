// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include "device/make_device.h"

// What computes in the tests of whole processes: the CPU, or what the build says.
#ifndef SLALOM_TEST_DEVICE
#define SLALOM_TEST_DEVICE "cpu"
#endif

namespace slalom::testing {

// SLALOM_NEEDS_DEVICE, the first line of SetUp, skips the test where there is no such device.
#define SLALOM_NEEDS_DEVICE()                                                      \
  do {                                                                             \
    const auto slalom_device = device::make_device(SLALOM_TEST_DEVICE, 1);         \
    if (!slalom_device.ok()) {                                                     \
      GTEST_SKIP() << SLALOM_TEST_DEVICE << ": " << slalom_device.error().message; \
    }                                                                              \
  } while (false)

}  // namespace slalom::testing
