// SPDX-License-Identifier: Apache-2.0
// The kernels that write slots, combine, multiply and pack words, over the registers of vector.h;
// included after vector_consume.h.

// ---- writing to slots ----

inline void send_codes(const std::uint8_t* codes, std::size_t n, std::byte* slot) noexcept {
  if (n == 0) return;  // without codes there may be no address either
  const std::size_t off = (0 - reinterpret_cast<std::uintptr_t>(slot)) % kBytes;
  const std::size_t head = min(off, n);
  std::memcpy(slot, codes, head);
  std::size_t i = head;
  for (; i + kBytes <= n; i += kBytes) stream(slot + i, load(codes + i));
  std::memcpy(slot + i, codes + i, n - i);
}

inline void fence() noexcept { _mm_sfence(); }

// head_words is how many words lie before the first register-aligned address, or n if there is
// none.
template <Field F>
std::size_t head_words(const std::byte* slot, std::size_t n) noexcept {
  const std::size_t off = (0 - reinterpret_cast<std::uintptr_t>(slot)) % kBytes;
  if (F == Field::kP24) return min(off * 43 % kBytes, n);  // 43 * 3 = 1 modulo 64 and 32
  return off % 4 == 0 ? min(off / 4, n) : n;
}

// store_words packs n lanes, n <= kWidth.
template <Field F>
[[gnu::always_inline]] inline void store_words(std::byte* at, Words x, std::size_t n) noexcept {
  alignas(kBytes) std::byte out[kBytes];
  store(out, F == Field::kP24 ? packed(x) : x);
  std::memcpy(at, out, n * word_bytes(F));
}

template <Field F>
[[gnu::always_inline]] inline Words blinded(const std::uint8_t* codes, std::uint32_t zero,
                                            const std::uint32_t* r, std::size_t n) noexcept {
  const Words d = load_bytes(codes, n) - zero;    // -255..255
  const Words word = min(d, d + Modulus<F>::kP);  // the same mod p, below p
  const Words sum = word + load(r, n);            // below 2p < 2^32
  return min(sum, sum - Modulus<F>::kP);
}

template <Field F>
void blind_some(const std::uint8_t* codes, std::uint32_t zero, const std::uint32_t* r,
                std::size_t n, std::byte* slot) noexcept {
  for (std::size_t i = 0; i < n; i += kWidth) {
    const std::size_t m = min(n - i, kWidth);
    store_words<F>(slot + i * word_bytes(F), blinded<F>(codes + i, zero, r + i, m), m);
  }
}

template <Field F>
void blind(Field /*f*/, const std::uint8_t* codes, std::uint8_t zero, const std::uint32_t* r,
           std::size_t n, std::byte* slot) noexcept {
  constexpr std::size_t kGroup = 4 * kWidth;
  std::size_t i = head_words<F>(slot, n);
  blind_some<F>(codes, zero, r, i, slot);
  for (; i + kGroup <= n; i += kGroup) {
    std::byte* const at = slot + i * word_bytes(F);
    Words words[4];
    for (std::size_t j = 0; j < 4; ++j) {
      words[j] = blinded<F>(codes + i + j * kWidth, zero, r + i + j * kWidth, kWidth);
    }
    if constexpr (F == Field::kP24) {
      stream_packed(at, words);
    } else {
      for (std::size_t j = 0; j < 4; ++j) stream(at + j * kBytes, words[j]);
    }
  }
  blind_some<F>(codes + i, zero, r + i, n - i, slot + i * word_bytes(F));
}

// ---- linear combinations and dot products, in 64-bit lanes ----

// canonical takes 64-bit lanes of any value to canonical words in the low halves.
template <Field F>
[[gnu::always_inline]] inline Pairs canonical(Pairs x) noexcept {
  for (int i = 0; i < 3; ++i) x = fold<F>(x);
  return Pairs(min(Words(x), Words(x - Modulus<F>::kP)));
}

// terms_between_folds is how many products of a word and a value of type T fit 64 bits on top of a
// folded sum.
template <Field F, class T>
constexpr std::size_t terms_between_folds() noexcept {
  constexpr unsigned kBits = Modulus<F>::kBits + (sizeof(T) == 1 ? 8 : Modulus<F>::kBits);
  return kBits >= 62 ? 1 : std::size_t{1} << min(62 - kBits, 20U);
}

// values loads n values as lanes: int8 weights as w + 128, codes and words as they are.
inline Words values(const std::uint32_t* at, std::size_t n) noexcept { return load(at, n); }
inline Words values(const std::uint8_t* at, std::size_t n) noexcept { return load_bytes(at, n); }
inline Words values(const std::int8_t* at, std::size_t n) noexcept {
  return load_bytes(reinterpret_cast<const std::uint8_t*>(at), n) ^ 0x80;
}

// combine_lanes makes n <= kWidth words: products are of unsigned numbers, `start` is added.
template <Field F, class T>
[[gnu::always_inline]] inline void combine_lanes(const std::uint32_t* coefficients,
                                                 const T* const* rows, std::size_t num_rows,
                                                 std::size_t i, std::size_t n, Pairs start,
                                                 std::uint32_t* out) noexcept {
  Pairs low = start;
  Pairs high = start;
  for (std::size_t t = 0; t < num_rows; ++t) {
    const Pairs c = Pairs{} + coefficients[t];
    const Words x = values(rows[t] + i, n);
    low += multiply(Pairs(x), c);
    high += multiply(Pairs(x) >> 32, c);
    if ((t + 1) % terms_between_folds<F, T>() == 0) {
      low = fold<F>(low);
      high = fold<F>(high);
    }
  }
  store(out + i, Words(canonical<F>(low) | canonical<F>(high) << 32), n);
}

template <Field F, class T>
void combine(Field /*f*/, const std::uint32_t* coefficients, const T* const* rows,
             std::size_t num_rows, std::size_t n, std::uint32_t* out) noexcept {
  using M = Modulus<F>;
  constexpr std::uint32_t kShift = std::is_signed_v<T> ? 128 : 0;  // of `values`, taken off again
  std::uint32_t total = 0;
  for (std::size_t t = 0; t < num_rows; ++t) total = M::add(total, coefficients[t]);
  const Pairs start = Pairs{} + M::sub(0, M::mul(total, kShift));
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    combine_lanes<F>(coefficients, rows, num_rows, i, kWidth, start, out);
  }
  if (i < n) combine_lanes<F>(coefficients, rows, num_rows, i, n - i, start, out);
}

template <Field F, class T>
std::uint32_t dot(Field /*f*/, const T* x, const std::uint32_t* s, std::size_t n) noexcept {
  Pairs low{};
  Pairs high{};
  std::size_t terms = 0;
  for (std::size_t i = 0; i < n; i += kWidth) {
    const std::size_t m = min(n - i, kWidth);
    const Words a = values(x + i, m);
    const Words b = load(s + i, m);
    low += multiply(Pairs(a), Pairs(b));
    high += multiply(Pairs(a) >> 32, Pairs(b) >> 32);
    if (++terms % terms_between_folds<F, T>() == 0) {
      low = fold<F>(low);
      high = fold<F>(high);
    }
  }
  return Modulus<F>::add(sum_lanes<F>(low), sum_lanes<F>(high));
}

// ---- words ----

template <Field F>
void pack(Field /*f*/, const std::uint32_t* words, std::size_t n, std::byte* packed) noexcept {
  for (std::size_t i = 0; i < n; i += kWidth) {
    const std::size_t m = min(n - i, kWidth);
    store_words<F>(packed + i * word_bytes(F), load(words + i, m), m);
  }
}
template <Field F>
void unpack(Field /*f*/, const std::byte* packed, std::size_t n, std::uint32_t* words) noexcept {
  for (std::size_t i = 0; i < n; i += kWidth) {
    const std::size_t m = min(n - i, kWidth);
    store(words + i, slot<F>(packed + i * word_bytes(F), m), m);
  }
}
