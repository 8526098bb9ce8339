// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "outside.h"
#include "slalom/result.h"

namespace slalom::device::remote {

// send_all and receive_all move all bytes over a blocking stream socket. kUnavailable: the peer is
// gone, or made no progress within the socket's limit (address.h).
[[nodiscard]] Status send_all(int socket, std::span<const std::byte> bytes) noexcept;
[[nodiscard]] Status receive_all(int socket, std::span<std::byte> bytes) noexcept;

// Piece is one message: a header and bytes that lie elsewhere and stay there, unchanged, until the
// piece is sent or the streams have ended.
struct Piece {
  std::vector<std::byte> header;
  std::span<const std::byte> body;
  std::size_t tag = 0;  // for Streams::Handler::sent
};

// Streams moves messages over several sockets at once, in both directions. Each socket has a thread
// that reads and one that writes; a small piece is written by the caller of send if it can be
// without waiting. The order within a socket is the order of send.
//
// The first error ends all of them, for good: sockets are shut down, threads return. So a message
// is never half of one and half of another.
class Streams {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    // read reads one message of a stream with Streams::receive; an error ends the streams. Called
    // again and again by that stream's own thread.
    [[nodiscard]] virtual Status read(std::size_t stream) = 0;
    // sent says that a piece has left. Called by any thread, also within send.
    virtual void sent(std::size_t tag) = 0;
    // ended is called once, by any thread, when the streams have ended for whatever reason.
    virtual void ended() = 0;
  };

  // REQUIRES: at least one valid socket. The handler outlives the Streams. Threads run from start()
  // on.
  Streams(std::vector<outside::Descriptor> sockets, Handler& handler);
  ~Streams();  // ends them and waits for the threads
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;
  void start();

  [[nodiscard]] std::size_t count() const noexcept { return streams_.size(); }

  // send queues a piece. Not to be called with a lock that the handler takes.
  void send(std::size_t stream, Piece piece);
  // receive fills `bytes`; only within Handler::read of the same stream.
  [[nodiscard]] Status receive(std::size_t stream, std::span<std::byte> bytes) const noexcept;

  // end ends the streams. Any thread, without a lock that the handler takes.
  void end(Error why);
  // why they ended; nothing while they live.
  [[nodiscard]] std::optional<Error> why() const;

 private:
  struct Queued {
    Piece piece;
    std::size_t done = 0;  // bytes of header and body that have left
  };
  struct Stream {
    outside::Descriptor socket;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Queued> queue;
    bool writing = false;  // somebody writes the front of the queue
    std::thread reader;
    std::thread writer;
  };
  void read(std::size_t index);
  void write(Stream& stream);
  [[nodiscard]] bool has_ended() const;

  std::vector<std::unique_ptr<Stream>> streams_;
  Handler& handler_;
  mutable std::mutex mutex_;
  std::optional<Error> why_;
};

}  // namespace slalom::device::remote
