// SPDX-License-Identifier: Apache-2.0
// Sealed chunks (AES-256-GCM, NIST SP 800-38D) by the CPU's AES and carry-less multiplication;
// included after vector_aes.h.
//
// GHASH is computed as POLYVAL of blocks whose bytes are reversed, under a key that is H times x
// (RFC 8452, appendix A): there products need no shift and are reduced from below. The blocks of a
// group are multiplied by descending powers of that key and reduced together.

// With eight registers at a time neither unit waits for the other's latency.
constexpr std::size_t kGcmRegisters = 8;
constexpr std::size_t kGcmGroup = kGcmRegisters * sizeof(Blocks);    // bytes
constexpr auto kGcmModulus = static_cast<long long>(0xc2ULL << 56);  // x^127 + x^126 + x^121

inline Blocks load_blocks(const std::byte* at) noexcept {
  Blocks x;
  std::memcpy(&x, at, sizeof(x));
  return x;
}
inline __m128i load_block(const std::byte* at) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}
// take_bytes picks bytes of each block; -1 is a zero.
[[gnu::always_inline]] inline Blocks take_bytes(Blocks x, std::uint64_t low,
                                                std::uint64_t high) noexcept {
  return shuffle_blocks(
      x, all_blocks(_mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low))));
}
constexpr std::uint64_t kLow = 0x0706'0504'0302'0100;  // the lower eight bytes
constexpr std::uint64_t kHigh = 0x0f0e'0d0c'0b0a'0908;
constexpr std::uint64_t kNone = ~std::uint64_t{0};
inline Blocks reverse_bytes(Blocks x) noexcept {
  return take_bytes(x, __builtin_bswap64(kHigh), __builtin_bswap64(kLow));
}

// Product is a sum of products of 255 bits: low + x^64 middle + x^128 high.
struct Product {
  Blocks low{}, middle{}, high{};

  [[gnu::always_inline]] void add(Blocks a, Blocks b) noexcept {
    low ^= multiply_blocks<0x00>(a, b);
    middle ^= multiply_blocks<0x01>(a, b) ^ multiply_blocks<0x10>(a, b);
    high ^= multiply_blocks<0x11>(a, b);
  }
  // reduced is the sum over x^128, modulo x^128 + x^127 + x^126 + x^121 + 1: twice a multiple of
  // the modulus takes the lowest 64 bits away.
  [[nodiscard, gnu::always_inline]] Blocks reduced() const noexcept {
    const Blocks modulus = all_blocks(_mm_set1_epi64x(kGcmModulus));
    Blocks x = low ^ take_bytes(middle, kNone, kLow);
    for (int i = 0; i < 2; ++i) x = take_bytes(x, kHigh, kLow) ^ multiply_blocks<0x00>(x, modulus);
    return x ^ high ^ take_bytes(middle, kHigh, kNone);
  }
};

// GcmHash is the hash so far, its bytes in the order of memory, and the group that comes next.
struct GcmHash {
  // of the key, which is the last
  alignas(64) base::Wiped<std::array<std::byte, kGcmGroup>> powers;
  __m128i sum = _mm_setzero_si128();
  const std::byte* group = nullptr;
  Product product;

  // zero: the cipher of it.
  explicit GcmHash(__m128i zero) noexcept {
    const __m128i x = sum_blocks(reverse_bytes(first_block(zero)));
    const __m128i carry = _mm_shuffle_epi32(_mm_srai_epi32(x, 31), 0xff);
    const Blocks h = all_blocks(_mm_slli_epi64(x, 1) ^ _mm_slli_si128(_mm_srli_epi64(x, 63), 8) ^
                                (carry & _mm_set_epi64x(kGcmModulus, 1)));
    Blocks power = h;
    for (std::size_t at = kGcmGroup; at != 0; product = {}) {
      std::memcpy(powers.bytes().data() + (at -= 16), &power, 16);
      product.add(power, h);
      power = product.reduced();
    }
  }
  // operator() multiplies a register of the group, between the rounds of the cipher.
  [[gnu::always_inline]] void operator()(std::size_t round) noexcept {
    const std::size_t at = (round - 1) * sizeof(Blocks);
    if (at >= kGcmGroup) return;
    const Blocks x = load_blocks(group + at) ^ first_block(at == 0 ? sum : _mm_setzero_si128());
    product.add(reverse_bytes(x), load_blocks(powers.bytes().data() + at));
  }
  [[gnu::always_inline]] void finish() noexcept {
    sum = sum_blocks(reverse_bytes(product.reduced()));
    product = {};
  }
  // absorb takes few bytes, filled up with zeros to whole blocks.
  void absorb(const void* from, std::size_t n) noexcept {
    const __m128i h = load_block(powers.bytes().data() + kGcmGroup - 16);
    for (std::size_t done = 0; done < n; done += 16) {
      __m128i block = _mm_setzero_si128();
      std::memcpy(&block, static_cast<const std::byte*>(from) + done, min(n - done, 16UL));
      product.add(reverse_bytes(first_block(sum ^ block)), first_block(h));
      finish();
    }
  }
};

// gcm_open passes over the bytes once. The counter starts from 2, its block 1 is for the tag.
inline bool gcm_open(const std::byte* key, const std::byte* nonce, std::span<const std::byte> aad,
                     std::span<std::byte> bytes, const std::byte* tag) noexcept {
  base::Wiped<std::array<std::byte, 240>> round_keys;
  expand_key(key, round_keys.bytes().data());
  std::uint64_t start[2] = {};
  std::memcpy(start, nonce, 12);
  Blocks stream[kGcmRegisters];
  PadCipher(round_keys.bytes().data(), 0).encrypt<1>(0, stream);
  const auto* const stream_bytes = reinterpret_cast<const std::byte*>(stream);
  GcmHash hash(load_block(stream_bytes));
  const PadCipher cipher(round_keys.bytes().data(), __builtin_bswap64(start[0]));
  const std::uint64_t first = __builtin_bswap64(start[1]) | 1;
  std::uint64_t block = first + 1;
  hash.absorb(aad.data(), aad.size());
  std::span<std::byte> rest = bytes;
  for (; rest.size() >= kGcmGroup; rest = rest.subspan(kGcmGroup), block += kGcmGroup / 16) {
    hash.group = rest.data();
    cipher.encrypt<kGcmRegisters>(block, stream, hash);
    hash.finish();
    for (std::size_t i = 0; i < kGcmRegisters; ++i) {
      stream[i] ^= load_blocks(rest.data() + i * sizeof(Blocks));
      std::memcpy(rest.data() + i * sizeof(Blocks), &stream[i], sizeof(Blocks));
    }
  }
  hash.absorb(rest.data(), rest.size());
  cipher.encrypt<kGcmRegisters>(block, stream);
  for (std::size_t i = 0; i < rest.size(); ++i) rest[i] ^= stream_bytes[i];
  const std::uint64_t bits[2] = {__builtin_bswap64(aad.size() * 8),
                                 __builtin_bswap64(bytes.size() * 8)};
  hash.absorb(bits, sizeof(bits));
  cipher.encrypt<1>(first, stream);
  const __m128i wrong = hash.sum ^ load_block(stream_bytes) ^ load_block(tag);
  return _mm_testz_si128(wrong, wrong) != 0;
}
