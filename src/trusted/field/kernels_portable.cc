// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cstring>

#include "field/arithmetic.h"
#include "field/kernels.h"
#include "field/kernels_list.h"

// The specification of every field loop: one word at a time, scalar, as the contracts in kernels.h
// read.

namespace slalom::field {
namespace {

bool supported(const base::CpuFeatures& /*cpu*/) noexcept { return true; }

// ---- rounding, without a branch on the value ----

// choose returns a where mask is all ones and b where it is zero.
std::uint32_t choose(std::uint32_t mask, std::uint32_t a, std::uint32_t b) noexcept {
  return (a & mask) | (b & ~mask);
}
// below is all ones if a < b. REQUIRES: |a - b| < 2^63.
std::uint32_t below(std::int64_t a, std::int64_t b) noexcept {
  return static_cast<std::uint32_t>((a - b) >> 63);
}

// round_even clamps v to [-2^30, 2^30] and rounds it to the nearest integer, ties to even: in
// binary64 1.5 * 2^52 + v has a last place of 1, and its low bits are the integer.
std::int32_t round_even(float v) noexcept {
  constexpr std::uint32_t kLimit = 0x4e80'0000;  // 2^30
  const auto bits = std::bit_cast<std::uint32_t>(v);
  const std::uint32_t magnitude = bits & 0x7fff'ffff;
  const std::uint32_t held = choose(below(kLimit, magnitude), kLimit, magnitude);
  const float clamped = std::bit_cast<float>(held | (bits & 0x8000'0000));
  const double shifted = static_cast<double>(clamped) + 0x1.8p52;
  return static_cast<std::int32_t>(std::bit_cast<std::uint64_t>(shifted) & 0xffff'ffff);
}

std::int32_t requantise(std::int32_t y, float multiplier, const Epilogue& e) noexcept {
  const std::int64_t q =
      std::int64_t{round_even(static_cast<float>(y) * multiplier)} + e.zero_point;
  auto v = static_cast<std::uint64_t>(q);
  const std::uint64_t low = 0 - static_cast<std::uint64_t>(below(q, e.lo) & 1);
  v = (static_cast<std::uint64_t>(std::int64_t{e.lo}) & low) | (v & ~low);
  const std::uint64_t high = 0 - static_cast<std::uint64_t>(below(e.hi, q) & 1);
  v = (static_cast<std::uint64_t>(std::int64_t{e.hi}) & high) | (v & ~high);
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(v));
}

std::uint8_t look_up(const std::uint8_t* table, std::uint8_t code) noexcept {
  std::uint32_t out = 0;
  for (std::uint32_t i = 0; i < 256; ++i) {
    out |= table[i] & below(static_cast<std::int64_t>(i ^ code), 1);
  }
  return static_cast<std::uint8_t>(out);
}

// ---- the output side ----

// load_once reads one packed word from the slot: each byte once, and volatile, so that the compiler
// may neither repeat the load nor trust it to give the same value again.
std::uint32_t load_once(const std::byte* at, Field f) noexcept {
  const auto* bytes = reinterpret_cast<const volatile std::uint8_t*>(at);
  std::uint32_t out = 0;
  for (unsigned i = 0; i < word_bytes(f); ++i)
    out |= static_cast<std::uint32_t>(bytes[i]) << (8 * i);
  return out;
}

// take_word does steps 1 to 3 of consume_* and returns the word v.
template <Field F>
std::uint32_t take_word(const OutputTile& tile, const OutputChallenge& challenge,
                        std::size_t position, std::size_t channel, OutputSum& sum) noexcept {
  using M = Modulus<F>;
  const std::size_t at = position * tile.channels + channel;
  const std::uint32_t raw = load_once(tile.words + at * word_bytes(F), F);
  sum.bad |= below(M::kP - std::int64_t{1}, raw);
  std::uint32_t v = raw & M::kMask;
  if (tile.u != nullptr) {
    v -= tile.u[at];
    v += M::kP & (0 - (v >> 31));
  }
  for (std::size_t k = 0; k < challenge.repetitions; ++k) {
    const std::uint32_t weighed =
        M::mul(M::reduce(std::uint64_t{v} * challenge.c[k * challenge.c_stride + position]),
               challenge.a[k * challenge.a_stride + channel]);
    sum.residues.value[k] = M::add(sum.residues.value[k], weighed);
  }
  return v;
}

std::int32_t centre(std::uint32_t v, std::size_t channel, Field f, const Epilogue& e) noexcept {
  const std::uint32_t wrap = modulus(f) & below(e.threshold[channel], v);
  return static_cast<std::int32_t>(v + static_cast<std::uint32_t>(e.offset[channel]) - wrap);
}

template <Field F>
std::int32_t take(const OutputTile& tile, const OutputChallenge& challenge, const Epilogue& e,
                  std::size_t position, std::size_t channel, OutputSum& sum) noexcept {
  return centre(take_word<F>(tile, challenge, position, channel, sum), channel, F, e);
}

std::int32_t take_any(const OutputTile& tile, const OutputChallenge& challenge, const Epilogue& e,
                      std::size_t position, std::size_t channel, OutputSum& sum) noexcept {
  return tile.field == Field::kP24 ? take<Field::kP24>(tile, challenge, e, position, channel, sum)
                                   : take<Field::kP31>(tile, challenge, e, position, channel, sum);
}

void consume_codes(const OutputTile& tile, const OutputChallenge& challenge, const Epilogue& e,
                   std::uint8_t* dst, OutputSum& sum) noexcept {
  for (std::size_t pos = 0; pos < tile.positions; ++pos) {
    for (std::size_t ch = 0; ch < tile.channels; ++ch) {
      const std::int32_t y = take_any(tile, challenge, e, pos, ch, sum);
      const auto code = static_cast<std::uint8_t>(requantise(y, e.multiplier[ch], e));
      *dst++ = e.table != nullptr ? look_up(e.table, code) : code;
    }
  }
}

void consume_integers(const OutputTile& tile, const OutputChallenge& challenge, const Epilogue& e,
                      std::int32_t* dst, OutputSum& sum) noexcept {
  for (std::size_t pos = 0; pos < tile.positions; ++pos) {
    for (std::size_t ch = 0; ch < tile.channels; ++ch) {
      *dst++ = requantise(take_any(tile, challenge, e, pos, ch, sum), e.multiplier[ch], e);
    }
  }
}

void consume_raw(const OutputTile& tile, const OutputChallenge& challenge, const Epilogue& e,
                 std::int32_t* dst, OutputSum& sum) noexcept {
  for (std::size_t pos = 0; pos < tile.positions; ++pos) {
    for (std::size_t ch = 0; ch < tile.channels; ++ch) {
      *dst++ = take_any(tile, challenge, e, pos, ch, sum);
    }
  }
}

void apply_table(const std::uint8_t* table, std::uint8_t* codes, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) codes[i] = look_up(table, codes[i]);
}

void requantise_codes(const std::int32_t* y, std::size_t positions, std::size_t channels,
                      const Epilogue& e, std::uint8_t* dst) noexcept {
  for (std::size_t i = 0; i < positions * channels; ++i) {
    const auto code = static_cast<std::uint8_t>(requantise(y[i], e.multiplier[i % channels], e));
    dst[i] = e.table != nullptr ? look_up(e.table, code) : code;
  }
}

void requantise_integers(const std::int32_t* y, std::size_t positions, std::size_t channels,
                         const Epilogue& e, std::int32_t* dst) noexcept {
  for (std::size_t i = 0; i < positions * channels; ++i) {
    dst[i] = requantise(y[i], e.multiplier[i % channels], e);
  }
}

// ---- the input side ----

// A packed CheckVector is [repetition][element], one uint32 each.
std::size_t check_bytes(Field /*f*/, std::size_t repetitions, std::size_t elements) noexcept {
  return repetitions * elements * sizeof(std::uint32_t);
}

void pack_check(const CheckVector& vector, std::size_t first, std::size_t n,
                const std::uint32_t* const* words, std::byte* packed) noexcept {
  for (std::size_t k = 0; k < vector.repetitions; ++k) {
    std::memcpy(packed + (k * vector.elements + first) * sizeof(std::uint32_t), words[k],
                n * sizeof(std::uint32_t));
  }
}

void check_input(const CheckVector& vector, std::size_t first, std::size_t n,
                 const std::uint8_t* const* codes, std::size_t images, Residues* sums) noexcept {
  const auto* s = reinterpret_cast<const std::uint32_t*>(vector.packed) + first;
  for (std::size_t b = 0; b < images; ++b) {
    for (std::size_t k = 0; k < vector.repetitions; ++k) {
      std::uint32_t& sum = sums[b].value[k];
      for (std::size_t i = 0; i < n; ++i) {
        sum = reduce(sum + std::uint64_t{codes[b][i]} * s[k * vector.elements + i], vector.field);
      }
    }
  }
}

void send_codes(const std::uint8_t* codes, std::size_t n, std::byte* slot) noexcept {
  if (n != 0) std::memcpy(slot, codes, n);  // without codes there may be no address either
}

void store_word(std::byte* at, std::uint32_t word, Field f) noexcept {
  for (unsigned i = 0; i < word_bytes(f); ++i) at[i] = static_cast<std::byte>(word >> (8 * i));
}

void blind(Field f, const std::uint8_t* codes, std::uint8_t zero, const std::uint32_t* r,
           std::size_t n, std::byte* slot) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t sum = std::uint64_t{r[i]} + codes[i] + (modulus(f) - zero);
    store_word(slot + i * word_bytes(f), reduce(sum, f), f);
  }
}

void fence() noexcept { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// ---- linear combinations ----

template <class Value, class T>
void combine(Field f, const std::uint32_t* coefficients, const T* const* rows, std::size_t num_rows,
             std::size_t n, std::uint32_t* out, Value value) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = 0;
    for (std::size_t t = 0; t < num_rows; ++t) {
      out[i] = add(out[i], mul(coefficients[t], value(rows[t][i]), f), f);
    }
  }
}

struct SameWord {
  std::uint32_t operator()(std::uint32_t w) const noexcept { return w; }
};
struct SignedWord {
  Field f;
  std::uint32_t operator()(std::int8_t w) const noexcept { return to_word(w, f); }
};
struct CodeWord {
  Field f;
  std::uint8_t zero;
  std::uint32_t operator()(std::uint8_t q) const noexcept { return to_word(q - zero, f); }
};

void combine_words(Field f, const std::uint32_t* coefficients, const std::uint32_t* const* rows,
                   std::size_t num_rows, std::size_t n, std::uint32_t* out) noexcept {
  combine(f, coefficients, rows, num_rows, n, out, SameWord{});
}
void combine_weights(Field f, const std::uint32_t* coefficients, const std::int8_t* const* rows,
                     std::size_t num_rows, std::size_t n, std::uint32_t* out) noexcept {
  combine(f, coefficients, rows, num_rows, n, out, SignedWord{f});
}
void combine_codes(Field f, const std::uint32_t* coefficients, const std::uint8_t* const* rows,
                   std::size_t num_rows, std::uint8_t zero, std::size_t n,
                   std::uint32_t* out) noexcept {
  combine(f, coefficients, rows, num_rows, n, out, CodeWord{f, zero});
}

template <class T>
std::uint32_t dot(Field f, const T* x, const std::uint32_t* s, std::size_t n) noexcept {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum = add(sum, mul(x[i], s[i], f), f);
  return sum;
}
std::uint32_t dot_words(Field f, const std::uint32_t* x, const std::uint32_t* s,
                        std::size_t n) noexcept {
  return dot(f, x, s, n);
}
std::uint32_t dot_codes(Field f, const std::uint8_t* codes, const std::uint32_t* s,
                        std::size_t n) noexcept {
  return dot(f, codes, s, n);
}

// ---- words ----

void pack(Field f, const std::uint32_t* words, std::size_t n, std::byte* packed) noexcept {
  for (std::size_t i = 0; i < n; ++i) store_word(packed + i * word_bytes(f), words[i], f);
}
void unpack(Field f, const std::byte* packed, std::size_t n, std::uint32_t* words) noexcept {
  for (std::size_t i = 0; i < n; ++i) words[i] = load_once(packed + i * word_bytes(f), f);
}

void split_limbs(Field f, const std::uint32_t* words, std::size_t n, std::int8_t* limbs,
                 std::size_t plane_stride) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    std::int64_t rest = limb_centred(words[i], f);
    for (std::size_t l = 0; l < num_limbs(f); ++l) {
      const auto digit = static_cast<std::int8_t>(rest & 0xff);
      limbs[l * plane_stride + i] = digit;
      rest = (rest - digit) >> 8;
    }
  }
}

void recombine(Field f, const std::int32_t* sums, std::size_t plane_stride, std::size_t n,
               std::uint32_t* words) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    std::int64_t total = 0;
    for (std::size_t l = num_limbs(f); l-- > 0;) total = total * 256 + sums[l * plane_stride + i];
    words[i] = reduce_signed(total, f);
  }
}

}  // namespace

const Kernels kPortableKernels = {
    .name = "portable",
    .supported = supported,
    .consume_codes = consume_codes,
    .consume_integers = consume_integers,
    .consume_raw = consume_raw,
    .requantise_codes = requantise_codes,
    .requantise_integers = requantise_integers,
    .apply_table = apply_table,
    .check_bytes = check_bytes,
    .pack_check = pack_check,
    .check_input = check_input,
    .send_codes = send_codes,
    .blind = blind,
    .fence = fence,
    .combine_words = combine_words,
    .combine_weights = combine_weights,
    .combine_codes = combine_codes,
    .dot_words = dot_words,
    .dot_codes = dot_codes,
    .pack = pack,
    .unpack = unpack,
    .split_limbs = split_limbs,
    .recombine = recombine,
    .expand_key = nullptr,
    .pad_candidates = nullptr,
};

}  // namespace slalom::field
