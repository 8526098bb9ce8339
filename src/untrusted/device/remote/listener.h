// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "device/device.h"
#include "device/jobs.h"
#include "device/remote/session.h"
#include "device/remote/wire.h"
#include "outside.h"

namespace slalom::device::remote {

struct ListenerOptions {
  // A device that has loaded nothing; asked for again when a client brings another plan.
  std::function<Result<std::unique_ptr<Device>>()> make_device;
  // If given, only this plan is served, and it never travels.
  std::shared_ptr<const model::Plan> plan;
  model::Digest digest{};
  // How long a client may say nothing while a session is opened.
  std::chrono::milliseconds greeting{10'000};
};

// Listener is a remote worker: it serves one client at a time, over the connections that the client
// opens, with one device (docs/remote-format.md). Who asks meanwhile is told that it is busy; a
// client that lost its connection takes the place of its own last session. The loaded plan stays
// for the next client that has the same.
//
// Clients are not authenticated and nothing is encrypted: whoever can connect can compute. What a
// client sends is never believed: plans go through the strict decoder, jobs are checked against the
// plan, and memory is taken for what has come.
class Listener {
 public:
  // REQUIRES: a listening socket, and options.make_device.
  Listener(outside::Descriptor socket, ListenerOptions options);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // load prepares options.plan for micro-batches of a size before anybody connects.
  [[nodiscard]] Status load(std::size_t max_batch);

  // serve accepts clients until stop() is called (by any thread); kUnavailable: the socket failed.
  [[nodiscard]] Status serve();
  void stop();

 private:
  // Guest is a connection that has not said what it wants.
  struct Guest {
    outside::Descriptor socket;
    std::array<std::byte, kHelloBytes> bytes{};
    std::size_t got = 0;
    std::chrono::steady_clock::time_point until;
  };

  void accept_guest(std::vector<Guest>& guests);
  // listen_to reads what a guest says; false: it is not a guest any more.
  [[nodiscard]] bool listen_to(Guest& guest);
  void welcome(Guest& guest);
  void open(outside::Descriptor socket, const Hello& hello);
  void join(outside::Descriptor socket, const Hello& hello);
  void end_session();

  void host(const Hello& hello);
  [[nodiscard]] Reply make_ready(int socket, const Hello& hello);
  [[nodiscard]] Reply receive_plan(int socket, const Hello& hello);
  [[nodiscard]] Status load_device(std::shared_ptr<const model::Plan> plan, std::size_t max_batch);
  void unload();
  [[nodiscard]] bool wait_for_streams(std::size_t count);

  outside::Descriptor socket_;
  ListenerOptions options_;
  outside::Descriptor wake_;  // readable after stop()

  // The device and what it has loaded; the session's thread uses them while it lives.
  std::shared_ptr<const model::Plan> plan_;
  model::Digest digest_{};
  std::size_t max_batch_ = 0;
  JobLayers layers_;
  std::unique_ptr<Device> device_;
  Buffers buffers_;

  std::mutex mutex_;
  std::condition_variable changed_;
  Token client_{};                            // of the session
  Token token_{};                             // the session's
  std::vector<outside::Descriptor> sockets_;  // of the session that is being opened, by stream
  Session* session_ = nullptr;                // that runs
  bool ending_ = false;                       // the session is to end
  bool occupied_ = false;                     // there is a session, or what is left of one
  std::thread thread_;
};

}  // namespace slalom::device::remote
