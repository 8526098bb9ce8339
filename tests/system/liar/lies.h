// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <random>
#include <span>

#include "field/prime.h"
#include "system/liar/orders.h"

namespace slalom::testing {

// Answer is an honest answer's words, packed, and its shape.
struct AnswerWords {
  std::span<std::byte> bytes;
  field::Field field = field::Field::kP24;
  std::size_t batch = 1;
  std::size_t positions = 1;
  std::size_t channels = 1;
};

// alter turns an honest answer into a wrong one, for the lies that change words (kBit to kAboveP).
// before: an earlier answer of the same layer; other: the last one of another layer; either may be
// empty. Where the shape leaves no room for a lie (one channel, one position, one image), a single
// element is changed instead.
void alter(Lie lie, const AnswerWords& answer, std::span<const std::byte> before,
           std::span<const std::byte> other, std::mt19937_64& random);

}  // namespace slalom::testing
