// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>

// SLALOM_ASSERT ends the process when a programming error is found, in every build: inside the
// trusted process a wrong state must never run on.
#define SLALOM_ASSERT(condition)     \
  do {                               \
    if (!(condition)) [[unlikely]] { \
      std::abort();                  \
    }                                \
  } while (false)
