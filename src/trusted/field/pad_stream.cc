// SPDX-License-Identifier: Apache-2.0
#include "field/pad_stream.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/assert.h"
#include "base/bytes.h"

namespace slalom::field {
namespace {

constexpr std::string_view kLabel = "slalom pad stream 1";

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* c) const noexcept { EVP_CIPHER_CTX_free(c); }
  void operator()(EVP_KDF* k) const noexcept { EVP_KDF_free(k); }
  void operator()(EVP_KDF_CTX* c) const noexcept { EVP_KDF_CTX_free(c); }
};

void put_big_endian(std::uint64_t value, std::byte* at) noexcept {
  const std::uint64_t swapped = __builtin_bswap64(value);
  std::memcpy(at, &swapped, sizeof(swapped));
}

// keystream writes bytes [from, from + out.size()) of keystream `stream`. from: a multiple of 16.
void keystream(const StreamKey& key, std::uint64_t stream, std::uint64_t from,
               std::span<std::byte> out) noexcept {
  std::array<std::byte, 16> counter{};
  put_big_endian(stream, counter.data());
  put_big_endian(from / 16, counter.data() + 8);
  const std::unique_ptr<EVP_CIPHER_CTX, FreeContext> cipher(EVP_CIPHER_CTX_new());
  std::fill(out.begin(), out.end(), std::byte{0});
  auto* const memory = reinterpret_cast<unsigned char*>(out.data());
  int length = 0;
  SLALOM_ASSERT(
      cipher != nullptr &&
      EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_ctr(), nullptr,
                         reinterpret_cast<const unsigned char*>(key.data()),
                         reinterpret_cast<const unsigned char*>(counter.data())) == 1 &&
      EVP_EncryptUpdate(cipher.get(), memory, &length, memory, static_cast<int>(out.size())) == 1);
}

}  // namespace

void derive_stream_key(const StreamKey& epoch_key, const PadAddress& address,
                       std::span<std::byte, 32> stream_key) noexcept {
  base::ByteWriter info;
  info.put(std::as_bytes(std::span(kLabel)));
  info.write(static_cast<std::uint8_t>(address.mode));
  info.put(address.model);
  info.write(address.epoch);
  info.write(address.inference);
  info.write(address.tensor);
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  char digest[] = "SHA256";
  std::array<OSSL_PARAM, 5> parameters = {
      OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY,
                                        const_cast<std::byte*>(epoch_key.data()), epoch_key.size()),
      OSSL_PARAM_construct_octet_string(
          OSSL_KDF_PARAM_INFO, const_cast<std::byte*>(info.bytes().data()), info.bytes().size()),
      OSSL_PARAM_construct_end()};
  const std::unique_ptr<EVP_KDF, FreeContext> kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  SLALOM_ASSERT(kdf != nullptr);
  const std::unique_ptr<EVP_KDF_CTX, FreeContext> context(EVP_KDF_CTX_new(kdf.get()));
  SLALOM_ASSERT(context != nullptr &&
                EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(stream_key.data()),
                               stream_key.size(), parameters.data()) == 1);
}

PadStream::PadStream(const StreamKey& key, Field f, const Kernels& kernels) noexcept
    : kernels_(&kernels), field_(f) {
  key_.reveal() = key;
  if (kernels.expand_key != nullptr) {
    kernels.expand_key(key_.reveal().data(), round_keys_.reveal().data());
  }
}

PadStream::~PadStream() = default;

void PadStream::fill(std::uint64_t first, std::span<std::uint32_t> out) const noexcept {
  const std::uint32_t p = modulus(field_);
  if (!candidates(0, first, out)) return;
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::uint64_t t = 1; out[i] >= p; ++t) (void)candidates(t, first + i, out.subspan(i, 1));
  }
}

bool PadStream::candidates(std::uint64_t stream, std::uint64_t first,
                           std::span<std::uint32_t> out) const noexcept {
  if (kernels_->pad_candidates != nullptr) {
    return kernels_->pad_candidates(round_keys_.reveal().data(), field_, stream, first, out.size(),
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
