// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace slalom::channel {

// SlotAllocator hands out ranges of a data area of which it knows only the size: its books are
// private memory. First fit, lowest offset first, which keeps the ranges in use close together and
// so in cache. One thread.
class SlotAllocator {
 public:
  // area_bytes: size of the data area. No allocation follows while at most max_slots are handed
  // out.
  SlotAllocator(std::size_t area_bytes, std::size_t max_slots);

  // allocate returns the offset of `bytes` (> 0) free bytes, aligned to kSlotAlignment, or nothing
  // when no gap is wide enough.
  [[nodiscard]] std::optional<std::uint64_t> allocate(std::size_t bytes);

  // release gives back the range that starts at `offset`; a retired or unknown one stays as it is.
  void release(std::uint64_t offset);

  // retire keeps the range around `offset` from ever being handed out again.
  void retire(std::uint64_t offset);

  // contains says whether [offset, offset + bytes) lies inside one range that is handed out and not
  // retired.
  [[nodiscard]] bool contains(std::uint64_t offset, std::uint64_t bytes) const noexcept;

 private:
  struct Range {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    bool retired = false;
  };
  // find returns the index of the last range that starts at or before `offset`, or nothing.
  [[nodiscard]] std::optional<std::size_t> find(std::uint64_t offset) const noexcept;

  std::uint64_t area_bytes_;
  std::vector<Range> ranges_;  // sorted by offset, disjoint
};

}  // namespace slalom::channel
