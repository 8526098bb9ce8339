// SPDX-License-Identifier: Apache-2.0
// What vector.h asks for, with AVX-512 F, BW, DQ and VL; included after it.

// ---- loads and stores ----

inline __mmask16 lanes(std::size_t n) noexcept { return static_cast<__mmask16>((1U << n) - 1); }
inline __mmask64 bytes(std::size_t n) noexcept { return (std::uint64_t{1} << n) - 1; }

inline Words load(const void* at, std::size_t n) noexcept {
  return n == kWidth ? load(at) : Words(_mm512_maskz_loadu_epi32(lanes(n), at));
}
inline void store(void* at, Words x, std::size_t n) noexcept {
  n == kWidth ? store(at, x) : _mm512_mask_storeu_epi32(at, lanes(n), __m512i(x));
}
inline Words load_bytes(const std::uint8_t* at, std::size_t n) noexcept {
  return Words(_mm512_cvtepu8_epi32(n == kWidth
                                        ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(at))
                                        : _mm_maskz_loadu_epi8(lanes(n), at)));
}
inline void store_bytes(std::uint8_t* at, Words x, std::size_t n) noexcept {
  const __m128i low = _mm512_cvtepi32_epi8(__m512i(x));
  n == kWidth ? _mm_storeu_si128(reinterpret_cast<__m128i*>(at), low)
              : _mm_mask_storeu_epi8(at, lanes(n), low);
}
inline Words load_packed(const std::byte* at, std::size_t n) noexcept {
  return Words(n == kWidth ? _mm512_maskz_loadu_epi32(0x0fff, at)
                           : _mm512_maskz_loadu_epi8(bytes(3 * n), at));
}
inline void stream(void* at, Words x) noexcept {
  _mm512_stream_si512(static_cast<__m512i*>(at), __m512i(x));
}

// ---- arithmetic ----

inline Words spread(Words x) noexcept;

inline Pairs multiply(Pairs a, Pairs b) noexcept {
  return Pairs(_mm512_mul_epu32(__m512i(a), __m512i(b)));
}
inline Words nearest(Floats x) noexcept { return Words(_mm512_cvtps_epi32(__m512(x))); }

// Narrow makes codes of four registers of rounded values. Saturating twice on the way to a byte
// changes nothing that the clamp to 0 <= lo..hi <= 255 would not.
struct Narrow {
  static constexpr std::size_t kRegisters = 4;
  __m512i zero_point;
  Bytes lo, hi;

  explicit Narrow(const Epilogue& e) noexcept
      : zero_point(_mm512_set1_epi16(static_cast<short>(e.zero_point))),
        lo(Bytes{} + static_cast<std::uint8_t>(e.lo)),
        hi(Bytes{} + static_cast<std::uint8_t>(e.hi)) {}
  // load: each packed byte once; p24: in three registers, of which each result takes twelve dwords,
  // from one or two neighbours.
  template <Field F>
  [[gnu::always_inline]] static void load(const std::byte* at, std::size_t, Words* v) noexcept {
    __m512i raw[word_bytes(F)];
    for (std::size_t i = 0; i < word_bytes(F); ++i) {
      raw[i] = __m512i(opaque(field::load(at + i * kBytes)));
    }
    if constexpr (F == Field::kP31) {
      for (std::size_t i = 0; i < 4; ++i) v[i] = Words(raw[i]);
    } else {
      v[0] = spread(Words(raw[0]));
      v[1] = spread(Words(_mm512_alignr_epi32(raw[1], raw[0], 12)));
      v[2] = spread(Words(_mm512_alignr_epi32(raw[2], raw[1], 8)));
      v[3] = spread(Words(_mm512_alignr_epi32(raw[2], raw[2], 4)));
    }
  }
  [[nodiscard]] static Words round(Floats v) noexcept { return nearest(v); }
  [[gnu::always_inline]] void store(std::uint8_t* at, const Words* q, std::size_t) const noexcept {
    const __m512i first =
        _mm512_adds_epi16(_mm512_packs_epi32(__m512i(q[0]), __m512i(q[1])), zero_point);
    const __m512i second =
        _mm512_adds_epi16(_mm512_packs_epi32(__m512i(q[2]), __m512i(q[3])), zero_point);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const auto codes = Bytes(_mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second)));
    field::store(at, Words(min(max(codes, lo), hi)));
  }
};
