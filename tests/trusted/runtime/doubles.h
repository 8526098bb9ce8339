// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "channel/port.h"
#include "field/kernels.h"
#include "field/pad_stream.h"
#include "field/prime.h"
#include "field/random.h"
#include "model/plan.h"
#include "runtime/executor.h"
#include "vault/pads.h"

// Stand-ins for everything around an executor: a device that computes by the book, a port without a
// second process, a supplier of pads without a store, images and results in memory.

namespace slalom::testing {

// naive_conv is one convolution over int64, exact below 2^63, as model/plan.h writes it.
inline std::vector<std::int64_t> naive_conv(const model::ConvStage& stage,
                                            const std::vector<std::int64_t>& x, std::int64_t pad) {
  const model::Conv& c = stage.conv;
  const model::Window& w = c.window;
  std::vector<std::int64_t> y;
  y.reserve(c.out.elements());
  for (std::int64_t oy = 0; oy < c.out.h; ++oy) {
    for (std::int64_t ox = 0; ox < c.out.w; ++ox) {
      for (std::size_t o = 0; o < c.out.c; ++o) {
        const std::int8_t* weight = stage.weights.data() + o * c.terms();
        const std::size_t base = o / c.group_out() * c.group_in();
        std::int64_t sum = 0;
        for (std::int64_t ky = 0; ky < w.kernel_h; ++ky) {
          for (std::int64_t kx = 0; kx < w.kernel_w; ++kx) {
            const std::int64_t iy = oy * w.stride_h + ky * w.dilation_h - w.pad_top;
            const std::int64_t ix = ox * w.stride_w + kx * w.dilation_w - w.pad_left;
            const bool inside = iy >= 0 && ix >= 0 && iy < c.in.h && ix < c.in.w;
            for (std::size_t i = 0; i < c.group_in(); ++i, ++weight) {
              const std::int64_t v =
                  inside ? x[static_cast<std::size_t>(iy * c.in.w + ix) * c.in.c + base + i] : pad;
              sum += *weight * v;
            }
          }
        }
        y.push_back(sum);
      }
    }
  }
  return y;
}

inline std::uint32_t residue(std::int64_t v, field::Field f) {
  const std::int64_t p = field::modulus(f);
  return static_cast<std::uint32_t>(((v % p) + p) % p);
}

// linear_words is a whole layer mod p on values that stand for one image's input.
inline std::vector<std::uint32_t> linear_words(const model::Linear& layer, field::Field f,
                                               std::vector<std::int64_t> x, std::int64_t pad) {
  for (const model::ConvStage& stage : layer.stages) {
    x = naive_conv(stage, x, pad);
    for (auto& v : x) v = residue(v, f);
  }
  return {x.begin(), x.end()};
}

inline std::uint32_t load_word(const std::byte* at, field::Field f) {
  std::uint32_t v = 0;
  std::memcpy(&v, at, field::word_bytes(f));
  return v;
}
inline void store_word(std::byte* at, std::uint32_t v, field::Field f) {
  std::memcpy(at, &v, field::word_bytes(f));
}

// Reply is what a device does with a request.
enum class Reply { kAnswer, kFail, kSilent, kGone, kBreach };

// TestPort is a port whose device computes when it is polled. Its behaviour can be changed: tamper
// sees every answer before it is delivered, reply chooses what happens.
class TestPort final : public channel::Port {
 public:
  TestPort(const model::Plan& plan, std::size_t bytes) : plan_(plan), memory_(bytes + 64) {}

  std::function<void(const channel::Request&, std::span<std::byte>)> tamper;
  std::function<Reply(const channel::Request&)> reply;
  std::function<void(const channel::Request&, std::span<const std::byte>)> observe;
  std::uint64_t requests = 0;
  std::set<std::uint32_t> layers;  // that were asked for
  std::size_t most_waiting = 0;    // requests without an answer at one time
  bool used_after_loss = false;

  Result<channel::Slot> allocate(std::size_t bytes) override {
    const std::size_t start = 63 & (64 - reinterpret_cast<std::uintptr_t>(memory_.data()) % 64);
    const std::size_t at = start + used_;
    if (at + bytes > memory_.size()) return Error{Errc::kUnavailable, "the port is full"};
    used_ += (bytes + 63) / 64 * 64;
    return channel::Slot{at, {memory_.data() + at, bytes}};
  }
  Result<std::uint64_t> submit(channel::Request request) override {
    if (closed_) return lost();
    request.sequence = ++requests;
    layers.insert(request.layer);
    bytes_out_ += request.input_bytes;
    if (request.kind != channel::InputKind::kRetained) {
      const std::span<const std::byte> input(memory_.data() + request.input_offset,
                                             request.input_bytes);
      retained_ = {input.begin(), input.end()};
      retained_kind_ = request.kind;
      if (observe) observe(request, input);
    }
    inputs_.push_back(retained_);
    kinds_.push_back(retained_kind_);
    queue_.push_back(request);
    most_waiting = std::max(most_waiting, queue_.size());
    return request.sequence;
  }
  Result<std::optional<channel::Completion>> poll() override {
    if (closed_) return lost();
    if (queue_.empty()) return std::optional<channel::Completion>();
    const channel::Request request = queue_.front();
    const Reply how = reply ? reply(request) : Reply::kAnswer;
    if (how == Reply::kSilent) return std::optional<channel::Completion>();
    if (how == Reply::kGone || how == Reply::kBreach) {
      closed_ = how == Reply::kGone ? Error{Errc::kUnavailable, "the worker is gone"}
                                    : Error{Errc::kRejected, "a malformed answer"};
      return *closed_;
    }
    queue_.pop_front();
    if (how == Reply::kAnswer) answer(request);
    inputs_.pop_front();
    kinds_.pop_front();
    bytes_in_ += request.output_bytes;
    return std::optional(channel::Completion{request.sequence, how == Reply::kAnswer, 1000});
  }
  Result<std::optional<channel::Completion>> wait(std::chrono::nanoseconds time) override {
    auto found = poll();
    if (found.ok() && !found->has_value()) {
      std::this_thread::sleep_for(
          std::min<std::chrono::nanoseconds>(time, std::chrono::milliseconds(1)));
    }
    return found;
  }
  [[nodiscard]] std::uint64_t bytes_out() const noexcept override { return bytes_out_; }
  [[nodiscard]] std::uint64_t bytes_in() const noexcept override { return bytes_in_; }

 private:
  Error lost() {
    used_after_loss = true;
    return *closed_;
  }
  void answer(const channel::Request& request) {
    const auto& layer = std::get<model::Linear>(plan_.nodes[request.layer].op);
    const bool codes = kinds_.front() == channel::InputKind::kCodes;
    const std::size_t n = layer.in().elements();
    const std::size_t word = field::word_bytes(request.field);
    std::byte* out = memory_.data() + request.output_offset;
    for (std::uint32_t b = 0; b < request.batch; ++b) {
      std::vector<std::int64_t> x(n);
      for (std::size_t i = 0; i < n; ++i) {
        const std::byte* at = inputs_.front().data() + (b * n + i) * (codes ? 1 : word);
        x[i] = codes ? static_cast<std::int64_t>(std::to_integer<std::uint8_t>(*at)) - 128
                     : static_cast<std::int64_t>(load_word(at, request.field));
      }
      for (const std::uint32_t v :
           linear_words(layer, request.field, std::move(x), codes ? request.pad_code - 128 : 0)) {
        store_word(out, v, request.field);
        out += word;
      }
    }
    if (tamper) tamper(request, {memory_.data() + request.output_offset, request.output_bytes});
  }

  const model::Plan& plan_;
  std::vector<std::byte> memory_;
  std::size_t used_ = 0;
  std::deque<channel::Request> queue_;
  std::deque<std::vector<std::byte>> inputs_;
  std::deque<channel::InputKind> kinds_;
  std::vector<std::byte> retained_;
  channel::InputKind retained_kind_ = channel::InputKind::kCodes;
  std::optional<Error> closed_;
  std::uint64_t bytes_out_ = 0, bytes_in_ = 0;
};

// TestPads makes pads from a seed and computes factors by the book. It ends the test when a pad is
// used twice, after its ticket was destroyed, or without one.
class TestPads final : public vault::Pads {
 public:
  explicit TestPads(const model::Plan& plan, std::uint8_t seed = 1) : plan_(plan) {
    epoch_.fill(std::byte{seed});
  }

  std::uint64_t taken = 0, destroyed = 0, keys = 0;
  std::uint64_t dry_after = ~0ULL;  // take fails from this many on
  // The store has room for so many. It is filled when an image waits for it, unless images of other
  // micro-batches (of so many together) hold pads at that time.
  std::uint64_t places = ~0U, together = 1;
  std::uint64_t corrupt_factors = ~0U;  // open_factors of this node says that the store was touched
  bool misused = false;
  std::size_t live() {
    const std::lock_guard lock(mutex_);
    return live_.size();
  }

  Result<vault::PadTicket> take() override {
    const std::lock_guard lock(mutex_);
    if (taken >= dry_after) return Error{Errc::kUnavailable, "no pad is left"};
    if (used_ == places && live_.size() >= std::min(places, together)) {
      return Error{Errc::kInternal, "this wait may never end"};
    }
    if (used_ == places) used_ = live_.size();
    ++used_;
    live_[++taken] = {};
    return vault::PadTicket{taken, true};
  }
  [[nodiscard]] std::size_t ready(std::size_t images) const noexcept override {
    const std::lock_guard lock(mutex_);
    return std::min<std::size_t>(images, places - used_);
  }
  Status pad_key(const vault::PadTicket& ticket, model::TensorId tensor,
                 field::StreamKey& key) override {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(ticket.inference);
    if (found == live_.end() || !found->second.insert(tensor).second) {
      misused = true;
      return Error{Errc::kInternal, "a pad was used twice or after its end"};
    }
    ++keys;
    key = key_of(ticket.inference, tensor);
    return {};
  }
  Status open_factors(const vault::PadTicket& ticket, std::uint32_t node, field::Field f,
                      std::size_t first, std::span<std::uint32_t> out) override {
    const std::lock_guard lock(mutex_);
    if (node == corrupt_factors) return Error{Errc::kRejected, "the pad store was touched"};
    if (live_.count(ticket.inference) == 0 || first % chunk_words(f) != 0) {
      misused = true;
      return Error{Errc::kInternal, "factors were asked for without a ticket"};
    }
    const auto& u = factors(ticket.inference, node, f);
    if (first + out.size() > u.size() ||
        (out.size() != chunk_words(f) && first + out.size() != u.size())) {
      misused = true;
      return Error{Errc::kInternal, "factors were asked for in a wrong size"};
    }
    std::copy_n(u.begin() + static_cast<std::ptrdiff_t>(first), out.size(), out.begin());
    return {};
  }
  void destroy(const vault::PadTicket& ticket) override {
    const std::lock_guard lock(mutex_);
    if (live_.erase(ticket.inference) != 1) misused = true;
    ++destroyed;
    std::erase_if(factors_,
                  [&](const auto& entry) { return entry.first.first == ticket.inference; });
  }
  Result<std::uint64_t> prepare(std::uint64_t count, Progress /*progress*/,
                                void* /*context*/) override {
    return count;
  }
  [[nodiscard]] std::uint64_t stock() const noexcept override { return 0; }
  [[nodiscard]] std::uint64_t bytes_per_image() const noexcept override { return 0; }

 private:
  [[nodiscard]] field::StreamKey key_of(std::uint64_t inference, model::TensorId tensor) const {
    field::StreamKey key;
    key.fill(std::byte{0});
    field::Address address;
    address.inference = inference;
    address.index = tensor;
    field::derive_stream_key(epoch_, address, key);
    return key;
  }
  const std::vector<std::uint32_t>& factors(std::uint64_t inference, std::uint32_t node,
                                            field::Field f) {
    auto& u = factors_[{inference, node}];
    if (u.empty()) {
      const auto& layer = std::get<model::Linear>(plan_.nodes[node].op);
      std::vector<std::uint32_t> r(layer.in().elements());
      const field::PadStream stream(key_of(inference, plan_.nodes[node].inputs[0]), f,
                                    field::choose_kernels(base::detect_cpu()));
      stream.fill(0, r);
      u = linear_words(layer, f, {r.begin(), r.end()}, 0);
    }
    return u;
  }

  const model::Plan& plan_;
  field::StreamKey epoch_{};
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::set<model::TensorId>> live_;
  std::uint64_t used_ = 0;  // of the places, since the store was filled
  std::map<std::pair<std::uint64_t, std::uint32_t>, std::vector<std::uint32_t>> factors_;
};

// TestRandom is a generator that anyone can predict (splitmix64), and that counts what it gave.
class TestRandom final : public field::Random {
 public:
  explicit TestRandom(std::uint64_t seed) : state_(seed) {}
  std::size_t drawn = 0;  // bytes

  void fill(std::span<std::byte> out) noexcept override {
    drawn += out.size();
    for (auto& b : out) {
      state_ += 0x9e3779b97f4a7c15;
      std::uint64_t z = state_;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
      b = static_cast<std::byte>(z >> 56);
    }
  }

 private:
  std::uint64_t state_;
};

// Image is the codes of all inputs of a plan, one after the other.
using Image = std::vector<std::uint8_t>;

class ListSource final : public runtime::Source {
 public:
  explicit ListSource(const std::vector<Image>& images) : images_(images) {}
  bool next(std::span<std::uint8_t> codes) override {
    if (at_ == images_.size()) return false;
    std::copy(images_[at_].begin(), images_[at_].end(), codes.begin());
    ++at_;
    return true;
  }

 private:
  const std::vector<Image>& images_;
  std::size_t at_ = 0;
};

// ListSink keeps every output, as int32, and every error; it ends the test on a wrong order.
class ListSink final : public runtime::Sink {
 public:
  struct Entry {
    std::vector<std::vector<std::int32_t>> outputs;
    std::optional<Error> error;
  };
  std::vector<Entry> entries;
  bool in_order = true;

  void deliver(std::uint64_t image, std::span<const runtime::OutputView> outputs) override {
    in_order = in_order && image == entries.size();
    Entry entry;
    for (const auto& view : outputs) {
      std::vector<std::int32_t> values(view.codes.begin(), view.codes.end());
      values.insert(values.end(), view.integers.begin(), view.integers.end());
      entry.outputs.push_back(std::move(values));
    }
    entries.push_back(std::move(entry));
  }
  void fail(std::uint64_t image, Error error) override {
    in_order = in_order && image == entries.size();
    entries.push_back({{}, error});
  }
  [[nodiscard]] std::size_t delivered() const {
    std::size_t n = 0;
    for (const Entry& e : entries) n += e.error ? 0 : 1;
    return n;
  }
};

}  // namespace slalom::testing
