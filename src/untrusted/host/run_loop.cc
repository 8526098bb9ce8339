// SPDX-License-Identifier: Apache-2.0
#include "untrusted/host/run_loop.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>

namespace slalom::host {
namespace {

// error_of turns an error from the wire into one with a static sentence. The trusted process has
// few sentences; whatever goes beyond a bound gets a general one.
Error error_of(const session::ErrorText& error) {
  static std::mutex mutex;
  static std::set<std::string> sentences;
  constexpr std::size_t kMost = 256;
  const std::lock_guard lock(mutex);
  if (sentences.size() >= kMost && !sentences.contains(error.text)) {
    return {error.code, "the trusted process refuses to release an answer"};
  }
  return {error.code, sentences.insert(error.text).first->c_str()};
}

}  // namespace

using session::FrameHeader;
using session::Kind;

RunLoop::RunLoop(int socket, runtime::Source& source, runtime::Sink& sink, std::size_t input_bytes,
                 std::vector<Watched> watched)
    : socket_(socket),
      source_(source),
      sink_(sink),
      input_bytes_(input_bytes),
      watched_(std::move(watched)) {}

Done RunLoop::run() {
  while (!lost_ && !(done_ && end_framed_ && !sending())) {
    if (!sending() && !end_framed_) next_frame();
    wait();
    if (readable_) read_some();
    if (writable_ && sending()) write_some();
  }
  if (lost_) return Failure{Errc::kUnavailable, "the trusted process is gone"};
  if (done_->error) return Failure{done_->error->code, done_->error->text};
  return {};
}

// next_frame makes the next image, or the end of the run, ready to be sent.
void RunLoop::next_frame() {
  frame_.resize(session::kFrameHeaderBytes + input_bytes_);
  const std::span<std::byte> image =
      std::span(frame_).subspan(session::kFrameHeaderBytes, input_bytes_);
  // After an early end no further image is asked for.
  end_framed_ = done_.has_value() ||
                !source_.next({reinterpret_cast<std::uint8_t*>(image.data()), image.size()});
  if (end_framed_) frame_.resize(session::kFrameHeaderBytes);
  const auto header = session::encode_header(
      end_framed_ ? FrameHeader{0, Kind::kRunEnd}
                  : FrameHeader{static_cast<std::uint32_t>(input_bytes_), Kind::kImage});
  std::copy(header.begin(), header.end(), frame_.begin());
  sent_ = 0;
}

void RunLoop::wait() {
  std::vector<pollfd> all;
  const int events = (done_ ? 0 : POLLIN) | (sending() ? POLLOUT : 0);
  all.push_back({.fd = socket_, .events = static_cast<short>(events), .revents = 0});
  for (const Watched& w : watched_) {
    all.push_back({.fd = w.socket, .events = POLLRDHUP, .revents = 0});
  }
  readable_ = writable_ = false;
  if (poll(all.data(), all.size(), -1) < 0) {
    lost_ = errno != EINTR;
    return;
  }
  readable_ = (all[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0;
  writable_ = (all[0].revents & POLLOUT) != 0;
  for (std::size_t i = watched_.size(); i-- > 0;) {
    if (all[i + 1].revents == 0) continue;
    watched_[i].gone();
    watched_.erase(watched_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void RunLoop::write_some() {
  const ssize_t n =
      send(socket_, frame_.data() + sent_, frame_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0) {
    sent_ += static_cast<std::size_t>(n);
  } else if (errno == EPIPE || errno == ECONNRESET) {
    // What it said before it hung up is still to be read.
    frame_.clear();
    sent_ = 0;
    end_framed_ = true;
  } else {
    lost_ = errno != EAGAIN && errno != EINTR;
  }
}

void RunLoop::read_some() {
  const std::span<std::byte> into =
      header_ ? std::span(payload_) : std::span<std::byte>(header_bytes_);
  const ssize_t n = recv(socket_, into.data() + received_, into.size() - received_, MSG_DONTWAIT);
  if (n <= 0) {
    lost_ = n == 0 || (errno != EAGAIN && errno != EINTR);
    return;
  }
  received_ += static_cast<std::size_t>(n);
  if (received_ < into.size()) return;
  received_ = 0;
  if (!header_) {
    const auto header = session::decode_header(header_bytes_);
    lost_ = !header || header->bytes > kMaxFrame;
    if (lost_) return;
    header_ = *header;
    payload_.resize(header_->bytes);
    if (header_->bytes > 0) return;
  }
  take_frame();
  header_.reset();
}

void RunLoop::take_frame() {
  switch (header_->kind) {
    case Kind::kOutput: {
      const auto output = session::decode<session::Output>(payload_);
      lost_ = !output;
      if (lost_) return;
      std::vector<runtime::OutputView> views;
      for (const auto& o : output->outputs) views.push_back({o.tensor, o.codes, o.integers});
      sink_.deliver(output->image, views);
      return;
    }
    case Kind::kFailed: {
      const auto failed = session::decode<session::Failed>(payload_);
      lost_ = !failed;
      if (!lost_) sink_.fail(failed->image, error_of(failed->error));
      return;
    }
    case Kind::kRunDone: {
      auto done = session::decode<session::RunDone>(payload_);
      lost_ = !done;
      if (!lost_) done_ = std::move(*done);
      return;
    }
    default:
      lost_ = true;
  }
}

}  // namespace slalom::host
