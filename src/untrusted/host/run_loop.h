// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/executor.h"
#include "session/control.h"
#include "untrusted/host/control_client.h"
#include "untrusted/host/outcome.h"

namespace slalom::host {

// kMaxFrame bounds what the host takes in one frame.
inline constexpr std::size_t kMaxFrame = std::size_t{1} << 30;

// RunLoop moves the images of one run through the control socket, after kRun was sent: it writes
// the next image whenever there is room and reads results whenever there are any, so that neither
// side ever waits for the other. Source and sink are called on the calling thread.
class RunLoop {
 public:
  RunLoop(int socket, runtime::Source& source, runtime::Sink& sink, std::size_t input_bytes,
          std::vector<Watched> watched);

  [[nodiscard]] Done run();
  // lost: the connection ended or broke the protocol in the middle.
  [[nodiscard]] bool lost() const noexcept { return lost_; }

 private:
  void next_frame();
  [[nodiscard]] bool sending() const noexcept { return sent_ < frame_.size(); }
  void wait();
  void write_some();
  void read_some();
  void take_frame();

  int socket_;
  runtime::Source& source_;
  runtime::Sink& sink_;
  std::size_t input_bytes_;
  std::vector<Watched> watched_;

  std::vector<std::byte> frame_;  // being sent
  std::size_t sent_ = 0;
  bool end_framed_ = false;  // frame_ is, or was, the kRunEnd

  std::array<std::byte, session::kFrameHeaderBytes> header_bytes_{};
  std::optional<session::FrameHeader> header_;  // of the frame being received
  std::vector<std::byte> payload_;
  std::size_t received_ = 0;  // of the header, then of the payload

  std::optional<session::RunDone> done_;
  bool lost_ = false;
  bool readable_ = false;
  bool writable_ = false;
};

}  // namespace slalom::host
