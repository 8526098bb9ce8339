// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "device/jobs.h"
#include "device/remote/streams.h"
#include "device/remote/wire.h"
#include "outside.h"

namespace slalom::device::remote {

// Buffers is memory for kWindow jobs, for a device to read and write: attach it to the device
// before the first session and detach it after the last.
class Buffers {
 public:
  Buffers() = default;
  // make reserves address space; pages are taken as jobs need them, unless the device locks them
  // all. kUnavailable: more than half of this machine's memory, or jobs of 4 GiB.
  [[nodiscard]] static Result<Buffers> make(const JobLayers& layers);

  [[nodiscard]] std::span<std::byte> all() const noexcept;
  [[nodiscard]] std::span<std::byte> input(std::size_t index) const noexcept;
  [[nodiscard]] std::span<std::byte> output(std::size_t index) const noexcept;

 private:
  std::unique_ptr<std::byte, outside::Unmap> memory_;
  std::size_t input_bytes_ = 0;
  std::size_t output_bytes_ = 0;
};

// Session serves one client with a device that has loaded the plan of `layers`: it puts the parts
// of inputs together, has them computed in the order of their ids, and sends the answers. What a
// client may break is its own session: whatever it sends, only the buffers are written to, and a
// job that the plan does not allow ends the session.
//
// Thread safety: run() once; end() by any thread.
class Session final : private Streams::Handler {
 public:
  // REQUIRES: sockets, at most kMostStreams; buffers made for these layers. Device, layers and
  // buffers outlive the Session and serve no other meanwhile.
  Session(Device& device, const JobLayers& layers, const Buffers& buffers,
          std::vector<outside::Descriptor> sockets);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // run serves until the connection is lost, the client breaks the protocol or end() is called, and
  // says which. The device has no job left then.
  Error run();
  void end() { streams_.end({Errc::kUnavailable, "the session was ended"}); }

 private:
  // Slot is the place of the jobs whose ids are equal modulo kWindow.
  struct Slot {
    std::uint64_t id = 0;  // that it holds, or the one that it waits for
    bool taken = false;    // a part has come
    JobHeader header;      // part_bytes: 0
    Job job;
    std::size_t buffer = 0;
    std::uint32_t streams = 0;     // bit s: stream s has begun its part
    std::size_t parts_left = 0;    // to be received
    bool answered = false;         // the answer is on its way
    std::size_t answers_left = 0;  // to be sent
  };

  [[nodiscard]] Status read(std::size_t stream) override;
  void sent(std::size_t tag) override;
  void ended() override;
  [[nodiscard]] Status take(std::size_t stream, const JobHeader& header, Slot*& slot);
  [[nodiscard]] Status begin(const JobHeader& header, Slot& slot);
  [[nodiscard]] bool complete(const Slot& slot) const noexcept;
  [[nodiscard]] std::optional<Job> next_job();
  void answer(std::uint64_t id, Status status);

  Device& device_;
  const JobLayers& layers_;
  const Buffers& buffers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Slot, kWindow> slots_;
  std::vector<std::size_t> free_buffers_;  // the last is the one used last
  bool ended_ = false;
  std::uint64_t next_id_ = 0;  // to be begun; only run() writes it
  Streams streams_;            // last: its threads use the rest
};

}  // namespace slalom::device::remote
