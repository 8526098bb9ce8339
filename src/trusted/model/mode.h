// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <utility>

namespace slalom::model {

// Integrity is the form of the check on every result of a device (DESIGN: checks).
enum class Integrity : std::uint8_t {
  kOff = 0,           // results are believed; a lie can show in the answer
  kPlain = 1,         // a fresh challenge for each answer, nothing stored
  kBatched = 2,       // one check for a micro-batch, random row weights
  kPreprocessed = 3,  // challenge set and its products computed once, kept secret
};
constexpr auto range_of(Integrity) { return std::pair(Integrity::kOff, Integrity::kPreprocessed); }

// Privacy is how inputs are hidden from devices.
enum class Privacy : std::uint8_t {
  kOff = 0,
  kPads = 1,   // u = W r computed ahead of time inside, sealed outside
  kSplit = 2,  // u from a second device that colludes with nobody
};
constexpr auto range_of(Privacy) { return std::pair(Privacy::kOff, Privacy::kSplit); }

}  // namespace slalom::model
