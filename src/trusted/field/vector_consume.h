// SPDX-License-Identifier: Apache-2.0
// The kernels that take words from slots (consume_*, requantise_codes), over the registers of
// vector.h; included after what an instruction set adds to it.
//
// Bounds, for kBlock = 16 positions between two reductions:
//   p24: words < 2^24, c < 2^24: a column sum < 2^52 (what weigh takes)
//   p31: words < 2^31, c < 2^24: a column sum < 2^59

constexpr std::size_t kBlock = 16;
constexpr std::size_t kAhead = 4096;

// kMany stands for any number of repetitions; 0, 1 and 2 have loops of their own.
constexpr int kMany = -1;

// slot loads n words of a slot, each byte once, into a register that the compiler cannot reload.
template <Field F>
[[gnu::always_inline]] inline Words slot(const std::byte* at, std::size_t n) noexcept {
  if constexpr (F == Field::kP31) return opaque(load(at, n));
  return spread(opaque(load_packed(at, n)));
}

inline Floats times(Words y, Floats multiplier) noexcept {
  return __builtin_convertvector(Ints(y), Floats) * multiplier;
}

// Rounding makes stored values of type T: codes in uint8, or integers in int32.
template <class T>
struct Rounding {
  static constexpr std::size_t kRegisters = 1;  // that one call of store takes
  static constexpr bool kCodes = sizeof(T) == 1;
  Words zero_point;
  Ints lo, hi;
  Floats low, high;  // the clamp of the rounded value

  // Clamping by integers before the rounding gives what clamping after it gives (rounding is
  // monotone and keeps integers), and spares codes the clamp to 2^30.
  explicit Rounding(const Epilogue& e) noexcept
      : zero_point(set(static_cast<std::uint32_t>(e.zero_point))),
        lo(Ints{} + e.lo),
        hi(Ints{} + e.hi),
        low(Floats{} + (kCodes ? static_cast<float>(e.lo - e.zero_point) : -0x1p30F)),
        high(Floats{} + (kCodes ? static_cast<float>(e.hi - e.zero_point) : 0x1p30F)) {}

  // load and store: n lanes of the register, 0 < n <= kWidth.
  template <Field F>
  [[gnu::always_inline]] static void load(const std::byte* at, std::size_t n, Words* v) noexcept {
    *v = slot<F>(at, n);
  }
  [[nodiscard, gnu::always_inline]] Words round(Floats v) const noexcept {
    const Words q = nearest(min(max(v, low), high)) + zero_point;
    return kCodes ? q : Words(min(max(Ints(q), lo), hi));
  }
  [[gnu::always_inline]] void store(T* at, const Words* q, std::size_t n) const noexcept {
    if constexpr (kCodes) {
      store_bytes(at, *q, n);
    } else {
      field::store(at, *q, n);
    }
  }
};

// Place is where one block of a tile starts: everything the inner loop touches, in values of its
// own, since what it stores might otherwise be taken to change them.
template <Field F, class T>
struct Place {
  const std::byte* words;
  const std::uint32_t* u;  // or none
  T* dst;
  [[gnu::always_inline]] void skip(std::size_t n) noexcept {
    words += n * word_bytes(F);
    if (u != nullptr) u += n;
    dst += n;
  }
};

// Columns are the sums over the positions of a block, one a channel and repetition, of word times
// c.
template <Field F, int K>
struct Columns {
  static constexpr std::size_t kCount = K > 0 ? static_cast<std::size_t>(K) : 1;
  Column low[kCount] = {};
  Column high[kCount] = {};

  // c[k * kBlock] is the challenge of this position.
  [[gnu::always_inline]] void add(Words v, const std::uint64_t* c) noexcept {
#pragma GCC unroll 2
    for (std::size_t k = 0; k < kCount; ++k) {
      const Pairs weight = Pairs{} + c[k * kBlock];
      low[k] = multiply_add<F>(low[k], even(v), weight);
      high[k] = multiply_add<F>(high[k], Pairs(v) >> 32, weight);
    }
  }
  [[gnu::always_inline]] void weigh(std::size_t k, const std::uint32_t* a,
                                    Sum& sum) const noexcept {
    const Words weight = load(a);
    field::weigh<F>(sum, low[k], even(weight));
    field::weigh<F>(sum, high[k], Pairs(weight) >> 32);
    settle(sum);
  }
};

// consume_block takes `count` positions of n channels, n <= kWidth, or of all lanes of Round's
// registers: column sums stay in registers and meet their a once a block, so that no horizontal
// addition is inside the loop. ahead is how far to fetch, in bytes.
template <Field F, bool kUnblind, int K, class T, class Round>
[[gnu::always_inline]] inline void consume_block(Place<F, T> at, std::size_t row, std::size_t count,
                                                 std::size_t n, std::size_t ahead,
                                                 const std::uint64_t* c,
                                                 const OutputChallenge& challenge, std::size_t ch,
                                                 const Epilogue& epilogue, const Round& round,
                                                 Words& largest, Sum* sums) noexcept {
  constexpr std::size_t kRegisters = Round::kRegisters;
  const std::uint32_t* const threshold = epilogue.threshold + ch;
  const std::int32_t* const offset = epilogue.offset + ch;
  const float* const multiplier = epilogue.multiplier + ch;
  Columns<F, K> columns[kRegisters];
  Words kept[K == kMany ? kBlock : 1];
  for (std::size_t p = 0; p < count; ++p) {
    for (std::size_t line = 0; line < (kRegisters * word_bytes(F) + 3) / 4; ++line) {
      __builtin_prefetch(at.words + ahead + line * kBytes, 0, 2);
    }
    Words v[kRegisters];
    Round::template load<F>(at.words, n, v);
#pragma GCC unroll 4
    for (std::size_t i = 0; i < kRegisters; ++i) {
      const std::size_t lane = i * kWidth;
      largest = max(largest, v[i]);
      if constexpr (F == Field::kP31) v[i] &= Modulus<F>::kMask;
      if constexpr (kUnblind) {
        v[i] -= load(at.u + lane, n);
        v[i] = min(v[i], v[i] + Modulus<F>::kP);
      }
      if constexpr (K > 0) columns[i].add(v[i], c + p);
      if constexpr (K == kMany) kept[p] = v[i];
      const auto above = Ints(v[i]) > Ints(load(threshold + lane));
      v[i] = (above ? v[i] - Modulus<F>::kP : v[i]) + load(offset + lane);
      v[i] = round.round(times(v[i], Floats(load(multiplier + lane))));
    }
    round.store(at.dst, v, n);
    at.skip(row);
  }
#pragma GCC unroll 4
  for (std::size_t i = 0; i < kRegisters; ++i) {
    const std::size_t channel = ch + i * kWidth;
    if constexpr (K > 0) {
#pragma GCC unroll 2
      for (std::size_t k = 0; k < Columns<F, K>::kCount; ++k) {
        columns[i].weigh(k, challenge.a + k * challenge.a_stride + channel, sums[k]);
      }
    } else if constexpr (K == kMany) {
      for (std::size_t k = 0; k < challenge.repetitions; ++k) {
        Columns<F, 1> column;
        for (std::size_t p = 0; p < count; ++p) column.add(kept[p], c + k * kBlock + p);
        column.weigh(0, challenge.a + k * challenge.a_stride + channel, sums[k]);
      }
    }
  }
}

inline void apply_table(const std::uint8_t* table, std::uint8_t* codes, std::size_t n) noexcept {
  std::size_t i = 0;
  for (; i + kBytes <= n; i += kBytes) store(codes + i, look_up(table, load(codes + i)));
  if (i == n) return;
  alignas(kBytes) std::uint8_t tail[kBytes] = {};
  std::memcpy(tail, codes + i, n - i);
  store(tail, look_up(table, load(tail)));
  std::memcpy(codes + i, tail, n - i);
}

template <Field F, bool kUnblind, int K, class T>
void consume_tile(const OutputTile& tile, const OutputChallenge& challenge,
                  const Epilogue& epilogue, T* dst, OutputSum& out) noexcept {
  constexpr bool kNarrow = Narrow::kRegisters > 1 && sizeof(T) == 1 && K != kMany;
  constexpr std::size_t kSums = K == kMany ? kMaxRepetitions : Columns<F, K>::kCount;
  const std::size_t channels = tile.channels;
  const std::size_t repetitions = K == kMany ? challenge.repetitions : static_cast<std::size_t>(K);
  const Rounding<T> rounding(epilogue);
  // Whole blocks of positions, so that what is fetched is what a later block reads.
  const std::size_t ahead = base::round_up(kAhead, kBlock * channels * word_bytes(F));
  Words largest{};
  Sum sums[kSums] = {};
  alignas(64) std::uint64_t c[kSums * kBlock];  // of the block at work
  Place<F, T> block{tile.words, tile.u, dst};
  for (std::size_t p0 = 0; p0 < tile.positions; p0 += kBlock) {
    const std::size_t count = min(kBlock, tile.positions - p0);
    for (std::size_t k = 0; k < repetitions; ++k) {
      const std::uint32_t* const from = challenge.c + k * challenge.c_stride + p0;
      for (std::size_t p = 0; p < count; ++p) c[k * kBlock + p] = from[p];
    }
    Place<F, T> at = block;
    std::size_t ch = 0;
    if constexpr (kNarrow) {
      constexpr std::size_t kLanes = Narrow::kRegisters * kWidth;
      const Narrow narrow(epilogue);
      for (; epilogue.tame && ch + kLanes <= channels; ch += kLanes) {
        consume_block<F, kUnblind, K>(at, channels, count, kWidth, ahead, c, challenge, ch,
                                      epilogue, narrow, largest, sums);
        at.skip(kLanes);
      }
    }
    for (; ch + kWidth <= channels; ch += kWidth) {
      consume_block<F, kUnblind, K>(at, channels, count, kWidth, ahead, c, challenge, ch, epilogue,
                                    rounding, largest, sums);
      at.skip(kWidth);
    }
    if (ch < channels) {
      consume_block<F, kUnblind, K>(at, channels, count, channels - ch, ahead, c, challenge, ch,
                                    epilogue, rounding, largest, sums);
    }
    if constexpr (sizeof(T) == 1) {
      if (epilogue.table != nullptr) apply_table(epilogue.table, block.dst, count * channels);
    }
    block.skip(count * channels);
  }
  for (std::size_t k = 0; k < repetitions; ++k) {
    std::uint32_t& sum = out.residues.value[k];
    sum = Modulus<F>::add(sum, finish<F>(sums[k]));
  }
  out.bad |= any_not_below_p<F>(largest);
}

template <Field F, bool kUnblind, class T>
void consume_checked(const OutputTile& tile, const OutputChallenge& challenge,
                     const Epilogue& epilogue, T* dst, OutputSum& sum) noexcept {
  switch (challenge.repetitions) {
    case 0:
      return consume_tile<F, kUnblind, 0>(tile, challenge, epilogue, dst, sum);
    case 1:
      return consume_tile<F, kUnblind, 1>(tile, challenge, epilogue, dst, sum);
    case 2:
      return consume_tile<F, kUnblind, 2>(tile, challenge, epilogue, dst, sum);
    default:
      return consume_tile<F, kUnblind, kMany>(tile, challenge, epilogue, dst, sum);
  }
}

template <Field F, class T>
void consume(const OutputTile& tile, const OutputChallenge& challenge, const Epilogue& epilogue,
             T* dst, OutputSum& sum) noexcept {
  tile.u == nullptr ? consume_checked<F, false>(tile, challenge, epilogue, dst, sum)
                    : consume_checked<F, true>(tile, challenge, epilogue, dst, sum);
}

// requantise takes n <= kWidth channels of every position, or all lanes of Round's registers.
template <class Round>
inline void requantise(const IntegerTile& tile, std::size_t ch, std::size_t n,
                       const Epilogue& epilogue, const Round& round, std::uint8_t* dst,
                       std::size_t dst_stride) noexcept {
  Floats multiplier[Round::kRegisters];
  for (std::size_t i = 0; i < Round::kRegisters; ++i) {
    multiplier[i] = Floats(load(epilogue.multiplier + ch + i * kWidth));
  }
  const std::int32_t* y = tile.y + ch;
  dst += ch;
  for (std::size_t p = 0; p < tile.positions; ++p, y += tile.stride, dst += dst_stride) {
    Words q[Round::kRegisters];
#pragma GCC unroll 4
    for (std::size_t i = 0; i < Round::kRegisters; ++i) {
      q[i] = round.round(times(load(y + i * kWidth, n), multiplier[i]));
    }
    round.store(dst, q, n);
  }
}

inline void requantise_codes(const IntegerTile& tile, const Epilogue& epilogue, std::uint8_t* dst,
                             std::size_t dst_stride) noexcept {
  std::size_t ch = 0;
  if constexpr (Narrow::kRegisters > 1) {
    constexpr std::size_t kLanes = Narrow::kRegisters * kWidth;
    const Narrow narrow(epilogue);
    for (; epilogue.tame && ch + kLanes <= tile.channels; ch += kLanes) {
      requantise(tile, ch, kWidth, epilogue, narrow, dst, dst_stride);
    }
  }
  const Rounding<std::uint8_t> rounding(epilogue);
  for (; ch < tile.channels; ch += kWidth) {
    requantise(tile, ch, min(tile.channels - ch, kWidth), epilogue, rounding, dst, dst_stride);
  }
  if (epilogue.table == nullptr) return;
  const bool dense = dst_stride == tile.channels;
  for (std::size_t p = 0; p < (dense ? 1 : tile.positions); ++p) {
    apply_table(epilogue.table, dst + p * dst_stride, tile.channels * (dense ? tile.positions : 1));
  }
}
