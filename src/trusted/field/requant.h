// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "field/kernels.h"
#include "model/plan.h"

// What a device is sent, what it answers, and how an answer becomes the plan's Y.
//
//   form    sent                      taps outside the input    answered
//   codes   q (one byte)              read pad_code             sum w*(q - 128) mod p  = Y mod p
//   words   q - zp + r mod p          read 0                    sum w*(q - zp) + u mod p
//
// with zp = pad_code = the input's zero point, u = W r mod p with zero padding. Since a tap outside
// the input stands for the real value 0, that is code zp,
//   Y = sum over all taps w*(code - 128) = sum w*(q - zp) + (zp - 128) * (sum of all taps'
//   weights):
// the words form needs one constant a channel, at borders too, and no constant a position.
// Its sum w*(q - zp) need not lie in (-p/2, p/2), but Y does, and the shift is exact mod p.

namespace slalom::field {

enum class InputForm : std::uint8_t { kCodes = 1, kWords = 2 };

// EpilogueTables owns the channel tables of one Linear's Epilogue. Immutable after construction.
class EpilogueTables {
 public:
  // For requantise_codes only: threshold and offset are missing.
  explicit EpilogueTables(const model::Linear& layer);
  // REQUIRES: the layer has a field (validated plan); pad_code is its input's zero point.
  EpilogueTables(const model::Linear& layer, InputForm form, std::uint8_t pad_code);

  // requantising is for consume_codes and consume_integers (it includes the bias), and for
  // requantise_codes.
  [[nodiscard]] Epilogue requantising() const noexcept;

 private:
  std::vector<std::uint32_t> threshold_;
  std::vector<std::int32_t> offset_;
  std::vector<float> multiplier_;
  std::vector<std::uint8_t> table_;
  std::int32_t zero_point_;
  std::int32_t lo_;
  std::int32_t hi_;
  bool tame_;
};

}  // namespace slalom::field
