// SPDX-License-Identifier: Apache-2.0
// The sealed pad store on a hostile disk. The input is a script: what the trusted process does with
// its pads, and what the host does to the file between two steps (change bytes, copy a part over
// another, put an older copy back, cut it, refuse to write). Invariants: factors that are handed
// out are W r for this very ticket, word for word; everything else is kRejected, kUnavailable or,
// for a ticket that is not in use, kInternal; no inference number comes twice.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "field/kernels.h"
#include "field/pad_stream.h"
#include "support/plans.h"
#include "vault/stocked_pads.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file

void require(bool condition) {
  if (!condition) std::abort();
}

class FixedRandom final : public field::Random {
 public:
  void fill(std::span<std::byte> out) noexcept override {
    for (std::byte& b : out) b = static_cast<std::byte>(++next_);
  }

 private:
  unsigned next_ = 0;
};

// Disk is the host's file, in the hands of the script.
class Disk final : public vault::BlobStore {
 public:
  explicit Disk(std::vector<std::byte> content) : bytes(std::move(content)) {}

  [[nodiscard]] Status write(std::uint64_t offset, std::span<const std::byte> in) override {
    if (refused_writes > 0) {
      --refused_writes;
      return Error{Errc::kUnavailable, "no room"};
    }
    require(offset + in.size() <= kMost);
    if (bytes.size() < offset + in.size()) bytes.resize(offset + in.size());
    std::memcpy(bytes.data() + offset, in.data(), in.size());
    return {};
  }
  [[nodiscard]] Status read(std::uint64_t offset, std::span<std::byte> out) override {
    if (offset > bytes.size() || out.size() > bytes.size() - offset) {
      return Error{Errc::kUnavailable, "gone"};
    }
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  }
  [[nodiscard]] Status reserve(std::uint64_t size) override {
    if (size > kMost) return Error{Errc::kUnavailable, "no room"};
    if (bytes.size() < size) bytes.resize(size);
    return {};
  }
  [[nodiscard]] Status clear() override {
    bytes.clear();
    return {};
  }
  [[nodiscard]] std::uint64_t size() override { return bytes.size(); }

  static constexpr std::size_t kMost = std::size_t{1} << 20;
  std::vector<std::byte> bytes;
  unsigned refused_writes = 0;
};

// Network has two layers whose factors take two chunks (of one term a word) and one.
struct Network {
  Network() {
    slalom::testing::PlanBuilder b(1);
    const auto x = b.input({1, 5464, 1});
    const auto y = b.conv(x, {.out_c = 3});
    const auto g = b.average_pool(y, {.kernel_h = 1, .kernel_w = 5464});
    plan = b.finish({b.dense(g, 4, true)});
    FixedRandom random;
    auto drawn = vault::Epoch::draw(random);
    require(drawn.ok());
    epoch.emplace(std::move(drawn).value());
  }
  model::Plan plan;
  const std::vector<std::uint32_t> nodes = {0, 2};
  std::optional<vault::Epoch> epoch;
};

// factors is W r mod p of one node, 1x1 windows, by the definition.
std::vector<std::uint32_t> factors(const model::Linear& layer, std::span<const std::uint32_t> r) {
  const model::Conv& conv = layer.stages[0].conv;
  const std::int64_t p = modulus(*layer.field);
  std::vector<std::uint32_t> out;
  for (std::size_t at = 0; at < conv.in.positions(); ++at) {
    for (std::size_t o = 0; o < conv.out.c; ++o) {
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < conv.in.c; ++i) {
        sum += std::int64_t{layer.stages[0].weights[o * conv.in.c + i]} * r[at * conv.in.c + i];
      }
      out.push_back(static_cast<std::uint32_t>((sum % p + p) % p));
    }
  }
  return out;
}

// Driver is the trusted side of the script.
class Driver {
 public:
  Driver(const Network& network, vault::StockedPads& pads) : network_(network), pads_(pads) {}

  void prepare(std::uint64_t count) {
    const std::uint64_t before = pads_.stock();
    const auto made = pads_.prepare(count, nullptr, nullptr);
    if (made.ok()) {
      require(*made == count && pads_.stock() == before + count);
    } else {
      require(made.error().code == Errc::kUnavailable);
    }
  }
  void take() {
    const std::uint64_t before = pads_.stock();
    const auto ticket = pads_.take();
    require(ticket.ok() == (before > 0));
    if (!ticket.ok()) return;
    require(numbers_.insert(ticket->inference).second);
    tickets_.push_back({*ticket, true});
  }
  void open(std::size_t which, std::size_t node_choice) {
    if (tickets_.empty()) return;
    const auto& [ticket, live] = tickets_[which % tickets_.size()];
    const std::uint32_t node = network_.nodes[node_choice % network_.nodes.size()];
    const auto& layer = std::get<model::Linear>(network_.plan.nodes[node].op);
    std::vector<std::uint32_t> u(layer.out().elements());
    const Status opened = pads_.open_factors(ticket, node, *layer.field, 0, u);
    base::Wiped<field::StreamKey> key;
    const Status derived = pads_.pad_key(ticket, network_.plan.nodes[node].inputs[0], key.reveal());
    require(derived.ok() == live);
    if (!live) return require(!opened.ok() && opened.error().code == Errc::kInternal);
    if (!opened.ok()) {
      return require(opened.error().code == Errc::kRejected ||
                     opened.error().code == Errc::kUnavailable);
    }
    std::vector<std::uint32_t> r(layer.in().elements());
    field::PadStream(key.reveal(), *layer.field, field::choose_kernels({})).fill(0, r);
    require(u == factors(layer, r));
    ++opened_;
  }
  void destroy(std::size_t which) {
    if (tickets_.empty()) return;
    auto& [ticket, live] = tickets_[which % tickets_.size()];
    pads_.destroy(ticket);
    live = false;
  }
  // all_open opens every ticket in use: on an untouched disk all of them must open.
  void all_open() {
    std::size_t live = 0;
    for (std::size_t i = 0; i < tickets_.size(); ++i) live += tickets_[i].live ? 1 : 0;
    const std::size_t before = opened_;
    for (std::size_t i = 0; i < tickets_.size(); ++i) open(i, 0);
    require(opened_ - before == live);
  }

 private:
  struct Held {
    vault::PadTicket ticket;
    bool live;
  };
  const Network& network_;
  vault::StockedPads& pads_;
  std::vector<Held> tickets_;
  std::set<std::uint64_t> numbers_;
  std::size_t opened_ = 0;
};

// tamper is one act of the host; true if it may have changed what was sealed.
bool tamper(Disk& disk, std::vector<std::byte>& copy, base::ByteReader& script) {
  std::vector<std::byte>& bytes = disk.bytes;
  const auto act = script.read<std::uint8_t>();
  const std::size_t at = script.read<std::uint32_t>() % (bytes.size() + 1);
  const std::size_t from = script.read<std::uint32_t>() % (bytes.size() + 1);
  const auto value = script.read<std::uint8_t>();
  switch (act % 6) {
    case 0:
      if (at < bytes.size()) bytes[at] ^= static_cast<std::byte>(value);
      return true;
    case 1: {  // one part over another
      const std::size_t n =
          std::min({std::size_t{value} * 256, bytes.size() - at, bytes.size() - from});
      std::memmove(bytes.data() + at, bytes.data() + from, n);
      return true;
    }
    case 2:
      copy = bytes;
      return false;
    case 3:
      bytes = copy;
      return true;
    case 4:
      bytes.resize(at);
      return true;
    default:
      disk.refused_writes = value % 4;
      return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Network network;
  base::ByteReader script(std::as_bytes(std::span(data, size)));
  // What an earlier process left, if the script says so.
  std::vector<std::byte> left;
  if (script.read<std::uint8_t>() % 2 == 1) left.assign(script.remaining(), std::byte{0x53});
  const bool dead = !left.empty();
  auto owned = std::make_unique<Disk>(std::move(left));
  Disk& disk = *owned;
  vault::InferenceNumbers numbers;
  vault::StockOptions options;
  options.when_dry = vault::WhenDry::kFail;
  options.batch = 2;
  auto pads = vault::StockedPads::create(network.plan, model::Digest{}, network.nodes,
                                         *network.epoch, numbers, std::move(owned), options);
  require(pads.ok() && (*pads)->dead_stock() == dead);
  Driver driver(network, **pads);
  std::vector<std::byte> copy;
  bool touched = false;
  unsigned steps = 0;
  while (script.ok() && script.remaining() > 0 && ++steps <= 40) {
    const auto op = script.read<std::uint8_t>();
    switch (op % 8) {
      case 0:
        driver.prepare(1 + op / 8 % 3);
        break;
      case 1:
        driver.take();
        break;
      case 2:
      case 3:
        driver.open(op / 16, op / 8);
        break;
      case 4:
        driver.destroy(op / 8);
        break;
      default:
        touched |= tamper(disk, copy, script);
        break;
    }
  }
  if (!touched) driver.all_open();
  return 0;
}
