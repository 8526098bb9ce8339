// SPDX-License-Identifier: Apache-2.0
// The vector type of AVX-512 F, BW, DQ and VL; included like vector_consume.h.

// opaque hides where a value came from: the compiler must keep the register and cannot load again.
[[gnu::always_inline]] inline __m512i opaque(__m512i x) noexcept {
  __asm__ volatile("" : "+v"(x));
  return x;
}

struct Avx512 {
  using W = __m512i;
  static constexpr std::size_t kWidth = 16;
  static constexpr std::size_t kBytes = 64;

  static __mmask16 lanes(std::size_t n) noexcept { return static_cast<__mmask16>((1U << n) - 1); }
  static __mmask64 bytes(std::size_t n) noexcept { return (std::uint64_t{1} << n) - 1; }

  static W zero() noexcept { return _mm512_setzero_si512(); }
  static W set(std::uint32_t x) noexcept { return _mm512_set1_epi32(static_cast<int>(x)); }
  static W set_float(float x) noexcept { return _mm512_castps_si512(_mm512_set1_ps(x)); }
  static W set_pairs(std::uint64_t x) noexcept {
    return _mm512_set1_epi64(static_cast<long long>(x));
  }
  static W set64(const std::uint64_t* x) noexcept {
    return _mm512_set1_epi64(static_cast<long long>(*x));
  }
  static W load(const void* at) noexcept { return _mm512_loadu_si512(at); }
  static W load_some(const void* at, std::size_t n) noexcept {
    return _mm512_maskz_loadu_epi32(lanes(n), at);
  }
  static void store(void* at, W x) noexcept { _mm512_storeu_si512(at, x); }
  static void store_some(void* at, W x, std::size_t n) noexcept {
    _mm512_mask_storeu_epi32(at, lanes(n), x);
  }
  static void stream(void* at, W x) noexcept { _mm512_stream_si512(static_cast<__m512i*>(at), x); }
  static void fence() noexcept { _mm_sfence(); }
  // load_bytes: one byte a lane. store_bytes: the low byte of each lane.
  static W load_bytes(const std::uint8_t* at) noexcept {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
  static W load_bytes_some(const std::uint8_t* at, std::size_t n) noexcept {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes(n), at));
  }
  static void store_bytes(std::uint8_t* at, W x) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm512_cvtepi32_epi8(x));
  }
  static void store_bytes_some(std::uint8_t* at, W x, std::size_t n) noexcept {
    _mm_mask_storeu_epi8(at, lanes(n), _mm512_cvtepi32_epi8(x));
  }

  static W add(W a, W b) noexcept { return _mm512_add_epi32(a, b); }
  static W sub(W a, W b) noexcept { return _mm512_sub_epi32(a, b); }
  static W min(W a, W b) noexcept { return _mm512_min_epu32(a, b); }
  static W max(W a, W b) noexcept { return _mm512_max_epu32(a, b); }
  static W bits(W a, std::uint32_t mask) noexcept { return _mm512_and_si512(a, set(mask)); }
  static W exclusive_or(W a, W b) noexcept { return _mm512_xor_si512(a, b); }
  template <int kBits>
  static W shift_right(W a) noexcept {
    return _mm512_srli_epi32(a, kBits);
  }
  static W clamp(W a, W lo, W hi) noexcept { return _mm512_min_epi32(_mm512_max_epi32(a, lo), hi); }
  // sub_where_above: a - b in lanes with a > limit (unsigned), else a.
  static W sub_where_above(W a, W limit, W b) noexcept {
    return _mm512_mask_sub_epi32(a, _mm512_cmpgt_epu32_mask(a, limit), a, b);
  }
  static std::uint32_t any_above(W a, std::uint32_t limit) noexcept {
    return _mm512_cmpgt_epu32_mask(a, set(limit));
  }

  // ---- 64-bit lanes ----
  static W even(W a) noexcept { return a; }  // multiply reads the low halves only
  static W odd(W a) noexcept { return _mm512_srli_epi64(a, 32); }
  static W add64(W a, W b) noexcept { return _mm512_add_epi64(a, b); }
  static W multiply(W a, W b) noexcept { return _mm512_mul_epu32(a, b); }
  static W shift_left64(W a, int bits) noexcept {
    return _mm512_sll_epi64(a, _mm_cvtsi32_si128(bits));
  }
  template <Field F>
  static W fold(W x) noexcept {
    using M = Modulus<F>;
    const W low = _mm512_and_si512(x, set_pairs(M::kMask));
    const W high = _mm512_srli_epi64(x, M::kBits);
    if constexpr (F == Field::kP31) return add64(low, high);
    return add64(add64(low, high), add64(high, high));
  }
  static W widen(const std::uint32_t* at) noexcept {
    return _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  static W widen(const std::uint8_t* at) noexcept {
    return _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
  }
  static W widen(const std::int8_t* at) noexcept {
    const __m128i w = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
    return _mm512_cvtepu8_epi64(_mm_xor_si128(w, _mm_set1_epi8(-128)));
  }
  static W even_signed(W x) noexcept { return _mm512_srai_epi64(_mm512_slli_epi64(x, 32), 32); }
  static W odd_signed(W x) noexcept { return _mm512_srai_epi64(x, 32); }
  // zip: the low halves of even and odd 64-bit lanes, in turn.
  static W zip(W even, W odd) noexcept { return _mm512_or_si512(even, _mm512_slli_epi64(odd, 32)); }
  static void narrow(std::uint32_t* at, W x) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), _mm512_cvtepi64_epi32(x));
  }
  // pair_sums: signed 32-bit lanes added in pairs into 64-bit lanes.
  static W pair_sums(W x) noexcept { return add64(even_signed(x), odd_signed(x)); }

  // ---- words of a slot: each byte loaded once, into a register the compiler cannot reload ----
  // Three bytes a word are spread to four by moving three dwords into each quarter, then bytes.
  static W spread(W x) noexcept {
    const W quarters = _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11), x);
    return _mm512_shuffle_epi8(
        quarters, _mm512_broadcast_i32x4(
                      _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1)));
  }
  template <Field F>
  static W slot(const std::byte* at) noexcept {
    if constexpr (F == Field::kP31) return opaque(load(at));
    return spread(opaque(_mm512_maskz_loadu_epi32(0x0fff, at)));
  }
  template <Field F>
  static W slot_some(const std::byte* at, std::size_t n) noexcept {
    if constexpr (F == Field::kP31) return opaque(load_some(at, n));
    return spread(opaque(_mm512_maskz_loadu_epi8(bytes(3 * n), at)));
  }
  // slots loads four registers of words; p24: three of packed bytes, of which each result takes
  // twelve dwords, from one or two neighbours.
  static constexpr bool kQuads = true;
  template <Field F>
  static void slots(const std::byte* at, W* v) noexcept {
    if constexpr (F == Field::kP31) {
      for (std::size_t i = 0; i < 4; ++i) v[i] = opaque(load(at + i * kBytes));
    } else {
      const W a = opaque(load(at));
      const W b = opaque(load(at + kBytes));
      const W c = opaque(load(at + 2 * kBytes));
      v[0] = spread(a);
      v[1] = spread(_mm512_alignr_epi32(b, a, 12));
      v[2] = spread(_mm512_alignr_epi32(c, b, 8));
      v[3] = spread(_mm512_alignr_epi32(c, c, 4));
    }
  }
  // packed is the inverse of spread: the words' bytes at the front.
  template <Field F>
  static W packed(W x) noexcept {
    if constexpr (F == Field::kP31) return x;
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15), quarters(x));
  }
  static W quarters(W x) noexcept {
    return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(_mm_setr_epi8(
                                      0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1)));
  }
  template <Field F>
  static void stream_words(std::byte* at, const W* words) noexcept {
    if constexpr (F == Field::kP31) {
      for (std::size_t i = 0; i < 4; ++i) stream(at + i * kBytes, words[i]);
    } else {
      const W a = quarters(words[0]);
      const W b = quarters(words[1]);
      const W c = quarters(words[2]);
      const W d = quarters(words[3]);
      const W ab = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20);
      const W bc = _mm512_setr_epi32(5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25);
      const W cd =
          _mm512_setr_epi32(10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30);
      stream(at, _mm512_permutex2var_epi32(a, ab, b));
      stream(at + 64, _mm512_permutex2var_epi32(b, bc, c));
      stream(at + 128, _mm512_permutex2var_epi32(c, cd, d));
    }
  }

  // ---- the check of the output side ----
  using Sum = W;
  static Sum no_sum() noexcept { return zero(); }
  static void settle(Sum& /*sum*/) noexcept {}
  template <Field F>
  static W multiply_add(W sum, W x, W c) noexcept {
    return add64(sum, multiply(x, c));
  }
  // weigh: sum += column * a mod p. Columns below 2^52 (p24) or 2^59 (p31) fold below 2^32; so does
  // the product: the sum takes 2^31 of them.
  template <Field F>
  static void weigh(Sum& sum, W column, W a) noexcept {
    sum = add64(sum, fold<F>(multiply(fold<F>(column), a)));
  }
  template <Field F>
  static std::uint32_t finish(const Sum& sum) noexcept {
    alignas(64) std::uint64_t lanes[kWidth / 2];
    store(lanes, sum);
    std::uint64_t total = 0;
    for (const std::uint64_t lane : lanes) total += Modulus<F>::reduce(lane);
    return Modulus<F>::reduce(total);
  }

  // ---- rounding ----
  static W times(W y, W multiplier) noexcept {
    return _mm512_castps_si512(
        _mm512_mul_ps(_mm512_cvtepi32_ps(y), _mm512_castsi512_ps(multiplier)));
  }
  static W round(W v, W low, W high) noexcept {
    const __m512 held = _mm512_min_ps(
        _mm512_max_ps(_mm512_castsi512_ps(v), _mm512_castsi512_ps(low)), _mm512_castsi512_ps(high));
    return _mm512_cvtps_epi32(held);
  }

  // round_any: REQUIRES |v| below 2^31.
  static W round_any(W v) noexcept { return _mm512_cvtps_epi32(_mm512_castsi512_ps(v)); }

  // Narrow makes codes of four registers of rounded values. Saturating twice on the way to a byte
  // changes nothing that the clamp to 0 <= lo..hi <= 255 would not.
  struct Narrow {
    W zero_point, lo, hi, order;
    explicit Narrow(const Epilogue& e) noexcept
        : zero_point(_mm512_set1_epi16(static_cast<short>(e.zero_point))),
          lo(_mm512_set1_epi8(static_cast<char>(e.lo))),
          hi(_mm512_set1_epi8(static_cast<char>(e.hi))),
          order(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)) {}
    [[gnu::always_inline]] void store(std::uint8_t* at, const W* q) const noexcept {
      const W first = _mm512_adds_epi16(_mm512_packs_epi32(q[0], q[1]), zero_point);
      const W second = _mm512_adds_epi16(_mm512_packs_epi32(q[2], q[3]), zero_point);
      const W codes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second));
      Avx512::store(at, _mm512_min_epu8(_mm512_max_epu8(codes, lo), hi));
    }
  };

  // apply_table looks a byte up in each of the sixteen pieces of the table; codes of other pieces
  // have bit 7 set after the saturating addition, which the shuffle turns into 0.
  static W look_up(const std::uint8_t* table, W codes) noexcept {
    W out = zero();
    for (std::size_t piece = 0; piece < 16; ++piece) {
      const W index =
          _mm512_adds_epu8(_mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(16 * piece))),
                           _mm512_set1_epi8(0x70));
      const W entries = _mm512_broadcast_i32x4(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * piece)));
      out = _mm512_or_si512(out, _mm512_shuffle_epi8(entries, index));
    }
    return out;
  }
  static void apply_table(const std::uint8_t* table, std::uint8_t* codes, std::size_t n) noexcept {
    apply_table_with<Avx512>(table, codes, n);
  }
  template <class V>
  static void apply_table_with(const std::uint8_t* table, std::uint8_t* codes,
                               std::size_t n) noexcept {
    std::size_t i = 0;
    for (; i + kBytes <= n; i += kBytes) store(codes + i, V::look_up(table, load(codes + i)));
    if (i < n) {
      const W tail = _mm512_maskz_loadu_epi8(bytes(n - i), codes + i);
      _mm512_mask_storeu_epi8(codes + i, bytes(n - i), V::look_up(table, tail));
    }
  }

  // ---- the check of the input side: 16-bit limbs for vpmaddwd ----
  // p24: 12 bits, digits in -2057..2048: 2 * 255 * 2057 * 2,000 < 2^31. p31: 11 bits, smaller.
  struct Check {
    using Limb = std::int16_t;
    template <Field F>
    static constexpr std::size_t kLimbs = F == Field::kP24 ? 2 : 3;
    template <Field F>
    static constexpr unsigned kShift = F == Field::kP24 ? 12 : 11;
    static constexpr std::size_t kChunk = 32;
    static constexpr std::size_t kSteps = 1'000;  // two dots a block
    static constexpr std::size_t kGroup = 4;
    static W codes(const std::uint8_t* at) noexcept {
      return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    }
    static W dot(W sum, W codes, W limbs) noexcept {
      return _mm512_add_epi32(sum, _mm512_madd_epi16(codes, limbs));
    }
  };
};
