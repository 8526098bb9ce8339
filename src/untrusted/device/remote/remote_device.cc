// SPDX-License-Identifier: Apache-2.0
#include "device/remote/remote_device.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "device/remote/address.h"
#include "device/remote/streams.h"

namespace slalom::device {

using channel::InputKind;
using remote::Reply;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

namespace {

constexpr milliseconds kConnectTime{5'000};
constexpr milliseconds kFirstPause{50};  // between tries; then twice as long each time
constexpr milliseconds kLongestPause{1'000};
constexpr std::chrono::microseconds kMoment{50};
constexpr Error kBroken{Errc::kMalformed, "the remote worker broke the protocol"};

milliseconds until(Clock::time_point end) {
  return std::chrono::duration_cast<milliseconds>(end - Clock::now());
}

// refusal is what a Reply other than kReady, kSendPlan and kLoading means.
Error refusal(Reply reply) {
  switch (reply) {
    case Reply::kBusy:
      return {Errc::kUnavailable, "the remote worker is busy: it serves another host"};
    case Reply::kOtherPlan:
      return {Errc::kMalformed, "the remote worker was started for another plan"};
    case Reply::kOtherVersion:
      return {Errc::kMalformed, "the remote worker speaks another version of the protocol"};
    case Reply::kCannotLoad:
      return {Errc::kUnavailable, "the remote worker cannot load the plan"};
    default:
      return kBroken;
  }
}

}  // namespace

// Flight is a job that was started. What the link's threads write is guarded by its mutex.
struct RemoteDevice::Flight {
  Job job;
  Status status;
  std::uint64_t id = 0;
  std::size_t parts_left = 0;  // to be sent or received; 0: it has an outcome
  bool answered = false;       // by any stream
  bool posted = false;         // in this session
  bool refused = false;        // here: nothing is sent (any more), and status is its outcome
};

// Link is one session.
class RemoteDevice::Link final : public remote::Streams::Handler {
 public:
  explicit Link(std::vector<outside::Descriptor> sockets)
      : awaited_(sockets.size()), streams_(std::move(sockets), *this) {
    streams_.start();
  }

  // post sends a job. Its memory and the Flight stay until it has an outcome or the link is gone.
  void post(Flight& flight) {
    const std::size_t count = streams_.count();
    const Job& job = flight.job;
    const std::size_t bytes = job.kind == InputKind::kRetained ? 0 : job.input.size();
    {
      const std::lock_guard lock(mutex_);
      flight.parts_left = 0;
      flight.answered = false;
      sending_[flight.id % remote::kWindow] = &flight;
      for (std::size_t s = 0; s < count; ++s) {
        if (remote::part_of(flight.id, bytes, count, s)) ++flight.parts_left;
        if (!remote::part_of(flight.id, job.output.size(), count, s)) continue;
        awaited_[s].push_back(&flight);
        ++flight.parts_left;
      }
    }
    remote::JobHeader header{.id = flight.id,
                             .attempt = job.attempt,
                             .layer = job.layer,
                             .batch = job.batch,
                             .kind = static_cast<std::uint8_t>(job.kind),
                             .field = static_cast<std::uint8_t>(job.field),
                             .pad_code = job.pad_code,
                             .input_bytes = static_cast<std::uint32_t>(bytes)};
    for (std::size_t s = 0; s < count; ++s) {
      const auto part = remote::part_of(flight.id, bytes, count, s);
      if (!part) continue;
      header.part_bytes = static_cast<std::uint32_t>(part->bytes);
      const auto body =
          bytes == 0 ? job.input.first(0) : job.input.subspan(part->offset, part->bytes);
      streams_.send(s, {.header = remote::encode(header),
                        .body = body,
                        .tag = static_cast<std::size_t>(flight.id % remote::kWindow)});
    }
  }

  // settled waits until a flight has an outcome or the link has ended, for at most `time`, and says
  // whether it has an outcome.
  bool settled(const Flight& flight, std::optional<std::chrono::microseconds> time) {
    std::unique_lock lock(mutex_);
    const auto done = [&] { return flight.parts_left == 0 || ended_; };
    if (time) {
      changed_.wait_for(lock, *time, done);
    } else {
      changed_.wait(lock, done);
    }
    return flight.parts_left == 0;
  }
  [[nodiscard]] std::optional<Error> why() const { return streams_.why(); }
  void end(Error why) { streams_.end(why); }

  Status read(std::size_t stream) override {
    std::array<std::byte, remote::kAnswerBytes> bytes{};
    SLALOM_TRY(streams_.receive(stream, bytes));
    const auto header = remote::decode<remote::AnswerHeader>(bytes);
    if (!header) return kBroken;
    Flight* flight = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (awaited_[stream].empty()) return kBroken;
      flight = awaited_[stream].front();
      if (header->id != flight->id) return kBroken;
    }
    // The flight stays: it has no outcome before this part has come.
    const auto part =
        remote::part_of(flight->id, flight->job.output.size(), awaited_.size(), stream);
    if (header->part_bytes != (header->status == 0 ? part->bytes : 0)) return kBroken;
    if (header->status == 0) {
      SLALOM_TRY(streams_.receive(stream, flight->job.output.subspan(part->offset, part->bytes)));
    }
    return took(stream, *flight, *header);
  }
  // A peer may answer before it has all of the input: until it is sent, the job's memory stays.
  void sent(std::size_t tag) override {
    const std::lock_guard lock(mutex_);
    if (--sending_[tag]->parts_left == 0) changed_.notify_all();
  }
  void ended() override {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

 private:
  Status took(std::size_t stream, Flight& flight, const remote::AnswerHeader& header) {
    const Status status = header.status == 0 ? Status()
                                             : Error{static_cast<Errc>(header.status),
                                                     "the remote worker could not compute a layer"};
    const std::lock_guard lock(mutex_);
    if (flight.answered && (flight.status.ok() != status.ok())) return kBroken;
    flight.answered = true;
    flight.status = status;
    awaited_[stream].pop_front();
    if (--flight.parts_left == 0) changed_.notify_all();
    return {};
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Flight*, remote::kWindow> sending_{};  // by id modulo kWindow
  std::vector<std::deque<Flight*>> awaited_;        // by stream, in the order of their answers
  bool ended_ = false;
  remote::Streams streams_;  // last: its threads use the rest
};

RemoteDevice::RemoteDevice(Connect connect, const RemoteDeviceOptions& options)
    : connect_(std::move(connect)), options_(options) {}
RemoteDevice::~RemoteDevice() = default;

Status RemoteDevice::load(std::shared_ptr<const model::Plan> plan, std::size_t max_batch) {
  auto layers = JobLayers::make(plan.get(), max_batch);
  if (!layers) return layers.error();
  if (options_.streams == 0 || options_.streams > remote::kMostStreams) {
    return Error{Errc::kInvalidArgument, "a remote worker is served by 1 to 16 streams"};
  }
  const std::vector<std::byte> bytes = model::encode_plan(*plan);
  const auto digest = model::plan_digest(bytes);
  if (!digest) return digest.error();
  if (getrandom(client_.data(), client_.size(), 0) != static_cast<ssize_t>(client_.size())) {
    return Error{Errc::kUnavailable, "the kernel gives no random bytes"};
  }
  link_.reset();
  flights_.clear();
  layers_ = std::move(*layers);
  plan_ = std::move(plan);
  plan_bytes_ = bytes.size();
  digest_ = *digest;
  max_batch_ = max_batch;
  for (const auto begin = Clock::now();;) {
    const Status opened = open(Clock::now() + options_.greeting + options_.loading);
    if (opened.ok() || !busy_ || Clock::now() - begin >= options_.busy) return opened;
    std::this_thread::sleep_for(kFirstPause);
  }
}

Status RemoteDevice::run(const Job& job) {
  SLALOM_TRY(start(job));
  return finish();
}

Status RemoteDevice::start(const Job& job) {
  if (flights_.size() == depth()) {
    return Error{Errc::kInternal, "a device was given more jobs than it can hold"};
  }
  Flight& flight = flights_.emplace_back();
  flight.job = job;
  flight.status = layers_.check(job);
  flight.refused = !flight.status.ok();
  if (flight.refused) return {};
  if (!link_) {
    flight.status = Error{Errc::kUnavailable, "the remote worker cannot be reached any more"};
    flight.refused = true;
    return {};
  }
  post_waiting();
  return {};
}

// post_waiting sends jobs, oldest first, as far as the window goes.
void RemoteDevice::post_waiting() {
  std::size_t under_way = 0;
  for (Flight& flight : flights_) {
    if (flight.refused) continue;
    if (++under_way > remote::kWindow) return;
    if (flight.posted) continue;
    flight.posted = true;
    flight.id = next_id_++;
    link_->post(flight);
  }
}

bool RemoteDevice::ready() {
  if (flights_.empty()) return false;
  const Flight& front = flights_.front();
  if (front.refused || link_->settled(front, kMoment)) return true;
  if (!link_->why()) return false;
  recover();
  return front.refused;
}

Status RemoteDevice::finish() {
  if (flights_.empty()) return Error{Errc::kInternal, "a device has no job to finish"};
  Flight& front = flights_.front();
  while (!front.refused && !link_->settled(front, std::nullopt)) recover();
  const Status status = front.status;
  if (!front.refused) cuts_ = 0;
  flights_.pop_front();
  if (link_) post_waiting();
  return status;
}

void RemoteDevice::abandon() {
  if (flights_.empty() || !link_) return;
  abandoned_ = true;
  link_->end({Errc::kUnavailable, "nobody waits for the answers"});
}

void RemoteDevice::attach(std::span<std::byte> /*memory*/) {
  abandoned_ = false;
  cuts_ = 0;
  if (plan_ == nullptr || (link_ && !link_->why())) return;
  link_.reset();
  static_cast<void>(open_within(options_.again));  // else each job says so
}

// recover is called with a link that has ended and jobs under way: it sends them again, or gives
// all of them an outcome.
void RemoteDevice::recover() {
  const Error why = *link_->why();
  link_.reset();  // from here on no other thread knows the flights
  const bool again = can_send_again(why);
  ++cuts_;
  const Status opened = again ? open_within(options_.again) : Status(why);
  for (Flight& flight : flights_) {
    if (flight.refused) continue;
    flight.posted = false;
    if (opened.ok()) continue;
    flight.status = Error{Errc::kUnavailable, opened.error().message};
    flight.refused = true;
  }
  if (opened.ok()) post_waiting();
}

bool RemoteDevice::can_send_again(Error why) const {
  if (abandoned_ || why.code != Errc::kUnavailable || cuts_ >= options_.cuts) return false;
  // An input of which an answer was given away is not sent again.
  for (std::size_t i = 0; i < flights_.size(); ++i) {
    const Job& job = flights_[i].job;
    if (flights_[i].refused || job.kind != InputKind::kRetained) continue;
    const auto tensor = layers_.find(job.layer)->tensor;
    const bool brought = std::any_of(
        flights_.begin(), flights_.begin() + static_cast<std::ptrdiff_t>(i), [&](const Flight& f) {
          return !f.refused && f.job.kind != InputKind::kRetained && f.job.attempt == job.attempt &&
                 layers_.find(f.job.layer)->tensor == tensor;
        });
    if (!brought) return false;
  }
  return true;
}

Status RemoteDevice::open_within(milliseconds time) {
  const auto end = Clock::now() + time;
  for (milliseconds pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    const Status opened = open(end);
    if (opened.ok() || opened.error().code != Errc::kUnavailable || Clock::now() + pause >= end) {
      return opened;
    }
    std::this_thread::sleep_for(pause);
  }
}

Status RemoteDevice::open(Clock::time_point end) {
  busy_ = false;
  const auto connect = [&] {
    return connect_(std::clamp(until(end), milliseconds{1}, kConnectTime));
  };
  auto first = connect();
  if (!first) return first.error();
  remote::Token session{};
  SLALOM_TRY(shake_hands(first->get(), end, session));
  std::vector<outside::Descriptor> sockets;
  sockets.push_back(std::move(*first));
  while (sockets.size() < options_.streams) {
    auto next = connect();
    if (!next) return next.error();
    const remote::Hello join{.purpose = remote::Purpose::kJoin,
                             .token = session,
                             .stream = static_cast<std::uint32_t>(sockets.size())};
    SLALOM_TRY(remote::send_all(next->get(), remote::encode(join)));
    sockets.push_back(std::move(*next));
  }
  for (const auto& socket : sockets) remote::limit(socket.get(), milliseconds{0});
  next_id_ = 0;
  link_ = std::make_unique<Link>(std::move(sockets));
  return {};
}

Status RemoteDevice::shake_hands(int socket, Clock::time_point end, remote::Token& session) {
  const auto limit = [&](milliseconds most) {
    remote::limit(socket, std::clamp(until(end), milliseconds{1}, most));
  };
  const auto receive = [&]() -> Result<remote::Welcome> {
    std::array<std::byte, remote::kWelcomeBytes> bytes{};
    SLALOM_TRY(remote::receive_all(socket, bytes));
    const auto welcome = remote::decode<remote::Welcome>(bytes);
    if (!welcome) return Error{Errc::kMalformed, "no remote worker of Slalom listens there"};
    return *welcome;
  };
  limit(options_.greeting);
  const remote::Hello hello{.token = client_,
                            .streams = static_cast<std::uint32_t>(options_.streams),
                            .max_batch = static_cast<std::uint32_t>(max_batch_),
                            .plan_bytes = plan_bytes_,
                            .digest = digest_};
  SLALOM_TRY(remote::send_all(socket, remote::encode(hello)));
  auto welcome = receive();
  if (welcome.ok() && (welcome->reply == Reply::kSendPlan || welcome->reply == Reply::kLoading)) {
    if (welcome->reply == Reply::kSendPlan) {
      SLALOM_TRY(remote::send_all(socket, model::encode_plan(*plan_)));
    }
    limit(options_.loading);
    welcome = receive();
  }
  if (!welcome) return welcome.error();
  busy_ = welcome->reply == Reply::kBusy;
  if (welcome->reply != Reply::kReady) return refusal(welcome->reply);
  session = welcome->session;
  return {};
}

Result<std::unique_ptr<Device>> make_remote_device(std::string_view address,
                                                   const RemoteDeviceOptions& options) {
  const auto parsed = remote::parse_address(address);
  if (!parsed) {
    return Error{Errc::kInvalidArgument, "a remote worker has an address HOST:PORT or [IPV6]:PORT"};
  }
  std::unique_ptr<Device> out = std::make_unique<RemoteDevice>(
      [at = *parsed](milliseconds time) { return remote::connect_to(at, time); }, options);
  return out;
}

}  // namespace slalom::device
