// SPDX-License-Identifier: Apache-2.0
#include "field/challenge.h"

namespace slalom::field {

void Verdict::add(const Residues& difference, std::uint32_t bad) noexcept {
  for (const std::uint32_t word : difference.value) wrong_ |= word;
  wrong_ |= bad;
  ++checks_;
}

bool Verdict::take_verdict() && noexcept {
  // 1 where the word is zero, by the borrow, so that not even a flag depends on it before it
  // leaves.
  const std::uint64_t right = (std::uint64_t{wrong_} - 1) >> 63;
  const std::uint64_t checked = checks_ != 0 ? 1 : 0;
  // The one declassification of a check: from here on the bit is public.
  return (right & checked) != 0;
}

}  // namespace slalom::field
