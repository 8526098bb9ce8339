// SPDX-License-Identifier: Apache-2.0
#include "field/kernels.h"

#include "field/arithmetic.h"

namespace slalom::field {

void merge(Field f, Residues& into, const Residues& from) noexcept {
  for (std::size_t k = 0; k < kMaxRepetitions; ++k) {
    into.value[k] = add(into.value[k], from.value[k], f);
  }
}

void merge(Field f, OutputSum& into, const OutputSum& from) noexcept {
  merge(f, into.residues, from.residues);
  into.bad |= from.bad;
}

std::span<const Kernels* const> all_kernels() noexcept {
  static constexpr std::array<const Kernels*, 4> kAll = {&kAvx512IfmaKernels, &kAvx512Kernels,
                                                         &kAvx2Kernels, &kPortableKernels};
  return kAll;
}

const Kernels& choose_kernels(const base::CpuFeatures& cpu) noexcept {
  for (const Kernels* kernels : all_kernels()) {
    if (kernels->supported(cpu)) return *kernels;
  }
  return kPortableKernels;
}

}  // namespace slalom::field
