// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "device/remote/address.h"
#include "device/remote/streams.h"

namespace slalom::testing {

// Relay is a network of its own between a host and a worker: it passes TCP bytes on in both
// directions, and does to them what a test asks for. All counts are of bytes since the last order,
// over all connections together.
class Relay {
 public:
  enum class To { kWorker = 0, kHost = 1 };

  explicit Relay(const std::string& worker)
      : worker_(*device::remote::parse_address(worker)),
        listener_(*device::remote::listen_at({"127.0.0.1", "0"})),
        address_(device::remote::bound_address(listener_.get())),
        thread_([this] { accept_all(); }) {}
  ~Relay() {
    over_ = true;
    thread_.join();
    for (std::thread& pair : pairs_) pair.join();
  }
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  [[nodiscard]] const std::string& address() const { return address_; }

  // cut_after hangs up on everybody once so many bytes went `to` one side, and cut now.
  void cut_after(To to, std::int64_t bytes) { order(to, bytes, cut_at_); }
  void cut() { ++generation_; }
  // flip_at turns over one bit of one byte.
  void flip_at(To to, std::int64_t bytes) { order(to, bytes, flip_at_); }
  // What else the network does to each piece of at most 64 KiB.
  std::atomic<bool> stalled = false;      // nothing passes; nobody is told
  std::atomic<int> delay_us = 0;          // each piece comes later
  std::atomic<bool> unreachable = false;  // who connects is hung up on
  [[nodiscard]] int cuts() const { return cuts_; }
  [[nodiscard]] int flips() const { return flips_; }
  [[nodiscard]] int connections() const { return connections_; }

 private:
  struct Count {
    std::int64_t passed = 0;
    std::int64_t cut_at = -1;
    std::int64_t flip_at = -1;
  };
  using Member = std::int64_t Count::*;
  static constexpr Member cut_at_ = &Count::cut_at;
  static constexpr Member flip_at_ = &Count::flip_at;

  void order(To to, std::int64_t bytes, Member what) {
    const std::lock_guard lock(mutex_);
    Count& count = counts_[static_cast<std::size_t>(to)];
    count.passed = 0;
    count.*what = bytes;
  }

  void accept_all() {
    while (!over_) {
      pollfd one{.fd = listener_.get(), .events = POLLIN, .revents = 0};
      if (poll(&one, 1, 5) <= 0) continue;
      outside::Descriptor host(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      ++connections_;
      if (!host.valid() || unreachable) continue;
      auto worker = device::remote::connect_to(worker_, std::chrono::seconds(2));
      if (!worker.ok()) continue;
      pairs_.emplace_back([this, a = std::move(host), b = std::move(*worker)] { pass(a, b); });
    }
  }

  void pass(const outside::Descriptor& host, const outside::Descriptor& worker) {
    const int generation = generation_;
    for (const auto* end : {&host, &worker}) {
      device::remote::prepare(end->get());
      device::remote::limit(end->get(), std::chrono::milliseconds(200));
    }
    const std::array<int, 2> from{host.get(), worker.get()};
    while (!over_ && generation == generation_) {
      std::array<pollfd, 2> both{{{.fd = from[0], .events = POLLIN, .revents = 0},
                                  {.fd = from[1], .events = POLLIN, .revents = 0}}};
      if (stalled) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        continue;
      }
      if (poll(both.data(), both.size(), 5) <= 0) continue;
      for (std::size_t i = 0; i < 2; ++i) {
        if (both[i].revents != 0 && !pass_piece(from[i], from[1 - i], i)) return;
      }
    }
  }

  // to: 0 the worker, 1 the host
  bool pass_piece(int from, int into, std::size_t to) {
    std::array<std::byte, 65536> piece;  // NOLINT(*-member-init): filled below
    const ssize_t got = recv(from, piece.data(), piece.size(), MSG_DONTWAIT);
    if (got <= 0) return false;
    auto bytes = std::span(piece).first(static_cast<std::size_t>(got));
    if (delay_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
    const bool cut_here = harm(bytes, counts_[to]);
    while (!bytes.empty()) {  // a socket that is full is asked again, unless all is over
      const ssize_t sent = send(into, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (over_ || (sent < 0 && errno != EAGAIN)) return false;
      if (sent > 0) bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
    if (cut_here) cut();
    return true;
  }

  // harm does what was ordered for these bytes; true: what is left of them is the last to pass.
  bool harm(std::span<std::byte>& bytes, Count& count) {
    const std::lock_guard lock(mutex_);
    const auto size = static_cast<std::int64_t>(bytes.size());
    const std::int64_t flip = count.flip_at - count.passed;
    if (count.flip_at >= 0 && flip < size) {
      bytes[static_cast<std::size_t>(flip)] ^= std::byte{4};
      count.flip_at = -1;
      ++flips_;
    }
    const std::int64_t left = count.cut_at - count.passed;
    const bool cut_here = count.cut_at >= 0 && left < size;
    if (cut_here) {
      bytes = bytes.first(static_cast<std::size_t>(left));
      count.cut_at = -1;
      ++cuts_;
    }
    count.passed += size;
    return cut_here;
  }

  device::remote::Address worker_;
  outside::Descriptor listener_;
  std::string address_;
  std::mutex mutex_;
  std::array<Count, 2> counts_;
  std::atomic<int> generation_ = 0;
  std::atomic<int> cuts_ = 0;
  std::atomic<int> flips_ = 0;
  std::atomic<int> connections_ = 0;
  std::atomic<bool> over_ = false;
  std::list<std::thread> pairs_;
  std::thread thread_;  // last: it uses the rest
};

}  // namespace slalom::testing
