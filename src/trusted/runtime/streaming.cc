// SPDX-License-Identifier: Apache-2.0
#include "runtime/streaming.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace slalom::runtime {
namespace {

constexpr std::chrono::nanoseconds kTurn = std::chrono::microseconds(100);

constexpr Error kNoDevice{Errc::kUnavailable, "no device is left to compute on"};

}  // namespace

StreamingExecutor::StreamingExecutor(const Parts& parts)
    : parts_(parts), pool_(parts.options.threads) {}

StreamingExecutor::~StreamingExecutor() {
  for (Lane& lane : lanes_) destroy_tickets(lane);
}

// ---- images in and out ----

void StreamingExecutor::fill_lanes(Source& source) {
  for (Lane& lane : lanes_) {
    if (exhausted_) return;
    if (lane.state != Lane::State::kFree) continue;
    lane.images = 0;
    lane.first_image = next_image_;
    while (lane.images < parts_.options.micro_batch && next_image(source, lane)) ++lane.images;
    if (lane.images == 0) return;
    next_image_ += lane.images;
    begin_attempt(lane);
  }
}

bool StreamingExecutor::next_image(Source& source, Lane& lane) {
  const model::Plan& plan = parts_.plan;
  if (plan.inputs.size() == 1) {
    auto* codes = reinterpret_cast<std::uint8_t*>(pass_->tensor(lane, plan.inputs[0], lane.images));
    exhausted_ = !source.next({codes, plan.tensors[plan.inputs[0]].shape.elements()});
    return !exhausted_;
  }
  exhausted_ = !source.next(staging_);
  if (exhausted_) return false;
  const std::uint8_t* from = staging_.data();
  for (const model::TensorId id : plan.inputs) {
    const std::size_t n = plan.tensors[id].shape.elements();
    std::memcpy(pass_->tensor(lane, id, lane.images), from, n);
    from += n;
  }
  return true;
}

void StreamingExecutor::deliver_ready(Sink& sink) {
  for (bool found = true; found;) {
    found = false;
    for (Lane& lane : lanes_) {
      if (lane.state == Lane::State::kFree || lane.state == Lane::State::kRunning) continue;
      if (lane.reported || lane.first_image != next_output_) continue;
      if (lane.state == Lane::State::kFinished) {
        deliver(lane, sink);
      } else {
        for (std::size_t b = 0; b < lane.images; ++b) {
          sink.fail(lane.first_image + b, lane.error);
        }
      }
      next_output_ += lane.images;
      lane.reported = true;
      settle(lane);
      found = true;
    }
  }
}

void StreamingExecutor::deliver(const Lane& lane, Sink& sink) {
  for (std::size_t b = 0; b < lane.images; ++b) {
    for (std::size_t i = 0; i < views_.size(); ++i) {
      const model::TensorId id = parts_.plan.outputs[i].tensor;
      const model::TensorInfo& info = parts_.plan.tensors[id];
      const std::size_t n = info.shape.elements();
      const std::byte* data = pass_->tensor(lane, id, b);
      views_[i] = {.tensor = id, .codes = {}, .integers = {}};
      if (info.dtype == model::Dtype::kU8) {
        views_[i].codes = {reinterpret_cast<const std::uint8_t*>(data), n};
      } else {
        views_[i].integers = {reinterpret_cast<const std::int32_t*>(data), n};
      }
    }
    sink.deliver(lane.first_image + b, views_);
    ++stats_.images;
  }
}

// ---- lanes ----

void StreamingExecutor::begin_attempt(Lane& lane) {
  lane.state = Lane::State::kRunning;
  lane.reported = false;
  lane.attempt = next_attempt_++;
  lane.step = 0;
  lane.verdict = field::Verdict{};
  std::fill(lane.answers.begin(), lane.answers.end(), Lane::Answer{});
  if (program_.links.empty()) return;
  const auto port = choose_port();
  if (!port) {
    fail(lane, kNoDevice);
    return;
  }
  lane.port = *port;
  if (checks_->input_side_first() && checks_->set() == nullptr) {
    if (const Status renewed = checks_->renew(); !renewed.ok()) {
      fail(lane, renewed.error());
      return;
    }
  }
  lane.set = checks_->set();
  if (const Status taken = take_tickets(lane); !taken.ok()) fail(lane, taken.error());
}

std::optional<std::size_t> StreamingExecutor::choose_port() const noexcept {
  std::optional<std::size_t> best;
  std::size_t least = 0;
  for (std::size_t d = 0; d < devices_.size(); ++d) {
    if (!devices_[d].live) continue;
    std::size_t busy = 0;
    for (const Lane& lane : lanes_) {
      if (lane.state == Lane::State::kRunning && lane.port == d) ++busy;
    }
    if (!best || busy < least) {
      best = d;
      least = busy;
    }
  }
  return best;
}

Status StreamingExecutor::take_tickets(Lane& lane) {
  if (parts_.pads == nullptr) return {};
  for (std::size_t b = 0; b < lane.images; ++b) {
    auto ticket = parts_.pads->take();
    if (!ticket) return ticket.error();
    ++stats_.pads_used;
    if (!ticket->stocked) ++stats_.pads_inline;
    lane.tickets.push_back(*ticket);
  }
  return {};
}

void StreamingExecutor::destroy_tickets(Lane& lane) noexcept {
  for (const vault::PadTicket& ticket : lane.tickets) parts_.pads->destroy(ticket);
  lane.tickets.clear();
}

bool StreamingExecutor::advance(Lane& lane) {
  bool moved = false;
  while (lane.state == Lane::State::kRunning) {
    if (lane.step == program_.steps.size()) {
      finish(lane);
      return true;
    }
    const Step& step = program_.steps[lane.step];
    if (step.kind == StepKind::kRemoteLinear && lane.waits(step.link)) return moved;
    if (const Status done = pass_->run(lane); !done.ok()) {
      fail(lane, done.error());
      return true;
    }
    for (const Part& part : step.sends) {
      if (!submit(lane, program_.uploads[part.index])) return true;
    }
    ++lane.step;
    moved = true;
  }
  return moved;
}

// submit asks for every layer that reads one uploaded tensor. The first request carries it, the
// others name it. Returns false if the port was lost: the lane is then somewhere else.
bool StreamingExecutor::submit(Lane& lane, const Upload& upload) {
  const std::size_t d = lane.port;
  const channel::Slot& slot = lane.slots[d];
  const bool blinded = parts_.pads != nullptr;
  for (std::size_t i = 0; i < upload.links.size(); ++i) {
    const Link& link = program_.links[upload.links[i]];
    const bool first = i == 0;
    channel::Request request{};
    request.attempt = lane.attempt;
    request.input_offset = slot.offset + upload.slot_offset;
    request.output_offset = slot.offset + link.slot_offset;
    request.input_bytes = first ? static_cast<std::uint32_t>(lane.images * upload.image_bytes) : 0;
    request.output_bytes = static_cast<std::uint32_t>(lane.images * link.image_bytes);
    request.layer = link.node;
    request.batch = static_cast<std::uint32_t>(lane.images);
    request.kind = !first    ? channel::InputKind::kRetained
                   : blinded ? channel::InputKind::kWords
                             : channel::InputKind::kCodes;
    request.field = link.field;
    request.pad_code = static_cast<std::uint8_t>(parts_.plan.tensors[upload.tensor].zero_point);
    const auto sequence = devices_[d].port->submit(request);
    if (!sequence) {
      breach(d, sequence.error());
      return false;
    }
    lane.answers[upload.links[i]] = {*sequence, false};
    if (devices_[d].owed++ == 0) devices_[d].waiting_since = Clock::now();
  }
  return true;
}

// finish takes the one verdict of the lane's images. Nothing but this releases an output.
void StreamingExecutor::finish(Lane& lane) {
  if (!program_.links.empty()) {
    SLALOM_ASSERT(lane.verdict.checks() == checks_->expected(lane.images));
    // NOLINTNEXTLINE(performance-move-const-arg): a verdict is taken once, and this says so
    const bool right = std::move(lane.verdict).take_verdict();
    if (parts_.options.integrity != model::Integrity::kOff) {
      stats_.checks_performed += program_.links.size() * lane.images;
    }
    if (!right) {
      const Error wrong{Errc::kRejected, "a device gave a wrong answer"};
      stats_.checks_failed += lane.images;
      fail(lane, wrong);
      checks_->retire();
      lose(lane.port, wrong);
      return;
    }
  }
  destroy_tickets(lane);
  lane.set.reset();
  lane.state = Lane::State::kFinished;
}

void StreamingExecutor::fail(Lane& lane, Error error) noexcept {
  lane.error = error;
  lane.state = Lane::State::kDraining;
  destroy_tickets(lane);
  lane.set.reset();
  settle(lane);
}

// settle moves a lane on that has nothing to wait for: its slot is idle and its images are
// reported.
void StreamingExecutor::settle(Lane& lane) noexcept {
  if (lane.state == Lane::State::kDraining && !lane.owed()) lane.state = Lane::State::kFailed;
  if (lane.state != Lane::State::kDraining && lane.reported) lane.state = Lane::State::kFree;
}

void StreamingExecutor::fail_running(Error error) noexcept {
  for (Lane& lane : lanes_) {
    if (lane.state == Lane::State::kRunning) fail(lane, error);
  }
}

// ---- devices ----

bool StreamingExecutor::usable() const noexcept {
  return program_.links.empty() ||
         std::any_of(devices_.begin(), devices_.end(), [](const Device& d) { return d.live; });
}

// collect takes the answers that one port has. Returns whether there were any.
bool StreamingExecutor::collect(std::size_t d) {
  bool any = false;
  while (devices_[d].live && devices_[d].owed != 0) {
    const auto answer = devices_[d].port->poll();
    if (!answer) {
      breach(d, answer.error());
      return true;
    }
    if (!answer->has_value()) return any;
    take_answer(d, **answer);
    any = true;
  }
  return any;
}

void StreamingExecutor::take_answer(std::size_t d, const channel::Completion& completion) {
  Device& device = devices_[d];
  device.waiting_since = Clock::now();
  --device.owed;
  device_ns_ += completion.device_ns;
  if (!completion.done) {
    lose(d, {Errc::kUnavailable, "a device could not compute a layer"});
    return;
  }
  for (Lane& lane : lanes_) {
    if (lane.port != d) continue;
    for (Lane::Answer& answer : lane.answers) {
      if (answer.sequence != completion.sequence || answer.arrived) continue;
      answer.arrived = true;
      settle(lane);
      return;
    }
  }
}

// breach loses a port that closed itself. What a device sent against the protocol is a rejection,
// which is charged to the attempt whose answer was next.
void StreamingExecutor::breach(std::size_t d, Error error) {
  if (error.code == Errc::kRejected) {
    Lane* oldest = nullptr;
    std::uint64_t least = ~std::uint64_t{0};
    for (Lane& lane : lanes_) {
      if (lane.port != d || lane.state != Lane::State::kRunning) continue;
      for (const Lane::Answer& answer : lane.answers) {
        if (answer.sequence == 0 || answer.arrived || answer.sequence > least) continue;
        least = answer.sequence;
        oldest = &lane;
      }
    }
    checks_->retire();
    if (oldest != nullptr) {
      stats_.checks_failed += oldest->images;
      fail(*oldest, error);
    }
  }
  lose(d, error);
}

// lose drops a port for good. What was in flight on it starts again elsewhere, from the inputs.
void StreamingExecutor::lose(std::size_t d, Error error) {
  Device& device = devices_[d];
  if (!device.live) return;
  device.live = false;
  device.lost = error;
  device.owed = 0;
  for (Lane& lane : lanes_) {
    if (lane.port != d) continue;
    for (Lane::Answer& answer : lane.answers) answer.arrived = answer.sequence != 0;
    if (lane.state == Lane::State::kRunning) {
      destroy_tickets(lane);
      begin_attempt(lane);
    } else {
      settle(lane);
    }
  }
}

bool StreamingExecutor::collect_all() {
  bool any = false;
  for (std::size_t d = 0; d < devices_.size(); ++d) any = collect(d) || any;
  return any;
}

// wait_for_answer sleeps until a device answers, or its time is up.
void StreamingExecutor::wait_for_answer() {
  const auto start = Clock::now();
  const auto asked = static_cast<std::size_t>(std::count_if(
      devices_.begin(), devices_.end(), [](const Device& d) { return d.live && d.owed != 0; }));
  for (std::size_t d = 0; d < devices_.size(); ++d) {
    Device& device = devices_[d];
    if (!device.live || device.owed == 0) continue;
    std::chrono::nanoseconds time = device.waiting_since + parts_.options.timeout - Clock::now();
    time = std::max(time, std::chrono::nanoseconds{0});
    if (asked > 1) time = std::min(time, kTurn);
    const auto answer = device.port->wait(time);
    if (!answer) {
      breach(d, answer.error());
      break;
    }
    if (answer->has_value()) {
      take_answer(d, **answer);
      break;
    }
  }
  waited_ += Clock::now() - start;
}

// watch_clock loses devices that have been silent for too long with an answer due.
void StreamingExecutor::watch_clock() {
  for (std::size_t d = 0; d < devices_.size(); ++d) {
    const Device& device = devices_[d];
    if (!device.live || device.owed == 0) continue;
    if (Clock::now() - device.waiting_since < parts_.options.timeout) continue;
    // The answer may have come while this thread was computing.
    if (collect(d)) continue;
    lose(d, {Errc::kUnavailable, "a device did not answer in time"});
  }
}

// ---- the run ----

Status StreamingExecutor::run(Source& source, Sink& sink) {
  const FloatEnvironment environment;
  const auto start = Clock::now();
  exhausted_ = false;
  next_image_ = next_output_ = 0;
  const Status done = stream(source, sink);
  wall_ += Clock::now() - start;
  return done;
}

Status StreamingExecutor::stream(Source& source, Sink& sink) {
  for (;;) {
    if (!usable()) {
      fail_running(kNoDevice);
      deliver_ready(sink);
      return why_no_device();
    }
    fill_lanes(source);
    bool moved = collect_all();
    for (Lane& lane : lanes_) moved = advance(lane) || moved;
    deliver_ready(sink);
    if (exhausted_ && next_output_ == next_image_ && usable()) return {};
    if (!moved) wait_for_answer();
    watch_clock();
  }
}

Error StreamingExecutor::why_no_device() const noexcept {
  for (const Device& device : devices_) {
    if (device.lost.code == Errc::kRejected) return device.lost;
  }
  return devices_.back().lost;
}

Stats StreamingExecutor::stats() const noexcept {
  const auto seconds = [](std::chrono::nanoseconds t) {
    return std::chrono::duration<double>(t).count();
  };
  Stats stats = stats_;
  stats.layers_checked = parts_.options.integrity == model::Integrity::kOff
                             ? 0
                             : static_cast<std::uint32_t>(program_.links.size());
  stats.soundness_bits = checks_->bits();
  stats.wall_s = seconds(wall_);
  stats.wait_s = seconds(waited_);
  stats.trusted_s = stats.wall_s - stats.wait_s;
  stats.device_s = static_cast<double>(device_ns_) * 1e-9;
  stats.pad_s = pass_->pad_seconds();
  for (const Device& device : devices_) {
    stats.bytes_out += device.port->bytes_out();
    stats.bytes_in += device.port->bytes_in();
  }
  return stats;
}

}  // namespace slalom::runtime
