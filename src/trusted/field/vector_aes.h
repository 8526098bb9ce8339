// SPDX-License-Identifier: Apache-2.0
// Pad candidates (pad_stream.h) by the CPU's AES instructions; included like vector_consume.h. A is
// a register of kBlocks cipher blocks: one with AES-NI, four with VAES.

// expand_key is the key schedule of AES-256 (FIPS 197, section 5.2): 15 round keys of 16 bytes.
template <int kConstant>
[[gnu::always_inline]] inline __m128i next_even_key(__m128i older, __m128i newer) noexcept {
  __m128i word = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(newer, kConstant), 0xff);
  older = _mm_xor_si128(older, _mm_slli_si128(older, 4));
  older = _mm_xor_si128(older, _mm_slli_si128(older, 8));
  return _mm_xor_si128(older, word);
}
[[gnu::always_inline]] inline __m128i next_odd_key(__m128i older, __m128i newer) noexcept {
  __m128i word = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(newer, 0), 0xaa);
  older = _mm_xor_si128(older, _mm_slli_si128(older, 4));
  older = _mm_xor_si128(older, _mm_slli_si128(older, 8));
  return _mm_xor_si128(older, word);
}

template <int kConstant>
[[gnu::always_inline]] inline void next_keys(__m128i* keys) noexcept {
  keys[2] = next_even_key<kConstant>(keys[0], keys[1]);
  keys[3] = next_odd_key(keys[1], keys[2]);
}

inline void expand_key(const std::byte* key, std::byte* round_keys) noexcept {
  __m128i keys[16];  // the last is not used
  keys[0] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key));
  keys[1] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key + 16));
  next_keys<0x01>(keys);
  next_keys<0x02>(keys + 2);
  next_keys<0x04>(keys + 4);
  next_keys<0x08>(keys + 6);
  next_keys<0x10>(keys + 8);
  next_keys<0x20>(keys + 10);
  next_keys<0x40>(keys + 12);
  std::memcpy(round_keys, keys, 240);
}

// One group is kPadGroup words: a whole number of blocks in both fields.
constexpr std::size_t kPadGroup = 128;

template <class A>
struct PadCipher {
  using R = typename A::R;
  R keys[15];
  R stream;  // the first half of every counter block, as a number

  PadCipher(const std::byte* round_keys, std::uint64_t number) noexcept
      : stream(A::stream(number)) {
    for (std::size_t i = 0; i < 15; ++i) keys[i] = A::broadcast(round_keys + 16 * i);
  }

  // encrypt writes kRegisters registers of keystream from block number `block` on.
  template <std::size_t kRegisters>
  [[gnu::always_inline]] void encrypt(std::uint64_t block, R* out) const noexcept {
    for (std::size_t i = 0; i < kRegisters; ++i) {
      out[i] = A::exclusive_or(A::counters(stream, block + i * A::kBlocks), keys[0]);
    }
    for (std::size_t round = 1; round < 14; ++round) {
      for (std::size_t i = 0; i < kRegisters; ++i) out[i] = A::round(out[i], keys[round]);
    }
    for (std::size_t i = 0; i < kRegisters; ++i) out[i] = A::last_round(out[i], keys[14]);
  }
};

// pad_group writes the candidates of one group and returns the largest of each lane.
template <class V, class A, Field F>
[[gnu::always_inline]] inline typename V::W pad_group(const PadCipher<A>& cipher,
                                                      std::uint64_t group,
                                                      std::uint32_t* out) noexcept {
  constexpr std::size_t kBlocks = kPadGroup * word_bytes(F) / 16;
  constexpr std::size_t kRegisters = kBlocks / A::kBlocks;
  constexpr std::size_t kAtOnce = kRegisters < 8 ? kRegisters : 8;
  alignas(64) std::byte bytes[kPadGroup * word_bytes(F)];
  for (std::size_t i = 0; i < kRegisters; i += kAtOnce) {
    typename A::R stream[kAtOnce];
    cipher.template encrypt<kAtOnce>(group * kBlocks + i * A::kBlocks, stream);
    for (std::size_t j = 0; j < kAtOnce; ++j)
      A::store(bytes + 16 * A::kBlocks * (i + j), stream[j]);
  }
  typename V::W largest = V::zero();
  for (std::size_t i = 0; i < kPadGroup; i += V::kWidth) {
    typename V::W w = V::template slot<F>(bytes + i * word_bytes(F));
    if constexpr (F == Field::kP31) w = V::bits(w, Modulus<F>::kMask);
    largest = V::max(largest, w);
    V::store(out + i, w);
  }
  return largest;
}

template <class V, class A, Field F>
bool pad_field(const std::byte* round_keys, std::uint64_t stream, std::uint64_t first,
               std::size_t n, std::uint32_t* out) noexcept {
  const PadCipher<A> cipher(round_keys, stream);
  typename V::W largest = V::zero();
  std::size_t done = 0;
  while (done < n) {
    const std::uint64_t group = (first + done) / kPadGroup;
    const std::size_t skip = (first + done) % kPadGroup;
    const std::size_t count = kPadGroup - skip < n - done ? kPadGroup - skip : n - done;
    if (count == kPadGroup) {
      largest = V::max(largest, pad_group<V, A, F>(cipher, group, out + done));
    } else {
      alignas(64) std::uint32_t words[kPadGroup];
      (void)pad_group<V, A, F>(cipher, group, words);
      for (std::size_t i = 0; i < count; ++i) {
        out[done + i] = words[skip + i];
        largest = V::max(largest, V::set(words[skip + i]));
      }
    }
    done += count;
  }
  return V::any_above(largest, Modulus<F>::kP - 1) != 0;
}

template <class V, class A>
bool pad_candidates(const std::byte* round_keys, Field f, std::uint64_t stream, std::uint64_t first,
                    std::size_t n, std::uint32_t* out) noexcept {
  return f == Field::kP24 ? pad_field<V, A, Field::kP24>(round_keys, stream, first, n, out)
                          : pad_field<V, A, Field::kP31>(round_keys, stream, first, n, out);
}

// AesNi: one block a register. Counter blocks are big-endian, so both halves are swapped.
struct AesNi {
  using R = __m128i;
  static constexpr std::size_t kBlocks = 1;
  static R broadcast(const std::byte* key) noexcept {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(key));
  }
  static R stream(std::uint64_t number) noexcept {
    return _mm_set_epi64x(0, static_cast<long long>(number));
  }
  static R counters(R stream, std::uint64_t block) noexcept {
    const R number = _mm_add_epi64(stream, _mm_set_epi64x(static_cast<long long>(block), 0));
    return _mm_shuffle_epi8(number,
                            _mm_setr_epi8(7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8));
  }
  static R exclusive_or(R a, R b) noexcept { return _mm_xor_si128(a, b); }
  static R round(R x, R key) noexcept { return _mm_aesenc_si128(x, key); }
  static R last_round(R x, R key) noexcept { return _mm_aesenclast_si128(x, key); }
  static void store(std::byte* at, R x) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), x);
  }
};
