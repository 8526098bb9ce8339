// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "channel/layout.h"
#include "channel/shared.h"
#include "channel/shm_port.h"
#include "outside.h"

namespace slalom::channel::testing {

// Peer maps a port's segment a second time and writes there whatever a test wants.
class Peer {
 public:
  explicit Peer(const ShmPort& port, std::uint32_t capacity)
      : memory_(std::move(
            outside::SharedMemory::map(outside::Descriptor(dup(port.descriptor()))).value())),
        view_(memory_.bytes()),
        capacity_(capacity) {}

  [[nodiscard]] const SharedView& view() const { return view_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return memory_.bytes(); }
  [[nodiscard]] std::span<std::byte> data() const {
    return memory_.bytes().subspan(data_offset(capacity_));
  }
  [[nodiscard]] std::uint64_t requests() const {
    return view_.load<std::uint64_t>(kRequestHead, std::memory_order_acquire);
  }
  [[nodiscard]] Request request(std::uint64_t n) const {
    return view_.copy_in<Request>(request_at(n, capacity_));
  }
  void put(std::uint64_t n, const Answer& answer) const {
    view_.copy_out(answer_at(n, capacity_), answer);
  }
  void head(std::uint64_t n) const { view_.store(kAnswerHead, n, std::memory_order_release); }
  // answer writes the answer that request n deserves and announces it.
  void answer(std::uint64_t n) const {
    const Request r = request(n);
    put(n, {r.sequence, AnswerStatus::kDone, r.output_bytes, 5});
    head(n + 1);
  }

 private:
  outside::SharedMemory memory_;
  SharedView view_;
  std::uint32_t capacity_;
};

inline std::unique_ptr<ShmPort> make_port(std::size_t data_bytes = 1 << 16,
                                          std::uint32_t capacity = 8) {
  auto port = ShmPort::create({data_bytes, capacity});
  EXPECT_TRUE(port.ok());
  return std::move(*port);
}

inline Request request_for(const Slot& input, const Slot& output) {
  Request r{};
  r.input_offset = input.offset;
  r.input_bytes = static_cast<std::uint32_t>(input.memory.size());
  r.output_offset = output.offset;
  r.output_bytes = static_cast<std::uint32_t>(output.memory.size());
  r.kind = InputKind::kCodes;
  r.field = field::Field::kP24;
  r.batch = 1;
  return r;
}

}  // namespace slalom::channel::testing
