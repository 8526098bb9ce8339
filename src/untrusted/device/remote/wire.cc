// SPDX-License-Identifier: Apache-2.0
#include "device/remote/wire.h"

#include <algorithm>

#include "base/round_up.h"

namespace slalom::device::remote {
namespace {

constexpr std::size_t kLeastPart = std::size_t{128} << 10;
constexpr std::size_t kStep = 4096;  // parts begin at multiples of it

}  // namespace

std::optional<Part> part_of(std::uint64_t id, std::size_t bytes, std::size_t streams,
                            std::size_t stream) noexcept {
  const std::size_t parts = std::clamp<std::size_t>(bytes / kLeastPart, 1, streams);
  const std::size_t rank = (stream + streams - static_cast<std::size_t>(id % streams)) % streams;
  if (rank >= parts) return std::nullopt;
  const std::size_t share = base::round_up(base::div_up(bytes, parts), kStep);
  const std::size_t offset = std::min(bytes, rank * share);
  return Part{offset, std::min(share, bytes - offset)};
}

}  // namespace slalom::device::remote
