// SPDX-License-Identifier: Apache-2.0
#include "runtime/streaming.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "base/arena.h"
#include "base/assert.h"
#include "runtime/checks.h"
#include "runtime/lane.h"
#include "runtime/ops/rounding.h"
#include "runtime/pass.h"
#include "runtime/setup.h"

namespace slalom::runtime {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

constexpr nanoseconds kTurn = std::chrono::microseconds(100);
constexpr Error kNoDevice{Errc::kUnavailable, "no device is left to compute on"};
double seconds(nanoseconds time) { return std::chrono::duration<double>(time).count(); }
std::uint64_t count(nanoseconds time) { return static_cast<std::uint64_t>(time.count()); }

struct Device {
  channel::Port* port = nullptr;
  std::optional<Error> lost;        // why it is used no more
  std::size_t owed = 0;             // requests without an answer
  Clock::time_point waiting_since;  // of the request that is next to be answered
  [[nodiscard]] bool waits() const noexcept { return !lost && owed != 0; }
};

class StreamingExecutor final : public Executor {
 public:
  StreamingExecutor(const model::Plan& plan, const Placement& placement, const Options& options,
                    vault::Pads* pads)
      : setup_(plan, placement, options, pads) {}
  ~StreamingExecutor() override {
    for (Lane& lane : lanes_) destroy_tickets(lane);
  }

  // prepare sets up everything once: after this, no inference allocates.
  Status prepare(std::span<channel::Port* const> ports, field::Random* random) {
    const std::size_t tries = std::max<std::size_t>(1, ports.size()) * setup_.options.in_flight;
    auto checks = Checks::create(setup_, tries, random);
    if (!checks) return checks.error();
    checks_ = std::move(*checks);
    auto pass = Pass::create(setup_, *checks_);
    if (!pass) return pass.error();
    pass_ = std::move(*pass);
    // Attempts of an earlier executor on the same devices must not be taken for this one's.
    next_attempt_ = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
    if (setup_.options.integrity != model::Integrity::kOff) {
      stats_.layers_checked = static_cast<std::uint32_t>(program_.links.size());
    }
    stats_.soundness_bits = checks_->bits();
    for (const Step& step : program_.steps) {
      const bool inputs = step.kind == StepKind::kInput;
      StepTime time{.node = inputs ? StepTime::kInputs : step.head.index};
      for (const Part& part : step.sends) time.sent += part.total;
      stats_.steps.push_back(time);
    }
    SLALOM_TRY(prepare_lanes());
    return prepare_slots(ports);
  }

  [[nodiscard]] Status run(Source& source, Sink& sink) override {
    const FloatEnvironment environment;
    const base::ThreadPool::Bound bound(setup_.pool);
    const auto start = Clock::now();
    exhausted_ = false;
    next_image_ = next_output_ = 0;
    const Status done = stream(source, sink);
    stats_.wall_s += seconds(Clock::now() - start);
    return done;
  }

  [[nodiscard]] Stats stats() const noexcept override {
    Stats stats = stats_;
    stats.trusted_s = stats.wall_s - stats.wait_s;
    stats.pad_s = pass_->pad_seconds();
    for (const Device& device : devices_) {
      stats.bytes_out += device.port->bytes_out();
      stats.bytes_in += device.port->bytes_in();
    }
    return stats;
  }

 private:
  Status prepare_lanes() {
    auto memory = make_lanes(setup_, lanes_, staging_);
    if (!memory) return memory.error();
    memory_ = std::move(*memory);
    views_.resize(setup_.plan.outputs.size());
    return {};
  }

  Status prepare_slots(std::span<channel::Port* const> ports) {
    const std::size_t most = std::numeric_limits<std::uint32_t>::max() / setup_.options.micro_batch;
    for (const Link& link : program_.links) {
      if (std::max(link.image_bytes, program_.uploads[link.upload].image_bytes) > most) {
        return Error{Errc::kInvalidArgument, "a micro-batch is too large for one request"};
      }
    }
    if (program_.links.empty()) return {};
    for (channel::Port* port : ports) {
      for (Lane& lane : lanes_) {
        auto slot = port->allocate(program_.slot_bytes);
        if (!slot) return slot.error();
        lane.slots.push_back(*slot);
      }
      devices_.push_back({port, {}, 0, {}});
    }
    return {};
  }

  Status stream(Source& source, Sink& sink) {
    for (;;) {
      if (!usable()) {
        for (Lane& lane : lanes_) {
          if (lane.state == Lane::State::kWaiting) end(lane, kNoDevice);
        }
        deliver_ready(sink);
        return why_no_device();
      }
      fill_lanes(source);
      bool moved = false;
      for (Device& device : devices_) moved = collect(device) || moved;
      for (Lane& lane : lanes_) moved = advance(lane) || moved;
      deliver_ready(sink);
      if (exhausted_ && next_output_ == next_image_ && usable()) return {};
      if (!moved) wait_for_answer();
      watch_clock();
    }
  }

  // ---- images in and out ----

  // ready is how many of `images` have pads. Images that hold none are waited for (`wanted` of
  // them) only where no others run: these hold some, and the store may have no room for more.
  [[nodiscard]] std::size_t ready(std::size_t images, std::size_t wanted) const {
    if (setup_.pads == nullptr) return images;
    return std::max(setup_.pads->ready(images),
                    std::ranges::any_of(lanes_, &Lane::running) ? 0 : wanted);
  }

  // fill_lanes begins again what lost its device, then reads further images.
  void fill_lanes(Source& source) {
    for (Lane& lane : lanes_) {
      if (lane.state != Lane::State::kWaiting) continue;
      if (ready(lane.images, lane.images) < lane.images) return;
      begin_attempt(lane);
    }
    for (Lane& lane : lanes_) {
      if (lane.state != Lane::State::kFree) continue;
      const std::size_t most = exhausted_ ? 0 : ready(setup_.options.micro_batch, 1);
      lane.images = 0;
      lane.first_image = next_image_;
      while (lane.images < most && next_image(source, lane)) ++lane.images;
      if (lane.images == 0) return;
      next_image_ += lane.images;
      begin_attempt(lane);
    }
  }

  bool next_image(Source& source, const Lane& lane) {
    const bool direct = setup_.plan.inputs.size() == 1;
    auto* const only = setup_.tensor(lane.arena, setup_.plan.inputs.front(), lane.images);
    exhausted_ = !source.next(
        direct ? std::span(reinterpret_cast<std::uint8_t*>(only), staging_.size()) : staging_);
    if (exhausted_ || direct) return !exhausted_;
    const std::uint8_t* from = staging_.data();
    for (const model::TensorId id : setup_.plan.inputs) {
      const std::size_t n = setup_.plan.tensors[id].shape.elements();
      std::memcpy(setup_.tensor(lane.arena, id, lane.images), from, n);
      from += n;
    }
    return true;
  }

  void deliver_ready(Sink& sink) {
    for (bool found = true; found;) {
      found = false;
      for (Lane& lane : lanes_) {
        if (lane.state != Lane::State::kEnded || lane.reported) continue;
        if (lane.first_image != next_output_) continue;
        for (std::size_t b = 0; b < lane.images; ++b) {
          if (lane.outcome.ok()) {
            deliver(lane, b, sink);
          } else {
            sink.fail(lane.first_image + b, lane.outcome.error());
          }
        }
        next_output_ += lane.images;
        lane.reported = true;
        settle(lane);
        found = true;
      }
    }
  }

  void deliver(const Lane& lane, std::size_t image, Sink& sink) {
    for (std::size_t i = 0; i < views_.size(); ++i) {
      const model::TensorId id = setup_.plan.outputs[i].tensor;
      const model::TensorInfo& info = setup_.plan.tensors[id];
      const std::size_t n = info.shape.elements();
      const std::byte* data = setup_.tensor(lane.arena, id, image);
      views_[i] = {.tensor = id, .codes = {}, .integers = {}};
      if (info.dtype == model::Dtype::kU8) {
        views_[i].codes = {reinterpret_cast<const std::uint8_t*>(data), n};
      } else {
        views_[i].integers = {reinterpret_cast<const std::int32_t*>(data), n};
      }
    }
    sink.deliver(lane.first_image + image, views_);
    ++stats_.images;
  }

  // ---- lanes ----

  void begin_attempt(Lane& lane) {
    lane.state = Lane::State::kRunning;
    lane.reported = false;
    lane.attempt = next_attempt_++;
    lane.step = 0;
    lane.verdict = field::Verdict{};
    std::ranges::fill(lane.awaited, 0);
    if (program_.links.empty()) return;
    Status ready = choose_port(lane);
    if (ready.ok()) ready = checks_->renew();
    lane.set = checks_->set();
    if (ready.ok()) ready = take_tickets(lane);
    if (!ready.ok()) end(lane, ready);
  }

  // choose_port takes the live port with the fewest lanes at work.
  Status choose_port(Lane& lane) const {
    std::size_t least = std::numeric_limits<std::size_t>::max();
    for (std::size_t d = 0; d < devices_.size(); ++d) {
      if (devices_[d].lost) continue;
      const auto busy = static_cast<std::size_t>(std::ranges::count_if(
          lanes_, [&](const Lane& l) { return &l != &lane && l.running() && l.port == d; }));
      if (busy >= least) continue;
      least = busy;
      lane.port = d;
    }
    return least == std::numeric_limits<std::size_t>::max() ? Status(kNoDevice) : Status();
  }

  Status take_tickets(Lane& lane) {
    for (std::size_t b = 0; setup_.pads != nullptr && b < lane.images; ++b) {
      auto ticket = setup_.pads->take();
      if (!ticket) return ticket.error();
      ++stats_.pads_used;
      if (!ticket->stocked) ++stats_.pads_inline;
      lane.tickets.push_back(*ticket);
    }
    return {};
  }

  void destroy_tickets(Lane& lane) noexcept {
    for (const vault::PadTicket& ticket : lane.tickets) setup_.pads->destroy(ticket);
    lane.tickets.clear();
  }

  bool advance(Lane& lane) {
    bool moved = false;
    while (lane.running()) {
      if (lane.step == program_.steps.size()) {
        finish(lane);
        return true;
      }
      const Step& step = program_.steps[lane.step];
      if (step.kind == StepKind::kRemoteLinear && lane.awaited[step.link] != 0) return moved;
      const auto start = Clock::now();
      const Status done = pass_->run(lane);
      stats_.steps[lane.step].trusted_ns += count(Clock::now() - start);
      if (!done.ok()) {
        end(lane, done);
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
  bool submit(Lane& lane, const Upload& upload) {
    Device& device = devices_[lane.port];
    const channel::Slot& slot = lane.slots[lane.port];
    channel::Request request{};
    request.attempt = lane.attempt;
    request.input_offset = slot.offset + upload.slot_offset;
    request.input_bytes = static_cast<std::uint32_t>(lane.images * upload.image_bytes);
    request.batch = static_cast<std::uint32_t>(lane.images);
    request.kind = setup_.pads != nullptr ? channel::InputKind::kWords : channel::InputKind::kCodes;
    request.pad_code = static_cast<std::uint8_t>(setup_.plan.tensors[upload.tensor].zero_point);
    for (const std::uint32_t index : upload.links) {
      const Link& link = program_.links[index];
      request.output_offset = slot.offset + link.slot_offset;
      request.output_bytes = static_cast<std::uint32_t>(lane.images * link.image_bytes);
      request.layer = link.node;
      request.field = link.field;
      const auto sequence = device.port->submit(request);
      if (!sequence) {
        breach(device, sequence.error());
        return false;
      }
      lane.awaited[index] = *sequence;
      if (device.owed++ == 0) device.waiting_since = Clock::now();
      request.kind = channel::InputKind::kRetained;
      request.input_bytes = 0;
    }
    return true;
  }

  // finish takes the one verdict of the lane's images. Nothing but this releases an output.
  void finish(Lane& lane) {
    if (program_.links.empty()) return end(lane, {});
    SLALOM_ASSERT(lane.verdict.checks() == checks_->expected(lane.images));
    // NOLINTNEXTLINE(performance-move-const-arg): a verdict is taken once, and this says so
    const bool right = std::move(lane.verdict).take_verdict();
    stats_.checks_performed += stats_.layers_checked * lane.images;
    if (right) return end(lane, {});
    reject(lane, {Errc::kRejected, "a device gave a wrong answer"});
    lose(devices_[lane.port], lane.outcome.error());
  }

  // reject ends a lane because of what its device answered. The challenges serve no new attempt.
  void reject(Lane& lane, Error error) {
    checks_->retire();
    stats_.checks_failed += lane.images;
    end(lane, error);
  }

  // end stops work on a lane: released, if the outcome is good, or failed.
  void end(Lane& lane, Status outcome) noexcept {
    lane.state = Lane::State::kEnded;
    lane.outcome = outcome;
    destroy_tickets(lane);
    lane.set.reset();
    settle(lane);
  }

  // settle frees a lane that has nothing to wait for.
  static void settle(Lane& lane) noexcept {
    if (lane.state == Lane::State::kEnded && lane.reported && !lane.owed()) {
      lane.state = Lane::State::kFree;
    }
  }

  // ---- devices ----

  [[nodiscard]] bool on(const Lane& lane, const Device& device) const noexcept {
    return lane.state != Lane::State::kFree && &devices_[lane.port] == &device;
  }

  // usable says that work can go on: there is a device, or none is needed.
  [[nodiscard]] bool usable() const noexcept {
    return program_.links.empty() ||
           std::ranges::any_of(devices_, [](const Device& d) { return !d.lost; });
  }

  // collect takes the answers that one port has, after waiting for the first up to `time`. Returns
  // whether there were any.
  bool collect(Device& device, nanoseconds time = {}) {
    bool any = false;
    while (device.waits()) {
      const auto answer =
          any || time <= nanoseconds{} ? device.port->poll() : device.port->wait(time);
      if (!answer) {
        breach(device, answer.error());
        return true;
      }
      if (!answer->has_value()) return any;
      take_answer(device, **answer);
      any = true;
    }
    return any;
  }

  void take_answer(Device& device, const channel::Completion& completion) {
    device.waiting_since = Clock::now();
    --device.owed;
    stats_.device_s += static_cast<double>(completion.device_ns) * 1e-9;
    if (!completion.done) {
      return lose(device, {Errc::kUnavailable, "a device could not compute a layer"});
    }
    for (Lane& lane : lanes_) {
      if (!on(lane, device)) continue;
      const auto found = std::ranges::find(lane.awaited, completion.sequence);
      if (found == lane.awaited.end()) continue;
      *found = 0;
      const auto link = static_cast<std::size_t>(found - lane.awaited.begin());
      stats_.steps[program_.links[link].step].device_ns += completion.device_ns;
      settle(lane);
    }
  }

  // breach loses a port that closed itself. What a device sent against the protocol is a rejection,
  // which is charged to the attempt whose answer was next.
  void breach(Device& device, Error error) {
    if (error.code == Errc::kRejected) {
      Lane* oldest = nullptr;
      std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
      for (Lane& lane : lanes_) {
        if (!on(lane, device) || !lane.running()) continue;
        for (const std::uint64_t sequence : lane.awaited) {
          if (sequence == 0 || sequence > least) continue;
          least = sequence;
          oldest = &lane;
        }
      }
      if (oldest != nullptr) reject(*oldest, error);
    }
    lose(device, error);
  }

  // lose drops a port for good. What was in flight on it starts again elsewhere, from the inputs.
  void lose(Device& device, Error error) {
    if (device.lost) return;
    device.lost = error;
    device.owed = 0;
    for (Lane& lane : lanes_) {
      if (!on(lane, device)) continue;
      std::ranges::fill(lane.awaited, 0);
      settle(lane);
      if (!lane.running()) continue;
      destroy_tickets(lane);
      lane.state = Lane::State::kWaiting;
    }
  }

  // wait_for_answer sleeps until a device answers, or its time is up.
  void wait_for_answer() {
    const auto start = Clock::now();
    const auto asked = std::ranges::count_if(devices_, &Device::waits);
    for (Device& device : devices_) {
      if (!device.waits()) continue;
      const nanoseconds left = device.waiting_since + setup_.options.timeout - Clock::now();
      if (collect(device, asked > 1 ? std::min(left, kTurn) : left)) break;
    }
    stats_.wait_s += seconds(Clock::now() - start);
  }

  // watch_clock loses devices that have been silent for too long with an answer due.
  void watch_clock() {
    for (Device& device : devices_) {
      if (!device.waits() || Clock::now() - device.waiting_since < setup_.options.timeout) continue;
      // The answer may have come while this thread was computing.
      if (collect(device)) continue;
      lose(device, {Errc::kUnavailable, "a device did not answer in time"});
    }
  }

  [[nodiscard]] Error why_no_device() const noexcept {
    for (const Device& device : devices_) {
      if (device.lost->code == Errc::kRejected) return *device.lost;
    }
    return *devices_.back().lost;
  }

  Setup setup_;
  const Program& program_ = setup_.program;
  std::unique_ptr<Checks> checks_;
  std::unique_ptr<Pass> pass_;
  base::SecretArena memory_;
  std::vector<Lane> lanes_;
  std::vector<Device> devices_;
  std::span<std::uint8_t> staging_;  // one image of several inputs, as the source gives it
  std::vector<OutputView> views_;
  std::uint64_t next_attempt_ = 0;
  std::uint64_t next_image_ = 0;   // to be read from the source of this run
  std::uint64_t next_output_ = 0;  // to be given to the sink of this run
  bool exhausted_ = false;
  Stats stats_;
};

}  // namespace

Result<std::unique_ptr<Executor>> make_streaming_executor(
    const model::Plan& plan, const Placement& placement, const Options& options,
    std::span<channel::Port* const> ports, vault::Pads* pads, field::Random* random) {
  auto executor = std::make_unique<StreamingExecutor>(plan, placement, options, pads);
  SLALOM_TRY(executor->prepare(ports, random));
  return std::unique_ptr<Executor>(std::move(executor));
}

}  // namespace slalom::runtime
