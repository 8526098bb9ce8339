// SPDX-License-Identifier: Apache-2.0
#include "device/remote/listener.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "device/remote/address.h"

namespace slalom::device::remote {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kMostGuests = 64;
constexpr milliseconds kTurn{100};
// How long a client that comes back waits for its own last session to end.
constexpr milliseconds kEndTime{1'000};
constexpr std::size_t kChunk = std::size_t{1} << 20;

Status say(int socket, Reply reply, const Token& session = {}) {
  return send_all(socket, encode(Welcome{.reply = reply, .session = session}));
}

Token new_token() {
  Token out{};
  while (getrandom(out.data(), out.size(), 0) != static_cast<ssize_t>(out.size())) {
  }
  return out;
}

}  // namespace

Listener::Listener(outside::Descriptor socket, ListenerOptions options)
    : socket_(std::move(socket)),
      options_(std::move(options)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Listener::~Listener() {
  end_session();
  if (thread_.joinable()) thread_.join();
  unload();
}

void Listener::stop() {
  const std::uint64_t one = 1;
  static_cast<void>(::write(wake_.get(), &one, sizeof(one)));
}

Status Listener::load(std::size_t max_batch) {
  SLALOM_TRY(load_device(options_.plan, max_batch));
  digest_ = options_.digest;
  return {};
}

Status Listener::serve() {
  std::vector<Guest> guests;
  for (;;) {
    std::vector<pollfd> polled{{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                               {.fd = socket_.get(), .events = POLLIN, .revents = 0}};
    for (const Guest& guest : guests) {
      polled.push_back({.fd = guest.socket.get(), .events = POLLIN, .revents = 0});
    }
    const int time = guests.empty() ? -1 : static_cast<int>(kTurn.count());
    if (poll(polled.data(), polled.size(), time) < 0 && errno != EINTR) {
      return Error{Errc::kUnavailable, "the listening socket failed"};
    }
    if (polled[0].revents != 0) return {};
    if ((polled[1].revents & (POLLERR | POLLNVAL)) != 0) {
      return Error{Errc::kUnavailable, "the listening socket failed"};
    }
    std::size_t at = 2;
    std::erase_if(guests, [&](Guest& guest) {
      const bool spoke = polled[at++].revents != 0;
      return (spoke && !listen_to(guest)) || Clock::now() >= guest.until;
    });
    if (polled[1].revents != 0) accept_guest(guests);
  }
}

void Listener::accept_guest(std::vector<Guest>& guests) {
  outside::Descriptor socket(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket.valid() || guests.size() >= kMostGuests) return;
  prepare(socket.get());
  limit(socket.get(), options_.greeting);
  guests.push_back({.socket = std::move(socket), .until = Clock::now() + options_.greeting});
}

bool Listener::listen_to(Guest& guest) {
  const ssize_t got = recv(guest.socket.get(), guest.bytes.data() + guest.got,
                           guest.bytes.size() - guest.got, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  guest.got += static_cast<std::size_t>(got);
  if (guest.got >= kGreetingBytes) {
    // Of a client of another version only this much is known.
    base::ArchiveReader in(std::span(guest.bytes).first(kGreetingBytes));
    Greeting greeting;
    in(greeting);
    if (greeting.magic != kMagic) return false;
    if (greeting.version != kVersion) {
      static_cast<void>(say(guest.socket.get(), Reply::kOtherVersion));
      return false;
    }
  }
  if (guest.got < guest.bytes.size()) return true;
  welcome(guest);
  return false;
}

void Listener::welcome(Guest& guest) {
  const auto hello = decode<Hello>(guest.bytes);
  if (!hello) return;
  if (hello->purpose == Purpose::kJoin) return join(std::move(guest.socket), *hello);
  open(std::move(guest.socket), *hello);
}

void Listener::open(outside::Descriptor socket, const Hello& hello) {
  std::unique_lock lock(mutex_);
  if (occupied_ && hello.token == client_) {
    lock.unlock();
    end_session();
    lock.lock();
    changed_.wait_for(lock, kEndTime, [this] { return !occupied_; });
  }
  if (occupied_) {
    lock.unlock();
    static_cast<void>(say(socket.get(), Reply::kBusy));
    return;
  }
  if (thread_.joinable()) thread_.join();  // it has nothing left to do
  occupied_ = true;
  ending_ = false;
  client_ = hello.token;
  token_ = new_token();
  sockets_.clear();
  sockets_.resize(hello.streams);
  sockets_[0] = std::move(socket);
  thread_ = std::thread([this, hello] { host(hello); });
}

void Listener::join(outside::Descriptor socket, const Hello& hello) {
  const std::lock_guard lock(mutex_);
  if (!occupied_ || ending_ || session_ != nullptr || hello.token != token_ ||
      hello.stream >= sockets_.size() || sockets_[hello.stream].valid()) {
    return;
  }
  sockets_[hello.stream] = std::move(socket);
  changed_.notify_all();
}

void Listener::end_session() {
  const std::lock_guard lock(mutex_);
  if (!occupied_) return;
  ending_ = true;
  if (session_ != nullptr) {
    session_->end();
  } else if (!sockets_.empty() && sockets_[0].valid()) {
    ::shutdown(sockets_[0].get(), SHUT_RDWR);
  }
  changed_.notify_all();
}

// host is the session's thread.
void Listener::host(const Hello& hello) {
  const int first = sockets_[0].get();  // nobody moves it but this thread
  const Reply reply = make_ready(first, hello);
  const bool said = say(first, reply, reply == Reply::kReady ? token_ : Token{}).ok();
  if (said && reply == Reply::kReady && wait_for_streams(hello.streams)) {
    std::unique_lock lock(mutex_);
    for (const auto& socket : sockets_) limit(socket.get(), milliseconds{0});
    Session session(*device_, layers_, buffers_, std::move(sockets_));
    session_ = &session;
    const bool end = ending_;
    lock.unlock();
    if (end) session.end();
    static_cast<void>(session.run());
    lock.lock();
    session_ = nullptr;
  }
  const std::lock_guard lock(mutex_);
  sockets_.clear();
  occupied_ = false;
  changed_.notify_all();
}

bool Listener::wait_for_streams(std::size_t count) {
  const auto end = Clock::now() + options_.greeting;
  std::unique_lock lock(mutex_);
  const auto all_here = [&] {
    return sockets_.size() == count &&
           std::all_of(sockets_.begin(), sockets_.end(),
                       [](const auto& socket) { return socket.valid(); });
  };
  while (!ending_ && !all_here()) {
    // A client that is gone is not waited for.
    pollfd first{.fd = sockets_[0].get(), .events = POLLRDHUP, .revents = 0};
    if (Clock::now() >= end || poll(&first, 1, 0) != 0) return false;
    changed_.wait_for(lock, kTurn);
  }
  return !ending_;
}

Reply Listener::make_ready(int socket, const Hello& hello) {
  if (options_.plan != nullptr && hello.digest != options_.digest) return Reply::kOtherPlan;
  const bool known = plan_ != nullptr && hello.digest == digest_;
  if (known && device_ != nullptr && hello.max_batch <= max_batch_) return Reply::kReady;
  // A client may ask for more than there is memory.
  try {
    if (!known && options_.plan == nullptr) return receive_plan(socket, hello);
    if (!say(socket, Reply::kLoading).ok()) return Reply::kCannotLoad;
    auto plan = known ? plan_ : options_.plan;
    if (!load_device(std::move(plan), hello.max_batch).ok()) return Reply::kCannotLoad;
    digest_ = hello.digest;
    return Reply::kReady;
  } catch (const std::bad_alloc&) {
    unload();
    return Reply::kCannotLoad;
  }
}

Reply Listener::receive_plan(int socket, const Hello& hello) {
  // It is held twice, encoded and decoded, and the device makes something of its own of it.
  if (hello.plan_bytes > outside::process_state().memory_bytes / 4) return Reply::kCannotLoad;
  if (!say(socket, Reply::kSendPlan).ok()) return Reply::kCannotLoad;
  std::vector<std::byte> bytes;  // grows with what has come
  while (bytes.size() < hello.plan_bytes) {
    const std::size_t at = bytes.size();
    bytes.resize(at +
                 static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, hello.plan_bytes - at)));
    if (!receive_all(socket, std::span(bytes).subspan(at)).ok()) return Reply::kCannotLoad;
  }
  const auto digest = model::plan_digest(bytes);
  if (!digest || *digest != hello.digest) return Reply::kCannotLoad;
  auto plan = model::decode_plan(bytes);
  if (!plan) return Reply::kCannotLoad;
  bytes = {};
  const Status loaded =
      load_device(std::make_shared<const model::Plan>(std::move(*plan)), hello.max_batch);
  if (!loaded.ok()) return Reply::kCannotLoad;
  digest_ = hello.digest;
  return Reply::kReady;
}

Status Listener::load_device(std::shared_ptr<const model::Plan> plan, std::size_t max_batch) {
  unload();
  auto layers = JobLayers::make(plan.get(), max_batch);
  if (!layers) return layers.error();
  auto buffers = Buffers::make(*layers);
  if (!buffers) return buffers.error();
  auto device = options_.make_device();
  if (!device) return device.error();
  SLALOM_TRY((*device)->load(plan, max_batch));
  (*device)->attach(buffers->all());
  device_ = std::move(*device);
  buffers_ = std::move(*buffers);
  layers_ = std::move(*layers);
  plan_ = std::move(plan);
  max_batch_ = max_batch;
  return {};
}

void Listener::unload() {
  if (device_ != nullptr) device_->detach(buffers_.all());
  device_.reset();
  plan_.reset();
  max_batch_ = 0;
}

}  // namespace slalom::device::remote
