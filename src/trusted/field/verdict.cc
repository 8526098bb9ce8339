// SPDX-License-Identifier: Apache-2.0
#include "field/challenge.h"

namespace slalom::field {

void Verdict::add(const Residues& difference, std::uint32_t bad) noexcept {
  for (const std::uint32_t word : difference.value) wrong_ |= word;
  wrong_ |= bad;
  ++checks_;
}

void Verdict::merge(const Verdict& other) noexcept {
  wrong_ |= other.wrong_;
  checks_ += other.checks_;
}

bool Verdict::take_verdict() && noexcept {
  // The one declassification of a check: from here on the bit is public.
  return wrong_ == 0 && checks_ != 0;
}

}  // namespace slalom::field
