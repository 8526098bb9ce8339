// SPDX-License-Identifier: Apache-2.0
// The field loops over a thin vector type V, written once for all instruction sets: this file takes
// words from slots (consume_*, requantise_*), vector_loops.h has the rest. Neither is an ordinary
// header: a kernel file includes them once, inside its target region and unnamed namespace, after
// its V. V has kWidth lanes of 32 bits in one register W, also seen as kWidth/2 lanes of 64 bits;
// its functions are named after what they do to one lane. Functions called *_some take the number
// of lanes in use, 0 < n < kWidth, and touch no memory beyond them; unused lanes read as zero.
//
// Bounds, for kBlock = 16 positions between two reductions:
//   p24: words < 2^24, c < 2^24: a column sum < 2^52 (what V::weigh takes)
//   p31: words < 2^31, c < 2^24: a column sum < 2^59

constexpr std::size_t kBlock = 16;
constexpr std::size_t kAhead = 4096;

// kMany stands for any number of repetitions; 0, 1 and 2 have loops of their own.
constexpr int kMany = -1;

enum class Store { kCodes, kIntegers, kRaw };

template <class V>
struct Rounding {
  using W = typename V::W;
  W zero_point, lo, hi;  // lo and hi as integers
  W low, high;           // the clamp of the rounded value, as binary32

  // Clamping by integers before the rounding gives what clamping after it gives (rounding is
  // monotone and keeps integers), and spares kCodes the clamp to 2^30.
  Rounding(const Epilogue& e, Store store) noexcept
      : zero_point(V::set(static_cast<std::uint32_t>(e.zero_point))),
        lo(V::set(static_cast<std::uint32_t>(e.lo))),
        hi(V::set(static_cast<std::uint32_t>(e.hi))),
        low(V::set_float(store == Store::kCodes ? static_cast<float>(e.lo - e.zero_point)
                                                : -0x1p30F)),
        high(V::set_float(store == Store::kCodes ? static_cast<float>(e.hi - e.zero_point)
                                                 : 0x1p30F)) {}

  template <Store kStore>
  [[nodiscard, gnu::always_inline]] W apply(W y, W multiplier) const noexcept {
    const W q = V::add(V::round(V::times(y, multiplier), low, high), zero_point);
    if constexpr (kStore == Store::kCodes) return q;
    return V::clamp(q, lo, hi);
  }
};

template <class V, Store kStore, class T>
void store_lanes(T* dst, typename V::W q, std::size_t n) noexcept {
  if constexpr (kStore == Store::kCodes) {
    n == V::kWidth ? V::store_bytes(dst, q) : V::store_bytes_some(dst, q, n);
  } else {
    n == V::kWidth ? V::store(dst, q) : V::store_some(dst, q, n);
  }
}

// Place is where one block of a tile starts: everything the inner loop touches, in values of its
// own, since what it stores might otherwise be taken to change them.
template <class T>
struct Place {
  const std::byte* words;
  const std::uint32_t* u;
  T* dst;
  std::size_t row;  // channels of the whole tensor
};

// take_words loads n words from the slot, each byte once, and does steps 1 and 2 of consume_*:
// largest keeps the largest word of each lane for the range test.
template <class V, Field F, bool kUnblind>
[[gnu::always_inline]] inline typename V::W take_words(const std::byte* words,
                                                       const std::uint32_t* u, std::size_t n,
                                                       typename V::W& largest) noexcept {
  const bool full = n == V::kWidth;
  typename V::W v = full ? V::template slot<F>(words) : V::template slot_some<F>(words, n);
  largest = V::max(largest, v);
  if constexpr (F == Field::kP31) v = V::bits(v, Modulus<F>::kMask);
  if constexpr (kUnblind) {
    v = V::sub(v, full ? V::load(u) : V::load_some(u, n));
    v = V::min(v, V::add(v, V::set(Modulus<F>::kP)));
  }
  return v;
}

// Columns are the sums over the positions of a block, one a channel and repetition, of word times
// c.
template <class V, Field F, int K>
struct Columns {
  static constexpr std::size_t kCount = K > 0 ? static_cast<std::size_t>(K) : 1;
  typename V::W even[kCount];
  typename V::W odd[kCount];

  [[gnu::always_inline]] Columns() noexcept {
    for (std::size_t k = 0; k < kCount; ++k) even[k] = odd[k] = V::zero();
  }
  // c[k * kBlock] is the challenge of this position.
  [[gnu::always_inline]] void add(typename V::W v, const std::uint64_t* c) noexcept {
    const typename V::W low = V::even(v);
    const typename V::W high = V::odd(v);
#pragma GCC unroll 2
    for (std::size_t k = 0; k < kCount; ++k) {
      const typename V::W weight = V::set64(c + k * kBlock);
      even[k] = V::template multiply_add<F>(even[k], low, weight);
      odd[k] = V::template multiply_add<F>(odd[k], high, weight);
    }
  }
  [[gnu::always_inline]] void weigh(std::size_t k, const std::uint32_t* a,
                                    typename V::Sum& sum) const noexcept {
    const typename V::W weight = V::load(a);
    V::template weigh<F>(sum, even[k], V::even(weight));
    V::template weigh<F>(sum, odd[k], V::odd(weight));
  }
};

// consume_block takes `count` positions of n <= kWidth channels: column sums stay in registers and
// meet their a once a block, so that no horizontal addition is inside the loop. The epilogue and a
// point at the block's first channel; ahead is how far to fetch, in bytes.
template <class V, Field F, int K, bool kUnblind, Store kStore, class T>
[[gnu::always_inline]] inline void consume_block(
    Place<T> at, std::size_t count, std::size_t n, std::size_t ahead, const std::uint64_t* c,
    const OutputChallenge& challenge, std::size_t ch, const Epilogue& epilogue,
    const Rounding<V>& rounding, typename V::W& largest, typename V::Sum* sums) noexcept {
  using W = typename V::W;
  const W threshold = V::load(epilogue.threshold + ch);
  const W offset = V::load(epilogue.offset + ch);
  const W multiplier = V::load(epilogue.multiplier + ch);
  Columns<V, F, K> columns;
  W kept[K == kMany ? kBlock : 1];
  for (std::size_t p = 0; p < count; ++p) {
    __builtin_prefetch(at.words + ahead, 0, 2);
    const W v = take_words<V, F, kUnblind>(at.words, at.u, n, largest);
    if constexpr (K > 0) columns.add(v, c + p);
    if constexpr (K == kMany) kept[p] = v;
    W y = V::add(V::sub_where_above(v, threshold, V::set(Modulus<F>::kP)), offset);
    if constexpr (kStore != Store::kRaw) y = rounding.template apply<kStore>(y, multiplier);
    store_lanes<V, kStore>(at.dst, y, n);
    at.words += at.row * word_bytes(F);
    if constexpr (kUnblind) at.u += at.row;
    at.dst += at.row;
  }
  if constexpr (K > 0) {
    for (std::size_t k = 0; k < Columns<V, F, K>::kCount; ++k) {
      columns.weigh(k, challenge.a + k * challenge.a_stride + ch, sums[k]);
    }
  } else if constexpr (K == kMany) {
    for (std::size_t k = 0; k < challenge.repetitions; ++k) {
      Columns<V, F, 1> column;
      for (std::size_t p = 0; p < count; ++p) column.add(kept[p], c + k * kBlock + p);
      column.weigh(0, challenge.a + k * challenge.a_stride + ch, sums[k]);
    }
  }
}

// consume_quad is consume_block for four registers' worth of channels, codes only, and multipliers
// of at most 1/2, so that no product leaves int32: loads fill whole registers, and rounding narrows
// all four at a time, saturating to 16 bits, then to 8, before the clamp.
template <class V, Field F, int K, bool kUnblind>
[[gnu::always_inline]] inline void consume_quad(
    Place<std::uint8_t> at, std::size_t count, std::size_t ahead, const std::uint64_t* c,
    const OutputChallenge& challenge, std::size_t ch, const Epilogue& epilogue,
    const typename V::Narrow& narrow, typename V::W& largest, typename V::Sum* sums) noexcept {
  using W = typename V::W;
  const std::uint32_t* const threshold = epilogue.threshold + ch;
  const std::int32_t* const offset = epilogue.offset + ch;
  const float* const multiplier = epilogue.multiplier + ch;
  Columns<V, F, K> columns[4];
  for (std::size_t p = 0; p < count; ++p) {
    for (std::size_t line = 0; line < word_bytes(F); ++line) {
      __builtin_prefetch(at.words + ahead + line * V::kBytes, 0, 2);
    }
    W v[4];
    V::template slots<F>(at.words, v);
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
      largest = V::max(largest, v[i]);
      if constexpr (F == Field::kP31) v[i] = V::bits(v[i], Modulus<F>::kMask);
      if constexpr (kUnblind) {
        v[i] = V::sub(v[i], V::load(at.u + i * V::kWidth));
        v[i] = V::min(v[i], V::add(v[i], V::set(Modulus<F>::kP)));
      }
      if constexpr (K > 0) columns[i].add(v[i], c + p);
      const W y = V::add(
          V::sub_where_above(v[i], V::load(threshold + i * V::kWidth), V::set(Modulus<F>::kP)),
          V::load(offset + i * V::kWidth));
      v[i] = V::round_any(V::times(y, V::load(multiplier + i * V::kWidth)));
    }
    narrow.store(at.dst, v);
    at.words += at.row * word_bytes(F);
    if constexpr (kUnblind) at.u += at.row;
    at.dst += at.row;
  }
  if constexpr (K > 0) {
    for (std::size_t i = 0; i < 4; ++i) {
      for (std::size_t k = 0; k < Columns<V, F, K>::kCount; ++k) {
        columns[i].weigh(k, challenge.a + k * challenge.a_stride + ch + i * V::kWidth, sums[k]);
      }
    }
  }
}

template <class V, Field F, int K, bool kUnblind, Store kStore, class T>
void consume_tile(const OutputTile& tile, const OutputChallenge& challenge,
                  const Epilogue& epilogue, T* dst, OutputSum& out) noexcept {
  constexpr std::size_t kSums = K == kMany ? kMaxRepetitions : Columns<V, F, K>::kCount;
  const std::size_t channels = tile.channels;
  const std::size_t repetitions = challenge.repetitions;
  const Rounding<V> rounding(epilogue, kStore);
  // Whole blocks of positions, so that what is fetched is what a later block reads.
  const std::size_t block_bytes = kBlock * channels * word_bytes(F);
  const std::size_t ahead = (kAhead + block_bytes - 1) / block_bytes * block_bytes;
  typename V::W largest = V::zero();
  typename V::Sum sums[kSums];
  for (std::size_t k = 0; k < kSums; ++k) sums[k] = V::no_sum();
  alignas(64) std::uint64_t c[kSums * kBlock];  // of the block at work
  for (std::size_t p0 = 0; p0 < tile.positions; p0 += kBlock) {
    const std::size_t count = tile.positions - p0 < kBlock ? tile.positions - p0 : kBlock;
    for (std::size_t k = 0; k < repetitions; ++k) {
      const std::uint32_t* const from = challenge.c + k * challenge.c_stride + p0;
      for (std::size_t p = 0; p < count; ++p) c[k * kBlock + p] = from[p];
    }
    Place<T> at{tile.words + p0 * channels * word_bytes(F),
                kUnblind ? tile.u + p0 * channels : nullptr, dst + p0 * channels, channels};
    std::size_t ch = 0;
    if constexpr (V::kQuads && kStore == Store::kCodes && K != kMany) {
      const typename V::Narrow narrow(epilogue);
      for (; epilogue.tame && ch + 4 * V::kWidth <= channels; ch += 4 * V::kWidth) {
        consume_quad<V, F, K, kUnblind>(at, count, ahead, c, challenge, ch, epilogue, narrow,
                                        largest, sums);
        at.words += 4 * V::kWidth * word_bytes(F);
        if constexpr (kUnblind) at.u += 4 * V::kWidth;
        at.dst += 4 * V::kWidth;
        if (ch % (256 * V::kWidth) == 0) {
          for (std::size_t k = 0; k < kSums; ++k) V::settle(sums[k]);
        }
      }
    }
    for (; ch + V::kWidth <= channels; ch += V::kWidth) {
      consume_block<V, F, K, kUnblind, kStore>(at, count, V::kWidth, ahead, c, challenge, ch,
                                               epilogue, rounding, largest, sums);
      at.words += V::kWidth * word_bytes(F);
      if constexpr (kUnblind) at.u += V::kWidth;
      at.dst += V::kWidth;
      // Sums take 2^11 weighed columns before they must be settled; a block adds two.
      if (ch % (256 * V::kWidth) == 0) {
        for (std::size_t k = 0; k < kSums; ++k) V::settle(sums[k]);
      }
    }
    if (ch < channels) {
      consume_block<V, F, K, kUnblind, kStore>(at, count, channels - ch, ahead, c, challenge, ch,
                                               epilogue, rounding, largest, sums);
    }
    for (std::size_t k = 0; k < kSums; ++k) V::settle(sums[k]);
    if constexpr (kStore == Store::kCodes) {
      if (epilogue.table != nullptr) {
        V::apply_table(epilogue.table, dst + p0 * channels, count * channels);
      }
    }
  }
  for (std::size_t k = 0; k < repetitions; ++k) {
    std::uint32_t& sum = out.residues.value[k];
    sum = Modulus<F>::add(sum, V::template finish<F>(sums[k]));
  }
  out.bad |= V::any_above(largest, Modulus<F>::kP - 1);
}

template <class V, Field F, bool kUnblind, Store kStore, class T>
void consume_field(const OutputTile& tile, const OutputChallenge& challenge,
                   const Epilogue& epilogue, T* dst, OutputSum& sum) noexcept {
  switch (challenge.repetitions) {
    case 0:
      return consume_tile<V, F, 0, kUnblind, kStore>(tile, challenge, epilogue, dst, sum);
    case 1:
      return consume_tile<V, F, 1, kUnblind, kStore>(tile, challenge, epilogue, dst, sum);
    case 2:
      return consume_tile<V, F, 2, kUnblind, kStore>(tile, challenge, epilogue, dst, sum);
    default:
      return consume_tile<V, F, kMany, kUnblind, kStore>(tile, challenge, epilogue, dst, sum);
  }
}

template <class V, Store kStore, class T>
void consume(const OutputTile& tile, const OutputChallenge& challenge, const Epilogue& epilogue,
             T* dst, OutputSum& sum) noexcept {
  if (tile.field == Field::kP24) {
    tile.u == nullptr
        ? consume_field<V, Field::kP24, false, kStore>(tile, challenge, epilogue, dst, sum)
        : consume_field<V, Field::kP24, true, kStore>(tile, challenge, epilogue, dst, sum);
  } else {
    tile.u == nullptr
        ? consume_field<V, Field::kP31, false, kStore>(tile, challenge, epilogue, dst, sum)
        : consume_field<V, Field::kP31, true, kStore>(tile, challenge, epilogue, dst, sum);
  }
}

template <class V, Store kStore, class T>
void requantise(const std::int32_t* y, std::size_t positions, std::size_t channels,
                const Epilogue& epilogue, T* dst) noexcept {
  const Rounding<V> rounding(epilogue, kStore);
  for (std::size_t p = 0; p < positions; ++p) {
    for (std::size_t ch = 0; ch < channels; ch += V::kWidth) {
      const std::size_t n = channels - ch < V::kWidth ? channels - ch : V::kWidth;
      const std::size_t at = p * channels + ch;
      const typename V::W in = n == V::kWidth ? V::load(y + at) : V::load_some(y + at, n);
      store_lanes<V, kStore>(
          dst + at, rounding.template apply<kStore>(in, V::load(epilogue.multiplier + ch)), n);
    }
  }
  if constexpr (kStore == Store::kCodes) {
    if (epilogue.table != nullptr) V::apply_table(epilogue.table, dst, positions * channels);
  }
}
