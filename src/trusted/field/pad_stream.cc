// SPDX-License-Identifier: Apache-2.0
#include "field/pad_stream.h"

#define OPENSSL_SUPPRESS_DEPRECATED  // SHA256_*: what replaces them takes memory each time
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "field/random.h"

namespace slalom::field {

AddressBytes address_bytes(const Address& address) noexcept {
  AddressBytes out;
  std::byte* at = out.data();
  const auto put = [&](const auto&... values) {
    ((at = std::copy_n(std::as_bytes(std::span(&values, 1)).data(), sizeof(values), at)), ...);
  };
  put(address.mode, address.model, address.epoch, address.inference, address.index);
  return out;
}

// HMAC (RFC 2104) over SHA-256 itself: libcrypto's HMAC looks its parts up anew for each key, with
// locks and counters that all threads share.
void derive_key(std::string_view label, const StreamKey& epoch_key, const Address& address,
                StreamKey& out) noexcept {
  const AddressBytes where = address_bytes(address);
  base::Wiped<SHA256_CTX> hash;
  base::Wiped<StreamKey> inner;
  const auto digest = [&](std::uint8_t pad, auto&&... parts) {
    base::Wiped<std::array<std::byte, 64>> block;
    block.reveal().fill(std::byte{pad});
    for (std::size_t i = 0; i < epoch_key.size(); ++i) block.reveal()[i] ^= epoch_key[i];
    SHA256_Init(&hash.reveal());
    SHA256_Update(&hash.reveal(), block.bytes().data(), block.bytes().size());
    (SHA256_Update(&hash.reveal(), parts.data(), parts.size()), ...);
    SHA256_Final(reinterpret_cast<unsigned char*>(inner.bytes().data()), &hash.reveal());
  };
  constexpr std::array<std::uint8_t, 1> kBlock = {1};  // the number of the only block of output
  digest(0x36, label, where, kBlock);
  digest(0x5c, inner.reveal());
  out = inner.reveal();
}

void derive_stream_key(const StreamKey& epoch_key, const Address& address,
                       StreamKey& out) noexcept {
  derive_key("slalom pad stream 1", epoch_key, address, out);
}

// StackWipe overwrites what calls have left below it on the stack: round keys, pads, registers.
struct StackWipe {
  [[gnu::noinline]] ~StackWipe() { base::wipe(__builtin_alloca(4096), 4096); }
};

PadStream::PadStream(const StreamKey& key, Field f, const Kernels& kernels) noexcept
    : kernels_(&kernels), field_(f) {
  const StackWipe wiped;
  key_.reveal() = key;
  if (kernels.expand_key != nullptr) {
    kernels.expand_key(key_.reveal().data(), round_keys_.reveal().data());
  }
}

void PadStream::fill(std::uint64_t first, std::span<std::uint32_t> out) const noexcept {
  const StackWipe wiped;
  const std::uint32_t p = modulus(field_);
  if (!candidates(0, first, out)) return;
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::uint64_t t = 1; out[i] >= p; ++t) (void)candidates(t, first + i, out.subspan(i, 1));
  }
}

bool PadStream::candidates(std::uint64_t stream, std::uint64_t first,
                           std::span<std::uint32_t> out) const noexcept {
  if (kernels_->pad_candidates != nullptr) {
    return kernels_->pad_candidates(field_, round_keys_.reveal().data(), stream, first, out.size(),
                                    out.data());
  }
  constexpr std::size_t kWords = 1024;
  const std::size_t width = word_bytes(field_);
  base::Wiped<std::array<std::byte, kWords * 4 + 32>> buffer;
  std::uint32_t rejected = 0;
  for (std::size_t done = 0; done < out.size(); done += kWords) {
    const std::size_t n = std::min(kWords, out.size() - done);
    const std::uint64_t from = (first + done) * width;
    const std::size_t skip = from % 16;
    const std::size_t bytes = (skip + n * width + 15) / 16 * 16;
    keystream(key_.reveal(), stream, from - skip, buffer.bytes().first(bytes));
    for (std::size_t i = 0; i < n; ++i) {
      std::uint32_t word = 0;
      std::memcpy(&word, buffer.bytes().data() + skip + i * width, width);
      word &= 0x7fff'ffff;
      rejected |= (modulus(field_) - 1 - word) >> 31;  // both are below 2^31
      out[done + i] = word;
    }
  }
  return rejected != 0;
}

}  // namespace slalom::field
