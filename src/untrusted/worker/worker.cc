// SPDX-License-Identifier: Apache-2.0
#include "worker/worker.h"

#include <algorithm>
#include <chrono>
#include <deque>

namespace slalom::worker {

std::optional<device::Job> job_of(const ShmEndpoint& endpoint,
                                  const channel::Request& request) noexcept {
  const auto input = endpoint.slot(request.input_offset, request.input_bytes);
  const auto output = endpoint.slot(request.output_offset, request.output_bytes);
  if (!input || !output) return std::nullopt;
  return device::Job{.layer = request.layer,
                     .batch = request.batch,
                     .attempt = request.attempt,
                     .kind = request.kind,
                     .field = request.field,
                     .pad_code = request.pad_code,
                     .input = *input,
                     .output = *output};
}

namespace {

constexpr std::chrono::nanoseconds kIdle = std::chrono::milliseconds(20);
constexpr std::chrono::nanoseconds kBusy{0};

// Served is the requests that were begun and not answered, oldest first.
class Served {
 public:
  Served(ShmEndpoint& endpoint, device::Device& device, Trace* trace)
      : endpoint_(endpoint), device_(device), trace_(trace) {}
  // The segment's memory goes after this: nothing may be left that writes to it.
  ~Served() {
    if (!begun_.empty()) device_.abandon();
    for (const Begun& begun : begun_) {
      if (begun.started) static_cast<void>(device_.finish());
    }
  }
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;

  [[nodiscard]] bool empty() const { return begun_.empty(); }
  [[nodiscard]] bool full() const { return begun_.size() == device_.depth(); }
  // ready says that the oldest can be answered without waiting.
  [[nodiscard]] bool ready() const {
    return !begun_.empty() && (!begun_.front().started || device_.ready());
  }

  void start(const channel::Request& request) {
    Begun begun{.request = request, .at = Clock::now()};
    const auto job = job_of(endpoint_, request);
    begun.started = job && device_.start(*job).ok();
    if (trace_ != nullptr) begun.until = Clock::now();
    begun_.push_back(begun);
  }

  void answer_oldest() {
    const Begun begun = begun_.front();
    begun_.pop_front();
    const bool done = begun.started && device_.finish().ok();
    // Jobs overlap: each is charged with the time since the one before it was done.
    const auto now = Clock::now();
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
        now - std::max(begun.at, last_answer_));
    last_answer_ = now;
    endpoint_.answer(
        {.sequence = begun.request.sequence,
         .status = done ? channel::AnswerStatus::kDone : channel::AnswerStatus::kFailed,
         .output_bytes = done ? begun.request.output_bytes : 0,
         .device_ns = static_cast<std::uint64_t>(ns.count())});
    if (trace_ == nullptr) return;
    trace_->add({.request = begun.request,
                 .received = begun.at,
                 .begun = begun.until,
                 .answered = Clock::now(),
                 .done = done,
                 .spans = done ? device_.spans() : std::vector<device::Device::Span>{}});
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Begun {
    channel::Request request;
    Clock::time_point at;     // it came
    Clock::time_point until;  // the device had begun it; only with a trace
    bool started = false;
  };
  ShmEndpoint& endpoint_;
  device::Device& device_;
  Trace* const trace_;
  std::deque<Begun> begun_;
  Clock::time_point last_answer_;
};

}  // namespace

Status serve(ShmEndpoint& endpoint, device::Device& device, const std::function<bool()>& stop,
             Trace* trace) {
  Served served(endpoint, device, trace);
  for (bool ask = true; !ask || !stop();) {
    // An idle worker sleeps; one with work on the device looks for more while it waits.
    const auto request = served.full() ? Result<std::optional<channel::Request>>(std::nullopt)
                                       : endpoint.next(served.empty() ? kIdle : kBusy);
    if (!request) {
      if (request.error().code == Errc::kUnavailable) return {};
      return request.error();
    }
    if (request->has_value()) served.start(**request);
    ask = served.empty();
    while (served.full() || served.ready()) {
      served.answer_oldest();
      ask = true;
    }
  }
  return {};
}

}  // namespace slalom::worker
