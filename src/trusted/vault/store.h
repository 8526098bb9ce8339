// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "outside.h"
#include "slalom/result.h"

namespace slalom::vault {

// BlobStore is untrusted storage for sealed bytes: it may lose, change, replay or refuse them.
// Calls from several threads may overlap as long as their ranges do not.
class BlobStore {
 public:
  virtual ~BlobStore() = default;
  // write keeps bytes at an offset; kUnavailable when there is no room.
  [[nodiscard]] virtual Status write(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  // read copies exactly out.size() bytes into private memory; kUnavailable if they are not there.
  [[nodiscard]] virtual Status read(std::uint64_t offset, std::span<std::byte> out) = 0;
  // reserve asks for room up to `bytes` before any work is spent on filling it.
  [[nodiscard]] virtual Status reserve(std::uint64_t bytes) = 0;
  // clear removes everything.
  [[nodiscard]] virtual Status clear() = 0;
  [[nodiscard]] virtual std::uint64_t size() = 0;
};

// FileStore keeps blobs in a regular file that the host opened; it owns the descriptor.
class FileStore final : public BlobStore {
 public:
  explicit FileStore(outside::Descriptor file) noexcept : file_(std::move(file)) {}
  [[nodiscard]] Status write(std::uint64_t offset, std::span<const std::byte> bytes) override;
  [[nodiscard]] Status read(std::uint64_t offset, std::span<std::byte> out) override;
  [[nodiscard]] Status reserve(std::uint64_t bytes) override;
  [[nodiscard]] Status clear() override;
  [[nodiscard]] std::uint64_t size() override;

 private:
  outside::Descriptor file_;
};

}  // namespace slalom::vault
