// SPDX-License-Identifier: Apache-2.0
// The field loops over a thin vector type V, written once for all instruction sets. Not an ordinary
// header: a kernel file includes it once, inside its target region and unnamed namespace, after its
// V. V has kWidth lanes of 32 bits in one register W, also seen as kWidth/2 lanes of 64 bits; its
// functions are named after what they do to one lane. Functions called *_some take the number of
// lanes in use, 0 < n < kWidth, and touch no memory beyond them; unused lanes read as zero.
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
  [[gnu::always_inline]] W apply(W y, W multiplier) const noexcept {
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
  const std::uint32_t* const a = challenge.a + ch;
  if constexpr (K > 0) {
    for (std::size_t k = 0; k < Columns<V, F, K>::kCount; ++k) {
      columns.weigh(k, a + k * challenge.a_stride, sums[k]);
    }
  } else if constexpr (K == kMany) {
    for (std::size_t k = 0; k < challenge.repetitions; ++k) {
      Columns<V, F, 1> column;
      for (std::size_t p = 0; p < count; ++p) column.add(kept[p], c + k * kBlock + p);
      column.weigh(0, a + k * challenge.a_stride, sums[k]);
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

// ---- writing to slots ----

template <class V>
void send_codes(const std::uint8_t* codes, std::size_t n, std::byte* slot) noexcept {
  const std::size_t off = (0 - reinterpret_cast<std::uintptr_t>(slot)) % V::kBytes;
  const std::size_t head = off < n ? off : n;
  std::memcpy(slot, codes, head);
  std::size_t i = head;
  for (; i + V::kBytes <= n; i += V::kBytes) V::stream(slot + i, V::load(codes + i));
  std::memcpy(slot + i, codes + i, n - i);
}

// head_words is how many words lie before the first register-aligned address, or n if there is
// none.
template <class V, Field F>
std::size_t head_words(const std::byte* slot, std::size_t n) noexcept {
  const std::size_t off = (0 - reinterpret_cast<std::uintptr_t>(slot)) % V::kBytes;
  std::size_t head = n;
  if constexpr (F == Field::kP24) {
    head = off * 43 % V::kBytes;  // 43 * 3 = 1 modulo 64 and 32
  } else if (off % 4 == 0) {
    head = off / 4;
  }
  return head < n ? head : n;
}

template <class V, Field F>
[[gnu::always_inline]] inline typename V::W blinded(typename V::W code, typename V::W zero,
                                                    typename V::W r) noexcept {
  const typename V::W p = V::set(Modulus<F>::kP);
  const typename V::W d = V::sub(code, zero);          // -255..255
  const typename V::W word = V::min(d, V::add(d, p));  // the same mod p, below p
  const typename V::W sum = V::add(word, r);           // below 2p < 2^32
  return V::min(sum, V::sub(sum, p));
}

template <class V, Field F>
void blind_some(const std::uint8_t* codes, typename V::W zero, const std::uint32_t* r,
                std::size_t n, std::byte* slot) noexcept {
  alignas(64) std::byte packed[V::kBytes];
  for (std::size_t i = 0; i < n; i += V::kWidth) {
    const std::size_t m = n - i < V::kWidth ? n - i : V::kWidth;
    const bool full = m == V::kWidth;
    const typename V::W code = full ? V::load_bytes(codes + i) : V::load_bytes_some(codes + i, m);
    const typename V::W pad = full ? V::load(r + i) : V::load_some(r + i, m);
    V::store(packed, V::template packed<F>(blinded<V, F>(code, zero, pad)));
    std::memcpy(slot + i * word_bytes(F), packed, m * word_bytes(F));
  }
}

template <class V, Field F>
void blind_field(const std::uint8_t* codes, std::uint8_t zero_code, const std::uint32_t* r,
                 std::size_t n, std::byte* slot) noexcept {
  constexpr std::size_t kGroup = 4 * V::kWidth;
  const typename V::W zero = V::set(zero_code);
  std::size_t i = head_words<V, F>(slot, n);
  blind_some<V, F>(codes, zero, r, i, slot);
  for (; i + kGroup <= n; i += kGroup) {
    typename V::W words[4];
    for (std::size_t j = 0; j < 4; ++j) {
      const std::size_t at = i + j * V::kWidth;
      words[j] = blinded<V, F>(V::load_bytes(codes + at), zero, V::load(r + at));
    }
    V::template stream_words<F>(slot + i * word_bytes(F), words);
  }
  blind_some<V, F>(codes + i, zero, r + i, n - i, slot + i * word_bytes(F));
}

template <class V>
void blind(Field f, const std::uint8_t* codes, std::uint8_t zero, const std::uint32_t* r,
           std::size_t n, std::byte* slot) noexcept {
  f == Field::kP24 ? blind_field<V, Field::kP24>(codes, zero, r, n, slot)
                   : blind_field<V, Field::kP31>(codes, zero, r, n, slot);
}

// ---- linear combinations and dot products, in 64-bit lanes ----

// canonical takes 64-bit lanes of any value to canonical words in the low halves.
template <class V, Field F>
[[gnu::always_inline]] inline typename V::W canonical(typename V::W x) noexcept {
  for (int i = 0; i < 3; ++i) x = V::template fold<F>(x);
  return V::min(x, V::sub(x, V::set_pairs(Modulus<F>::kP)));
}

// kTerms is how many products of a word and a value below 2^kValueBits fit 64 bits on top of a
// folded sum; 0: fold each product.
template <Field F, unsigned kValueBits>
constexpr std::size_t terms_between_folds() noexcept {
  constexpr unsigned kBits = Modulus<F>::kBits + kValueBits;
  return kBits >= 62 ? 1 : std::size_t{1} << (62 - kBits < 20 ? 62 - kBits : 20);
}

// Lanes reads kWidth*2 values a time as 64-bit lanes; a short run is copied out first, filled up
// with zeros. V::widen takes int8 weights as w + 128, codes and words as they are.
template <class V, class T>
struct Lanes {
  static constexpr std::size_t kCount = 2 * V::kWidth;
  const T* at;
  alignas(64) T tail[kCount];

  Lanes(const T* row, std::size_t m) noexcept : at(row) {
    if (m == kCount) return;
    std::memset(tail, 0, sizeof(tail));
    std::memcpy(tail, row, m * sizeof(T));
    at = tail;
  }
  [[gnu::always_inline]] typename V::W operator[](std::size_t j) const noexcept {
    return V::widen(at + j * (V::kWidth / 2));
  }
};

// combine: products are of unsigned numbers; `shift` (128 for weights, the zero code for codes)
// times the sum of all coefficients is taken off at the start.
template <class V, Field F, class T>
void combine_field(const std::uint32_t* coefficients, const T* const* rows, std::size_t num_rows,
                   std::uint32_t shift, std::size_t n, std::uint32_t* out) noexcept {
  using W = typename V::W;
  using M = Modulus<F>;
  constexpr std::size_t kCount = Lanes<V, T>::kCount;
  constexpr std::size_t kEvery = terms_between_folds < F, sizeof(T) == 1 ? 8 : M::kBits > ();
  std::uint32_t total = 0;
  for (std::size_t t = 0; t < num_rows; ++t) total = M::add(total, coefficients[t]);
  const W back = V::set_pairs(M::sub(0, M::mul(total, shift)));
  for (std::size_t i = 0; i < n; i += kCount) {
    const std::size_t m = n - i < kCount ? n - i : kCount;
    W sum[4] = {back, back, back, back};
    for (std::size_t t = 0; t < num_rows; ++t) {
      const W c = V::set_pairs(coefficients[t]);
      const Lanes<V, T> row(rows[t] + i, m);
      for (std::size_t j = 0; j < 4; ++j) sum[j] = V::add64(sum[j], V::multiply(row[j], c));
      if ((t + 1) % kEvery == 0) {
        for (std::size_t j = 0; j < 4; ++j) sum[j] = V::template fold<F>(sum[j]);
      }
    }
    alignas(64) std::uint32_t words[kCount];
    for (std::size_t j = 0; j < 4; ++j) {
      V::narrow(words + j * (V::kWidth / 2), canonical<V, F>(sum[j]));
    }
    std::memcpy(out + i, words, m * sizeof(std::uint32_t));
  }
}

template <class V, class T>
void combine(Field f, const std::uint32_t* coefficients, const T* const* rows, std::size_t num_rows,
             std::uint32_t shift, std::size_t n, std::uint32_t* out) noexcept {
  f == Field::kP24 ? combine_field<V, Field::kP24>(coefficients, rows, num_rows, shift, n, out)
                   : combine_field<V, Field::kP31>(coefficients, rows, num_rows, shift, n, out);
}
template <class V>
void combine_words(Field f, const std::uint32_t* coefficients, const std::uint32_t* const* rows,
                   std::size_t num_rows, std::size_t n, std::uint32_t* out) noexcept {
  combine<V>(f, coefficients, rows, num_rows, 0, n, out);
}
template <class V>
void combine_weights(Field f, const std::uint32_t* coefficients, const std::int8_t* const* rows,
                     std::size_t num_rows, std::size_t n, std::uint32_t* out) noexcept {
  combine<V>(f, coefficients, rows, num_rows, 128, n, out);
}
template <class V>
void combine_codes(Field f, const std::uint32_t* coefficients, const std::uint8_t* const* rows,
                   std::size_t num_rows, std::uint8_t zero, std::size_t n,
                   std::uint32_t* out) noexcept {
  combine<V>(f, coefficients, rows, num_rows, zero, n, out);
}

// sum_lanes adds 64-bit lanes mod p. REQUIRES: lanes below 2^60.
template <class V, Field F>
std::uint32_t sum_lanes(typename V::W x) noexcept {
  alignas(64) std::uint64_t lanes[V::kWidth / 2];
  V::store(lanes, V::template fold<F>(x));
  std::uint64_t sum = 0;
  for (const std::uint64_t lane : lanes) sum += lane;
  return Modulus<F>::reduce(sum);
}

template <class V, Field F, class T>
std::uint32_t dot_field(const T* x, const std::uint32_t* s, std::size_t n) noexcept {
  using W = typename V::W;
  using M = Modulus<F>;
  constexpr std::size_t kCount = Lanes<V, T>::kCount;
  constexpr std::size_t kEvery = terms_between_folds < F, sizeof(T) == 1 ? 8 : M::kBits > ();
  W sum[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  std::size_t terms = 0;
  for (std::size_t i = 0; i < n; i += kCount) {
    const std::size_t m = n - i < kCount ? n - i : kCount;
    const Lanes<V, T> a(x + i, m);
    const Lanes<V, std::uint32_t> b(s + i, m);
    for (std::size_t j = 0; j < 4; ++j) sum[j] = V::add64(sum[j], V::multiply(a[j], b[j]));
    if (++terms % kEvery == 0) {
      for (std::size_t j = 0; j < 4; ++j) sum[j] = V::template fold<F>(sum[j]);
    }
  }
  std::uint32_t out = 0;
  for (std::size_t j = 0; j < 4; ++j)
    out = M::add(out, sum_lanes<V, F>(V::template fold<F>(sum[j])));
  return out;
}

template <class V>
std::uint32_t dot_words(Field f, const std::uint32_t* x, const std::uint32_t* s,
                        std::size_t n) noexcept {
  return f == Field::kP24 ? dot_field<V, Field::kP24>(x, s, n) : dot_field<V, Field::kP31>(x, s, n);
}
template <class V>
std::uint32_t dot_codes(Field f, const std::uint8_t* codes, const std::uint32_t* s,
                        std::size_t n) noexcept {
  return f == Field::kP24 ? dot_field<V, Field::kP24>(codes, s, n)
                          : dot_field<V, Field::kP31>(codes, s, n);
}

// ---- words ----

template <class V, Field F>
void pack_field(const std::uint32_t* words, std::size_t n, std::byte* packed) noexcept {
  alignas(64) std::byte out[V::kBytes];
  for (std::size_t i = 0; i < n; i += V::kWidth) {
    const std::size_t m = n - i < V::kWidth ? n - i : V::kWidth;
    V::store(out, V::template packed<F>(m == V::kWidth ? V::load(words + i)
                                                       : V::load_some(words + i, m)));
    std::memcpy(packed + i * word_bytes(F), out, m * word_bytes(F));
  }
}
template <class V>
void pack(Field f, const std::uint32_t* words, std::size_t n, std::byte* packed) noexcept {
  f == Field::kP24 ? pack_field<V, Field::kP24>(words, n, packed)
                   : pack_field<V, Field::kP31>(words, n, packed);
}

template <class V>
void unpack(Field f, const std::byte* packed, std::size_t n, std::uint32_t* words) noexcept {
  if (f == Field::kP31) {
    std::memcpy(words, packed, n * sizeof(std::uint32_t));
    return;
  }
  for (std::size_t i = 0; i < n; i += V::kWidth) {
    const std::size_t m = n - i < V::kWidth ? n - i : V::kWidth;
    if (m == V::kWidth) {
      V::store(words + i, V::template slot<Field::kP24>(packed + 3 * i));
    } else {
      V::store_some(words + i, V::template slot_some<Field::kP24>(packed + 3 * i, m), m);
    }
  }
}

// Digits by one addition: z + 0x80..80 has the digits plus 128 as its bytes, and stays in range
// since z is at most limb_centre = 0x7f..7f.
template <class V, Field F>
void split_field(const std::uint32_t* words, std::size_t n, std::int8_t* limbs,
                 std::size_t plane_stride) noexcept {
  using W = typename V::W;
  const W p = V::set(Modulus<F>::kP);
  const W centre = V::set(limb_centre(F));
  const W lift = V::set(F == Field::kP24 ? 0x0080'8080U : 0x8080'8080U);
  for (std::size_t i = 0; i < n; i += V::kWidth) {
    const std::size_t m = n - i < V::kWidth ? n - i : V::kWidth;
    W w = m == V::kWidth ? V::load(words + i) : V::load_some(words + i, m);
    w = V::add(V::sub_where_above(w, centre, p), lift);
    w = V::exclusive_or(w, V::set(0x8080'8080U));
    for (std::size_t l = 0; l < num_limbs(F); ++l) {
      auto* const dst = reinterpret_cast<std::uint8_t*>(limbs + l * plane_stride + i);
      const W digit = V::bits(w, 0xff);
      m == V::kWidth ? V::store_bytes(dst, digit) : V::store_bytes_some(dst, digit, m);
      w = V::template shift_right<8>(w);
    }
  }
}
template <class V>
void split_limbs(Field f, const std::uint32_t* words, std::size_t n, std::int8_t* limbs,
                 std::size_t plane_stride) noexcept {
  f == Field::kP24 ? split_field<V, Field::kP24>(words, n, limbs, plane_stride)
                   : split_field<V, Field::kP31>(words, n, limbs, plane_stride);
}

// recombined takes one register of every plane, kWidth sums in 32 bits, to words.
template <class V, Field F>
[[gnu::always_inline]] inline typename V::W recombined(const std::int32_t* sums,
                                                       std::size_t plane_stride) noexcept {
  using W = typename V::W;
  // |sum of 256^l * sums_l| < 2^56, so a multiple of p above that makes it positive.
  constexpr std::uint64_t kLift = ((std::uint64_t{1} << 56) / Modulus<F>::kP + 1) * Modulus<F>::kP;
  W even = V::set_pairs(kLift);
  W odd = even;
  for (std::size_t l = 0; l < num_limbs(F); ++l) {
    const W in = V::load(sums + l * plane_stride);
    even = V::add64(even, V::shift_left64(V::even_signed(in), static_cast<int>(8 * l)));
    odd = V::add64(odd, V::shift_left64(V::odd_signed(in), static_cast<int>(8 * l)));
  }
  return V::zip(canonical<V, F>(even), canonical<V, F>(odd));
}

template <class V, Field F>
void recombine_field(const std::int32_t* sums, std::size_t plane_stride, std::size_t n,
                     std::uint32_t* words) noexcept {
  std::size_t i = 0;
  for (; i + V::kWidth <= n; i += V::kWidth) {
    V::store(words + i, recombined<V, F>(sums + i, plane_stride));
  }
  if (i == n) return;
  alignas(64) std::int32_t rest[4 * V::kWidth] = {};
  for (std::size_t l = 0; l < num_limbs(F); ++l) {
    std::memcpy(rest + l * V::kWidth, sums + l * plane_stride + i, (n - i) * sizeof(std::int32_t));
  }
  V::store_some(words + i, recombined<V, F>(rest, V::kWidth), n - i);
}
template <class V>
void recombine(Field f, const std::int32_t* sums, std::size_t plane_stride, std::size_t n,
               std::uint32_t* words) noexcept {
  f == Field::kP24 ? recombine_field<V, Field::kP24>(sums, plane_stride, n, words)
                   : recombine_field<V, Field::kP31>(sums, plane_stride, n, words);
}
