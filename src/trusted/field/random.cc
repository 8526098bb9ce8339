// SPDX-License-Identifier: Apache-2.0
#include "field/random.h"

#include <immintrin.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/secret.h"

namespace slalom::field {
namespace {

// hardware_seed fills out from RDSEED, which may be dry for a while when others drain it.
[[gnu::target("rdseed")]] bool hardware_seed(std::span<std::byte> out) noexcept {
  constexpr int kTries = 100'000;
  for (std::size_t at = 0; at < out.size(); at += sizeof(std::uint64_t)) {
    unsigned long long word = 0;
    int tries = 0;
    while (_rdseed64_step(&word) == 0) {
      if (++tries == kTries) return false;
      _mm_pause();
    }
    std::memcpy(out.data() + at, &word, std::min(sizeof(word), out.size() - at));
  }
  return true;
}

class SystemRandom final : public Random {
 public:
  // The key comes first, so that one run of the cipher writes the next key and the next bytes.
  struct State {
    std::array<std::byte, 32> key;
    std::array<std::byte, 4064> bytes;
  };

  explicit SystemRandom(base::Secret<State> state) : state_(std::move(state)) {}

  void fill(std::span<std::byte> out) noexcept override {
    while (!out.empty()) {
      if (used_ == kBytes) {
        // Each key is used once, so the counter may start from zero each time.
        keystream(state_.reveal().key, 0, 0, state_.bytes());
        used_ = 0;
      }
      const std::size_t n = std::min(out.size(), kBytes - used_);
      std::byte* const from = state_.reveal().bytes.data() + used_;
      std::memcpy(out.data(), from, n);
      base::wipe(from, n);
      used_ += n;
      out = out.subspan(n);
    }
  }

 private:
  static constexpr std::size_t kBytes = sizeof(State::bytes);

  base::Secret<State> state_;
  std::size_t used_ = kBytes;
};

}  // namespace

Result<std::unique_ptr<Random>> make_system_random(const base::CpuFeatures& cpu) {
  base::Wiped<std::array<std::byte, 64>> seed;
  const std::span<std::byte, 64> bytes = seed.bytes();
  if (getentropy(bytes.data(), 32) != 0) {
    return Error{Errc::kUnavailable, "the system's random generator failed"};
  }
  if (cpu.rdseed && !hardware_seed(bytes.last<32>())) {
    return Error{Errc::kUnavailable, "the processor's random generator failed"};
  }
  auto state = base::Secret<SystemRandom::State>::create();
  if (!state.ok()) return state.error();
  if (EVP_Digest(bytes.data(), bytes.size(),
                 reinterpret_cast<unsigned char*>(state->reveal().key.data()), nullptr,
                 EVP_sha256(), nullptr) != 1) {
    return Error{Errc::kUnavailable, "libcrypto cannot start a random generator"};
  }
  return std::unique_ptr<Random>(new SystemRandom(std::move(*state)));
}

void keystream(std::span<const std::byte, 32> key, std::uint64_t stream, std::uint64_t from,
               std::span<std::byte> out) noexcept {
  const std::array<std::uint64_t, 2> counter = {__builtin_bswap64(stream),
                                                __builtin_bswap64(from / 16)};
  EVP_CIPHER_CTX* const cipher = EVP_CIPHER_CTX_new();
  SLALOM_ASSERT(cipher != nullptr &&
                EVP_EncryptInit_ex(cipher, EVP_aes_256_ctr(), nullptr,
                                   reinterpret_cast<const unsigned char*>(key.data()),
                                   reinterpret_cast<const unsigned char*>(counter.data())) == 1);
  base::wipe(out.data(), out.size());
  auto* const memory = reinterpret_cast<unsigned char*>(out.data());
  int length = 0;
  SLALOM_ASSERT(EVP_EncryptUpdate(cipher, memory, &length, memory, static_cast<int>(out.size())) ==
                    1 &&
                length == static_cast<int>(out.size()));
  EVP_CIPHER_CTX_free(cipher);
}

void draw_below(Random& random, std::uint32_t range, std::span<std::uint32_t> out) noexcept {
  SLALOM_ASSERT(range >= 1 && range <= (1U << 31));
  const auto bits = static_cast<std::size_t>(std::bit_width(range - 1));
  const std::size_t width = (bits + 7) / 8;
  const auto mask = static_cast<std::uint32_t>((std::uint64_t{1} << bits) - 1);
  base::Wiped<std::array<std::byte, 1024>> buffer;  // 256 words of at most 4 bytes
  std::size_t done = 0;
  while (done < out.size()) {
    const std::size_t n = std::min<std::size_t>(out.size() - done, 256);
    const std::span<std::byte> raw = buffer.bytes().first(n * width);
    random.fill(raw);
    for (std::size_t i = 0; i < n; ++i) {
      std::uint32_t candidate = 0;
      std::memcpy(&candidate, raw.data() + i * width, width);
      candidate &= mask;
      if (candidate < range) out[done++] = candidate;
    }
  }
}

}  // namespace slalom::field
