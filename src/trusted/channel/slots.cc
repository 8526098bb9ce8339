// SPDX-License-Identifier: Apache-2.0
#include "channel/slots.h"

#include <algorithm>

#include "base/checked.h"
#include "channel/layout.h"

namespace slalom::channel {

SlotAllocator::SlotAllocator(std::size_t area_bytes, std::size_t max_slots)
    : area_bytes_(area_bytes) {
  ranges_.reserve(max_slots);
}

std::optional<std::uint64_t> SlotAllocator::allocate(std::size_t bytes) {
  if (bytes == 0 || bytes > area_bytes_) return std::nullopt;
  const std::uint64_t wanted = base::round_up(bytes, kSlotAlignment);
  std::uint64_t start = 0;
  auto next = ranges_.begin();
  for (; next != ranges_.end(); ++next) {
    if (next->offset - start >= wanted) break;
    start = next->offset + next->bytes;
  }
  if (next == ranges_.end() && area_bytes_ - start < wanted) return std::nullopt;
  ranges_.insert(next, Range{start, wanted, false});
  return start;
}

void SlotAllocator::release(std::uint64_t offset) {
  const auto at = find(offset);
  if (!at || ranges_[*at].offset != offset || ranges_[*at].retired) return;
  ranges_.erase(ranges_.begin() + static_cast<std::ptrdiff_t>(*at));
}

void SlotAllocator::retire(std::uint64_t offset) {
  const auto at = find(offset);
  if (at && offset - ranges_[*at].offset < ranges_[*at].bytes) ranges_[*at].retired = true;
}

bool SlotAllocator::contains(std::uint64_t offset, std::uint64_t bytes) const noexcept {
  const auto at = find(offset);
  if (!at || ranges_[*at].retired) return false;
  const std::uint64_t inside = offset - ranges_[*at].offset;
  return inside <= ranges_[*at].bytes && bytes <= ranges_[*at].bytes - inside;
}

std::optional<std::size_t> SlotAllocator::find(std::uint64_t offset) const noexcept {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), offset,
                                      [](std::uint64_t o, const Range& r) { return o < r.offset; });
  if (after == ranges_.begin()) return std::nullopt;
  return static_cast<std::size_t>(after - ranges_.begin()) - 1;
}

}  // namespace slalom::channel
