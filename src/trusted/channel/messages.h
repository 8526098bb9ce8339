// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "field/prime.h"

// What crosses the border between the trusted process and a device worker. All structures are
// little-endian, fixed size, without padding, and are copied before they are checked.

namespace slalom::channel {

inline constexpr std::uint32_t kVersion = 1;

// InputKind says what the input slot of a Request holds.
enum class InputKind : std::uint8_t {
  kCodes = 1,     // one byte a code q, taps outside the input read pad_code; the answer is Y mod p
  kWords = 2,     // word_bytes(field) bytes a word, zero padding; the answer is W x mod p
  kRetained = 3,  // the tensor this worker was last sent under the same attempt and tensor id
};

// Request asks for one linear layer over a micro-batch. The answer is written to the output slot as
// packed words of `field`, image after image, channels last.
struct Request {
  std::uint64_t sequence;      // unique in this segment's life; echoed by the answer
  std::uint64_t attempt;       // names the micro-batch in flight
  std::uint64_t input_offset;  // byte offsets into the segment's data area
  std::uint64_t output_offset;
  std::uint32_t input_bytes;
  std::uint32_t output_bytes;  // exactly what the answer must fill
  std::uint32_t layer;         // index of the plan node
  std::uint32_t batch;
  InputKind kind;
  field::Field field;
  std::uint8_t pad_code;
  std::array<std::uint8_t, 5> zero;
};
static_assert(sizeof(Request) == 56);

enum class AnswerStatus : std::uint32_t { kDone = 1, kFailed = 2 };

struct Answer {
  std::uint64_t sequence;
  AnswerStatus status;
  std::uint32_t output_bytes;
  std::uint64_t device_ns;  // time the worker says it computed; statistics only
};
static_assert(sizeof(Answer) == 24);

}  // namespace slalom::channel
