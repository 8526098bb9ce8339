// SPDX-License-Identifier: Apache-2.0
#include "linear/kernels.h"

#include "linear/kernels_list.h"

namespace slalom::linear {

std::span<const Kernels* const> all_kernels() noexcept {
  static constexpr std::array kAll = {&kVnniKernels, &kAvx512Kernels, &kAvx2Kernels,
                                      &kSse41Kernels};
  return kAll;
}

}  // namespace slalom::linear
