// SPDX-License-Identifier: Apache-2.0
#include "device/remote/session.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <limits>
#include <utility>

#include "base/round_up.h"

namespace slalom::device::remote {
namespace {

using channel::InputKind;

constexpr std::size_t kPage = 4096;
constexpr std::chrono::microseconds kMoment{20};
constexpr Error kBroken{Errc::kMalformed, "the client broke the protocol"};

}  // namespace

Result<Buffers> Buffers::make(const JobLayers& layers) {
  const Error too_large{Errc::kUnavailable, "no memory for micro-batches of this size"};
  Buffers out;
  // A part's size is a 32-bit number. Devices may lock all of the memory, and need some of their
  // own.
  if (std::max(layers.largest_input(), layers.largest_output()) >
      std::numeric_limits<std::uint32_t>::max()) {
    return too_large;
  }
  out.input_bytes_ = base::round_up(layers.largest_input(), kPage);
  out.output_bytes_ = base::round_up(layers.largest_output(), kPage);
  const std::size_t bytes = kWindow * (out.input_bytes_ + out.output_bytes_) + kPage;
  if (bytes > outside::process_state().memory_bytes / 2) return too_large;
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return too_large;
  out.memory_ = {static_cast<std::byte*>(memory), outside::Unmap{bytes}};
  return out;
}

std::span<std::byte> Buffers::all() const noexcept {
  return {memory_.get(), memory_.get_deleter().bytes};
}
std::span<std::byte> Buffers::input(std::size_t index) const noexcept {
  return all().subspan(index * input_bytes_, input_bytes_);
}
std::span<std::byte> Buffers::output(std::size_t index) const noexcept {
  return all().subspan(kWindow * input_bytes_ + index * output_bytes_, output_bytes_);
}

Session::Session(Device& device, const JobLayers& layers, const Buffers& buffers,
                 std::vector<outside::Descriptor> sockets)
    : device_(device), layers_(layers), buffers_(buffers), streams_(std::move(sockets), *this) {
  for (std::size_t i = 0; i < kWindow; ++i) {
    slots_[i].id = i;
    free_buffers_.push_back(kWindow - 1 - i);
  }
}

Error Session::run() {
  struct Begun {
    std::uint64_t id;
    Status status;
  };
  std::deque<Begun> begun;  // on the device
  // Naps of kMoment would otherwise last 50 us longer.
  prctl(PR_SET_TIMERSLACK, 1'000UL, 0UL, 0UL, 0UL);
  streams_.start();
  for (;;) {
    const bool room = begun.size() < device_.depth();
    if (const auto job = room ? next_job() : std::nullopt) {
      begun.push_back({next_id_++, device_.start(*job)});
      continue;
    }
    if (begun.empty() || (room && begun.front().status.ok() && !device_.ready())) {
      std::unique_lock lock(mutex_);
      const auto wanted = [&] { return ended_ || complete(slots_[next_id_ % kWindow]); };
      if (begun.empty()) {
        changed_.wait(lock, wanted);
      } else {
        changed_.wait_for(lock, kMoment, wanted);  // the device is at work: look again soon
      }
      if (ended_) break;
      continue;
    }
    const Begun oldest = begun.front();
    begun.pop_front();
    answer(oldest.id, oldest.status.ok() ? device_.finish() : oldest.status);
  }
  device_.abandon();
  for (const Begun& job : begun) {
    if (job.status.ok()) static_cast<void>(device_.finish());
  }
  return *streams_.why();
}

bool Session::complete(const Slot& slot) const noexcept {
  return slot.id == next_id_ && slot.taken && slot.parts_left == 0;
}

std::optional<Job> Session::next_job() {
  const std::lock_guard lock(mutex_);
  const Slot& slot = slots_[next_id_ % kWindow];
  return !ended_ && complete(slot) ? std::optional(slot.job) : std::nullopt;
}

Status Session::read(std::size_t stream) {
  std::array<std::byte, kJobBytes> bytes{};
  SLALOM_TRY(streams_.receive(stream, bytes));
  auto header = decode<JobHeader>(bytes);
  if (!header) return kBroken;
  const std::size_t part_bytes = std::exchange(header->part_bytes, 0);
  const auto part = part_of(header->id, header->input_bytes, streams_.count(), stream);
  if (!part || part->bytes != part_bytes) return kBroken;
  Slot* slot = nullptr;
  SLALOM_TRY(take(stream, *header, slot));
  // Nobody else touches this part of the input, and the slot stays: a part of it is to come.
  SLALOM_TRY(
      streams_.receive(stream, buffers_.input(slot->buffer).subspan(part->offset, part->bytes)));
  const std::lock_guard lock(mutex_);
  if (--slot->parts_left == 0) changed_.notify_all();
  return {};
}

// take finds the slot of a job of which a part has come, once its last job is answered.
Status Session::take(std::size_t stream, const JobHeader& header, Slot*& slot) {
  std::unique_lock lock(mutex_);
  Slot& here = slots_[header.id % kWindow];
  // The client may have an answer before the thread that sent it has said so; it cannot have one
  // that is not on its way.
  if (header.id == here.id + kWindow && !here.answered) return kBroken;
  changed_.wait(lock, [&] { return ended_ || header.id != here.id + kWindow; });
  if (ended_ || header.id != here.id) return kBroken;
  if (here.taken) {
    if (here.header != header) return kBroken;
  } else {
    SLALOM_TRY(begin(header, here));
  }
  const std::uint32_t bit = std::uint32_t{1} << stream;
  if ((here.streams & bit) != 0) return kBroken;  // each stream carries one part of a job
  here.streams |= bit;
  slot = &here;
  return {};
}

Status Session::begin(const JobHeader& header, Slot& slot) {
  const JobLayer* layer = layers_.find(header.layer);
  const auto field = static_cast<field::Field>(header.field);
  if (layer == nullptr || header.input_bytes > layers_.largest_input()) return kBroken;
  const std::size_t output = header.batch * layer->out_elements * field::word_bytes(field);
  if (output > layers_.largest_output()) return kBroken;
  slot.buffer = free_buffers_.back();
  slot.job = {.layer = header.layer,
              .batch = header.batch,
              .attempt = header.attempt,
              .kind = static_cast<InputKind>(header.kind),
              .field = field,
              .pad_code = header.pad_code,
              .input = buffers_.input(slot.buffer).first(header.input_bytes),
              .output = buffers_.output(slot.buffer).first(output)};
  if (!layers_.check(slot.job).ok()) return kBroken;
  free_buffers_.pop_back();
  slot.taken = true;
  slot.header = header;
  slot.streams = 0;
  slot.parts_left = 0;
  slot.answered = false;
  slot.answers_left = 0;
  for (std::size_t s = 0; s < streams_.count(); ++s) {
    if (part_of(header.id, header.input_bytes, streams_.count(), s)) ++slot.parts_left;
    if (part_of(header.id, output, streams_.count(), s)) ++slot.answers_left;
  }
  return {};
}

void Session::answer(std::uint64_t id, Status status) {
  const std::size_t index = id % kWindow;
  AnswerHeader header{
      .id = id,
      .status = status.ok() ? std::uint8_t{0} : static_cast<std::uint8_t>(status.error().code)};
  std::span<const std::byte> output;
  {
    const std::lock_guard lock(mutex_);
    slots_[index].answered = true;
    output = slots_[index].job.output;
  }
  // The slot and its buffer stay until the last part is sent.
  const std::size_t count = streams_.count();
  for (std::size_t s = 0; s < count; ++s) {
    const auto part = part_of(id, output.size(), count, s);
    if (!part) continue;
    const std::size_t bytes = status.ok() ? part->bytes : 0;
    header.part_bytes = static_cast<std::uint32_t>(bytes);
    streams_.send(s, {encode(header), output.subspan(part->offset, bytes), index});
  }
}

void Session::sent(std::size_t tag) {
  const std::lock_guard lock(mutex_);
  Slot& slot = slots_[tag];
  if (--slot.answers_left != 0) return;
  free_buffers_.push_back(slot.buffer);
  slot.taken = slot.answered = false;
  slot.id += kWindow;
  changed_.notify_all();
}

void Session::ended() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

}  // namespace slalom::device::remote
