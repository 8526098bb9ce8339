// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "field/pad_stream.h"
#include "field/prime.h"
#include "model/plan.h"
#include "slalom/result.h"

namespace slalom::vault {

// WhenDry says what an inference does when no prepared pad is left. Nothing is ever sent unblinded.
enum class WhenDry : std::uint8_t { kInline = 0, kWait = 1, kFail = 2 };
constexpr auto range_of(WhenDry) { return std::pair(WhenDry::kInline, WhenDry::kFail); }

// PadTicket names one image in one attempt: the inference number, unique in the process's life over
// all models and threads, and whether its unblinding factors lay ready (if not, they were computed
// while the ticket was asked for). It is good for the Pads that gave it only.
struct Place;
struct PadTicket {
  std::uint64_t inference = 0;
  bool stocked = false;
  Place* place = nullptr;  // where its Pads keep account of it
};

// Pads is the supplier of one-time pads r and of u = W r for one loaded plan (DESIGN: pads).
// Addresses: (privacy mode, model digest, epoch, inference number, tensor). Thread-safe.
class Pads {
 public:
  virtual ~Pads() = default;

  // take hands out a fresh inference number, with stock behind it if there is any, and marks it
  // used before it returns. kUnavailable when dry under kFail.
  [[nodiscard]] virtual Result<PadTicket> take() = 0;

  // ready is for how many of so many images tickets are to be had without waiting (kWait).
  [[nodiscard]] virtual std::size_t ready(std::size_t images) const noexcept { return images; }

  // pad_key derives the stream key of one tensor's pad: words [0, elements) of
  // field::PadStream(key, f, kernels) are r. kInternal for a ticket that is not in use.
  [[nodiscard]] virtual Status pad_key(const PadTicket& ticket, model::TensorId tensor,
                                       field::StreamKey& key) = 0;

  // open_factors writes words [first, first + out.size()) of u for the Linear node `node`;
  // authenticated before a single word is handed out. kRejected if the store was touched;
  // kUnavailable if it is gone. Chunks are at most 64 KiB; first must be a multiple of
  // chunk_words(f).
  [[nodiscard]] virtual Status open_factors(const PadTicket& ticket, std::uint32_t node,
                                            field::Field f, std::size_t first,
                                            std::span<std::uint32_t> out) = 0;
  [[nodiscard]] static constexpr std::size_t chunk_words(field::Field) noexcept {
    return std::size_t{16} * 1024;
  }

  // destroy forgets what is left of a ticket (its keys, its stock).
  virtual void destroy(const PadTicket& ticket) = 0;

  // prepare computes and seals factors for `count` further images; progress is called after each
  // image and may stop the work by returning false. Returns how many were made.
  using Progress = bool (*)(void* context, std::uint64_t made, std::uint64_t count);
  [[nodiscard]] virtual Result<std::uint64_t> prepare(std::uint64_t count, Progress progress,
                                                      void* context) = 0;

  [[nodiscard]] virtual std::uint64_t stock() const noexcept = 0;
  // bytes_per_image is the sealed size of one image's factors.
  [[nodiscard]] virtual std::uint64_t bytes_per_image() const noexcept = 0;
  // dead_stock says that the store held pads of an earlier process, which nobody can use any more
  // and which were removed.
  [[nodiscard]] virtual bool dead_stock() const noexcept { return false; }
};

}  // namespace slalom::vault
