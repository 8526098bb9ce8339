// SPDX-License-Identifier: Apache-2.0
// Pad candidates (pad_stream.h) by the CPU's AES instructions; included after vector_consume.h and
// Blocks, a register of one or more cipher blocks.

// expand_key is the key schedule of AES-256 (FIPS 197, section 5.2): 15 round keys of 16 bytes.
inline void expand_key(const std::byte* key, std::byte* round_keys) noexcept {
  __m128i keys[15];
  std::memcpy(keys, key, 32);
  for (std::size_t i = 2; i < 15; ++i) {
    const __m128i assist = _mm_aeskeygenassist_si128(keys[i - 1], 0);
    const __m128i word = i % 2 == 0
                             ? _mm_shuffle_epi32(assist, 0xff) ^ _mm_set1_epi32(1 << (i / 2 - 1))
                             : _mm_shuffle_epi32(assist, 0xaa);
    keys[i] = keys[i - 2] ^ _mm_slli_si128(keys[i - 2], 4);
    keys[i] ^= _mm_slli_si128(keys[i], 8);
    keys[i] ^= word;
  }
  std::memcpy(round_keys, keys, sizeof(keys));
}

constexpr std::size_t kBlocks = sizeof(Blocks) / 16;
// One group is kPadGroup words: a whole number of registers in both fields.
constexpr std::size_t kPadGroup = 128;

using Counters [[gnu::vector_size(sizeof(Blocks))]] = std::uint64_t;

struct PadCipher {
  Blocks keys[15];
  Counters start{};   // counter blocks 0, 1 ... of the stream, each as two numbers
  Counters second{};  // all ones where a block number is
  Blocks big_endian;

  PadCipher(const std::byte* round_keys, std::uint64_t stream) noexcept
      : big_endian(
            all_blocks(_mm_setr_epi8(7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8))) {
    for (std::size_t i = 0; i < 15; ++i) {
      keys[i] = all_blocks(_mm_loadu_si128(reinterpret_cast<const __m128i*>(round_keys) + i));
    }
    for (std::size_t i = 0; i < kBlocks; ++i) {
      start[2 * i] = stream;
      start[2 * i + 1] = i;
      second[2 * i] = 0;
      second[2 * i + 1] = ~std::uint64_t{0};
    }
  }

  // encrypt makes kRegisters registers of keystream from block number `block` on.
  template <std::size_t kRegisters>
  [[gnu::always_inline]] void encrypt(std::uint64_t block, Blocks* out) const noexcept {
    Counters counter = start + (second & block);
    Blocks x[kRegisters];
    for (std::size_t i = 0; i < kRegisters; ++i) {
      x[i] = shuffle_blocks(Blocks(counter), big_endian) ^ keys[0];
      counter += second & kBlocks;
    }
    for (std::size_t round = 1; round < 14; ++round) {
      for (std::size_t i = 0; i < kRegisters; ++i) x[i] = aes_round(x[i], keys[round]);
    }
    for (std::size_t i = 0; i < kRegisters; ++i) out[i] = last_aes_round(x[i], keys[14]);
  }
};

// pad_group writes the candidates of one group and returns the largest of each lane.
template <Field F>
[[gnu::always_inline]] inline Words pad_group(const PadCipher& cipher, std::uint64_t group,
                                              std::uint32_t* out) noexcept {
  constexpr std::size_t kSize = kPadGroup * word_bytes(F);
  constexpr std::size_t kAtOnce = min(kSize / sizeof(Blocks), std::size_t{8});
  alignas(64) std::byte bytes[kSize];
  for (std::size_t i = 0; i < kSize; i += kAtOnce * sizeof(Blocks)) {
    cipher.template encrypt<kAtOnce>((group * kSize + i) / 16,
                                     reinterpret_cast<Blocks*>(bytes + i));
  }
  Words largest{};
  for (std::size_t i = 0; i < kPadGroup; i += kWidth) {
    Words w = slot<F>(bytes + i * word_bytes(F), kWidth);
    if constexpr (F == Field::kP31) w &= Modulus<F>::kMask;
    largest = max(largest, w);
    store(out + i, w);
  }
  return largest;
}

template <Field F>
bool pad_candidates(Field /*f*/, const std::byte* round_keys, std::uint64_t stream,
                    std::uint64_t first, std::size_t n, std::uint32_t* out) noexcept {
  const PadCipher cipher(round_keys, stream);
  Words largest{};
  std::size_t count = 0;
  for (std::size_t done = 0; done < n; done += count) {
    const std::uint64_t group = (first + done) / kPadGroup;
    const std::size_t skip = (first + done) % kPadGroup;
    count = min(kPadGroup - skip, n - done);
    if (count == kPadGroup) {
      largest = max(largest, pad_group<F>(cipher, group, out + done));
    } else {
      alignas(64) std::uint32_t words[kPadGroup];
      (void)pad_group<F>(cipher, group, words);
      for (std::size_t i = 0; i < count; ++i) {
        out[done + i] = words[skip + i];
        largest = max(largest, set(words[skip + i]));
      }
    }
  }
  return any_not_below_p<F>(largest) != 0;
}
