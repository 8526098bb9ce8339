// SPDX-License-Identifier: Apache-2.0
// The life of a pad under valgrind's memcheck, with the epoch key marked undefined: derivation of
// keys, expansion, the factory's exact arithmetic, packing, sealing, opening and blinding may take
// no branch and form no address from it. Two events are public and named in constant_time.supp:
// that a pad candidate was rejected (field/pad_stream.h) and that a chunk was authentic.
// `constant_time leak` does the opposite on purpose.
#include <valgrind/memcheck.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "base/cpu.h"
#include "field/kernels.h"
#include "field/pad_stream.h"
#include "field/random.h"
#include "support/plans.h"
#include "vault/stocked_pads.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file

bool require(bool condition, const char* what) {
  if (!condition) std::fprintf(stderr, "constant_time: %s\n", what);
  return condition;
}

// FixedRandom gives the bytes 1, 2, 3...: what is secret is said by the marks, not by the values.
class FixedRandom final : public field::Random {
 public:
  void fill(std::span<std::byte> out) noexcept override {
    for (std::byte& b : out) b = static_cast<std::byte>(++next_);
  }

 private:
  unsigned next_ = 0;
};

// all_secret says that no bit of the words is known to memcheck. Without it a lost mark would make
// this program pass for nothing.
bool all_secret(std::span<const std::uint32_t> words) {
  std::vector<std::uint8_t> marks(words.size_bytes());
  if (VALGRIND_GET_VBITS(words.data(), marks.data(), marks.size()) != 1) return false;
  // The fourth byte of a p24 word is known to be zero.
  for (std::size_t i = 0; i < marks.size(); ++i) {
    if (i % 4 != 3 && marks[i] == 0) return false;
  }
  return true;
}

// HostStore is the host's disk; it can flip a bit.
class HostStore final : public vault::BlobStore {
 public:
  [[nodiscard]] Status write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    std::copy(bytes.begin(), bytes.end(), at(offset));
    return {};
  }
  // What was sealed is public: the host has it.
  [[nodiscard]] Status read(std::uint64_t offset, std::span<std::byte> out) override {
    std::copy_n(at(offset), out.size(), out.begin());
    VALGRIND_MAKE_MEM_DEFINED(out.data(), out.size());
    if (tamper) out[out.size() / 2] ^= std::byte{1};
    return {};
  }
  [[nodiscard]] Status reserve(std::uint64_t bytes) override {
    disk_.resize(std::max<std::size_t>(disk_.size(), bytes));
    return {};
  }
  [[nodiscard]] Status clear() override {
    disk_.clear();
    return {};
  }
  [[nodiscard]] std::uint64_t size() override { return disk_.size(); }

  bool tamper = false;

 private:
  std::vector<std::byte>::iterator at(std::uint64_t offset) {
    return disk_.begin() + static_cast<std::ptrdiff_t>(offset);
  }
  std::vector<std::byte> disk_;
};

// live takes an image's pads through everything that happens to them on one processor.
bool live(const base::CpuFeatures& cpu, bool leak) {
  const model::Plan plan = slalom::testing::small_network();
  std::vector<std::uint32_t> nodes;
  for (std::uint32_t i = 0; i < plan.nodes.size(); ++i) {
    const auto* linear = std::get_if<model::Linear>(&plan.nodes[i].op);
    if (linear != nullptr && linear->field) nodes.push_back(i);
  }
  FixedRandom random;
  auto epoch = vault::Epoch::draw(random);
  if (!require(epoch.ok(), "no epoch")) return false;
  VALGRIND_MAKE_MEM_UNDEFINED(epoch->key.bytes().data(), epoch->key.bytes().size());
  vault::InferenceNumbers numbers;
  auto owned = std::make_unique<HostStore>();
  HostStore& store = *owned;
  vault::StockOptions options;
  options.cpu = cpu;
  options.batch = 1;
  auto pads = vault::StockedPads::create(plan, model::Digest{}, nodes, *epoch, numbers,
                                         std::move(owned), options);
  if (!require(pads.ok(), "no pads")) return false;
  const auto made = (*pads)->prepare(1, nullptr, nullptr);
  const auto ticket = (*pads)->take();
  if (!require(made.ok() && ticket.ok(), "no ticket")) return false;
  const field::Kernels& kernels = field::choose_kernels(cpu);
  for (const std::uint32_t node : nodes) {
    const auto& linear = std::get<model::Linear>(plan.nodes[node].op);
    const std::size_t in = linear.in().elements();
    base::Wiped<field::StreamKey> key;
    const Status derived = (*pads)->pad_key(*ticket, plan.nodes[node].inputs[0], key.reveal());
    if (!require(derived.ok(), "no key")) return false;
    std::vector<std::uint32_t> r(in);
    field::PadStream(key.reveal(), *linear.field, kernels).fill(0, r);
    std::vector<std::uint8_t> codes(in, 7);
    VALGRIND_MAKE_MEM_UNDEFINED(codes.data(), codes.size());
    std::vector<std::byte> slot(in * 4);
    kernels.blind(*linear.field, codes.data(), 3, r.data(), in, slot.data());
    std::vector<std::uint32_t> u(linear.out().elements());
    const Status opened = (*pads)->open_factors(*ticket, node, *linear.field, 0, u);
    if (!require(opened.ok(), "factors refused")) return false;
    if (!require(all_secret(r) && all_secret(u), "a mark was lost")) return false;
    if (leak && u[0] % 2 == 0) std::puts("even");
    store.tamper = true;
    const Status refused = (*pads)->open_factors(*ticket, node, *linear.field, 0, u);
    store.tamper = false;
    if (!require(!refused.ok() && refused.error().code == Errc::kRejected, "forgery taken")) {
      return false;
    }
  }
  (*pads)->destroy(*ticket);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (RUNNING_ON_VALGRIND == 0) {
    static_cast<void>(std::fputs("constant_time: run me under valgrind\n", stderr));
    return 2;
  }
  const bool leak = argc == 2 && std::strcmp(argv[1], "leak") == 0;
  const base::CpuFeatures here = base::detect_cpu();
  if (!require(here.avx2, "no AVX2 under this valgrind")) return 3;
  return live(base::CpuFeatures{}, leak) && live(here, leak) ? 0 : 4;
}
