// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "device/gpu/kernels.h"
#include "slalom/result.h"

namespace slalom::device::gpu {

// Product is C = A W^T on int8 with exact int32 sums: A [rows][depth], W [columns][depth],
// C [rows][columns]. All three counts are multiples of kGroup; depth is at most 131,072, so that
// no sum leaves 32 bits.
struct Product {
  const std::int8_t* a = nullptr;
  const std::int8_t* w = nullptr;
  std::int32_t* c = nullptr;
  std::size_t rows = 0, columns = 0, depth = 0;
};
inline constexpr std::size_t kMaxDepth = 131'072;

// Lane is a queue of work that the accelerator does in order; the three lanes run side by side.
enum class Lane : std::uint8_t { kUpload, kCompute, kDownload };

// Mark names a point in a lane's work. A mark that was never set counts as reached.
using Mark = std::uint32_t;

// Accelerator is what a GPU worker needs of a GPU. All calls but synchronize only queue work.
// Errors are kept: after the first one nothing is promised and error() gives it. One thread.
class Accelerator {
 public:
  virtual ~Accelerator() = default;

  // allocate gives memory of the accelerator, 256-byte aligned and zeroed, for the object's life.
  [[nodiscard]] virtual Result<std::byte*> allocate(std::size_t bytes) = 0;
  // make_mark makes a new mark, not set.
  [[nodiscard]] virtual Result<Mark> make_mark() = 0;

  // pin tells the accelerator that memory of this process will be copied from and to (so that it
  // can do so directly); unpin before it is unmapped. Copies work without it, more slowly.
  virtual void pin(std::span<std::byte> memory) = 0;
  virtual void unpin(std::span<std::byte> memory) = 0;

  virtual void upload(std::byte* to, std::span<const std::byte> from) = 0;    // Lane::kUpload
  virtual void download(std::span<std::byte> to, const std::byte* from) = 0;  // Lane::kDownload
  virtual void gather(const Gather& kernel) = 0;                              // Lane::kCompute
  virtual void recombine(const Recombine& kernel) = 0;                        // Lane::kCompute
  virtual void direct(const Direct& kernel) = 0;                              // Lane::kCompute
  virtual void multiply(const Product& product) = 0;                          // Lane::kCompute

  // set puts the mark behind all work of the lane; wait lets a lane's later work start only when
  // the mark is reached; reached asks, synchronize blocks until it is.
  virtual void set(Lane lane, Mark mark) = 0;
  virtual void wait(Lane lane, Mark mark) = 0;
  [[nodiscard]] virtual bool reached(Mark mark) = 0;
  virtual void synchronize(Mark mark) = 0;

  // make_timer makes a mark that also tells when it was reached; time_of gives that time. REQUIRES
  // of time_of: a mark of make_timer that was set and reached.
  [[nodiscard]] virtual Result<Mark> make_timer() = 0;
  [[nodiscard]] virtual std::chrono::steady_clock::time_point time_of(Mark timer) = 0;

  [[nodiscard]] virtual Status error() const = 0;
};

}  // namespace slalom::device::gpu
