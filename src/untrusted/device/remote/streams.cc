// SPDX-License-Identifier: Apache-2.0
#include "device/remote/streams.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace slalom::device::remote {
namespace {

// What the caller of send writes by itself; larger pieces are the writer's.
constexpr std::size_t kSmall = std::size_t{64} << 10;

constexpr Error kGone{Errc::kUnavailable, "the connection was lost"};
constexpr Error kSilent{Errc::kUnavailable, "the peer made no progress in time"};

Error failed(int why) { return why == EAGAIN || why == EWOULDBLOCK ? kSilent : kGone; }

// push sends what it can of the rest of header and body in one call: the number of bytes, or -1.
ssize_t push(int socket, const Piece& piece, std::size_t done, int flags) {
  std::array<iovec, 2> parts{};
  std::size_t n = 0;
  const auto add = [&](std::span<const std::byte> bytes, std::size_t skip) {
    if (skip < bytes.size()) {
      parts[n++] = {const_cast<std::byte*>(bytes.data() + skip), bytes.size() - skip};
    }
  };
  const std::size_t head = piece.header.size();
  add(piece.header, std::min(done, head));
  add(piece.body, done - std::min(done, head));
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = n;
  for (;;) {
    const ssize_t sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
    if (sent >= 0 || errno != EINTR) return sent;
  }
}

}  // namespace

Status send_all(int socket, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return failed(sent < 0 ? errno : 0);
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return {};
}

Status receive_all(int socket, std::span<std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t got = recv(socket, bytes.data(), bytes.size(), MSG_WAITALL);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failed(got < 0 ? errno : 0);
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

Streams::Streams(std::vector<outside::Descriptor> sockets, Handler& handler) : handler_(handler) {
  for (auto& socket : sockets) {
    streams_.push_back(std::make_unique<Stream>());
    streams_.back()->socket = std::move(socket);
  }
}

Streams::~Streams() {
  end({Errc::kUnavailable, "the connection was closed"});
  for (auto& stream : streams_) {
    if (stream->reader.joinable()) stream->reader.join();
    if (stream->writer.joinable()) stream->writer.join();
  }
}

void Streams::start() {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    streams_[i]->reader = std::thread([this, i] { read(i); });
    streams_[i]->writer = std::thread([this, i] { write(*streams_[i]); });
  }
}

void Streams::send(std::size_t index, Piece piece) {
  Stream& stream = *streams_[index];
  const std::size_t bytes = piece.header.size() + piece.body.size();
  std::unique_lock lock(stream.mutex);
  stream.queue.push_back({std::move(piece)});
  if (stream.writing || stream.queue.size() > 1 || bytes > kSmall) {
    stream.changed.notify_one();
    return;
  }
  Queued& front = stream.queue.front();
  stream.writing = true;
  lock.unlock();
  const ssize_t sent = push(stream.socket.get(), front.piece, 0, MSG_DONTWAIT);
  const std::size_t tag = front.piece.tag;
  lock.lock();
  // The writer finds out about errors: it has what is left to send.
  front.done = sent > 0 ? static_cast<std::size_t>(sent) : 0;
  const bool all = front.done == bytes;
  if (all) stream.queue.pop_front();
  stream.writing = false;
  stream.changed.notify_one();
  lock.unlock();
  if (all) handler_.sent(tag);
}

Status Streams::receive(std::size_t stream, std::span<std::byte> bytes) const noexcept {
  return receive_all(streams_[stream]->socket.get(), bytes);
}

void Streams::end(Error why) {
  {
    const std::lock_guard lock(mutex_);
    if (why_) return;
    why_ = why;
  }
  for (auto& stream : streams_) {
    ::shutdown(stream->socket.get(), SHUT_RDWR);
    const std::lock_guard lock(stream->mutex);  // no writer is between its look and its sleep
    stream->changed.notify_all();
  }
  handler_.ended();
}

std::optional<Error> Streams::why() const {
  const std::lock_guard lock(mutex_);
  return why_;
}

bool Streams::has_ended() const { return why().has_value(); }

void Streams::read(std::size_t index) {
  while (!has_ended()) {
    if (const Status done = handler_.read(index); !done.ok()) return end(done.error());
  }
}

void Streams::write(Stream& stream) {
  for (;;) {
    std::unique_lock lock(stream.mutex);
    stream.changed.wait(lock,
                        [&] { return has_ended() || (!stream.queue.empty() && !stream.writing); });
    if (has_ended()) return;
    Queued& front = stream.queue.front();
    stream.writing = true;
    lock.unlock();
    const std::size_t bytes = front.piece.header.size() + front.piece.body.size();
    while (front.done < bytes) {
      const ssize_t sent = push(stream.socket.get(), front.piece, front.done, 0);
      if (sent <= 0) return end(failed(sent < 0 ? errno : 0));
      front.done += static_cast<std::size_t>(sent);
    }
    const std::size_t tag = front.piece.tag;
    lock.lock();
    stream.queue.pop_front();
    stream.writing = false;
    lock.unlock();
    handler_.sent(tag);
  }
}

}  // namespace slalom::device::remote
