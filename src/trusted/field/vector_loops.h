// SPDX-License-Identifier: Apache-2.0
// The field loops over V that write slots, combine, multiply and cut words; included after
// vector_consume.h, which says what V is.

// ---- writing to slots ----

template <class V>
void send_codes(const std::uint8_t* codes, std::size_t n, std::byte* slot) noexcept {
  if (n == 0) return;  // without codes there may be no address either
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
  alignas(64) T tail[kCount];
  const T* at;

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
