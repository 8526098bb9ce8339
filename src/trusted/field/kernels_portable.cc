// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cstring>

#include "field/arithmetic.h"
#include "field/kernels.h"

// The specification of every field loop: one word at a time, scalar, as the contracts in kernels.h
// read.

namespace slalom::field {
namespace {

bool supported(const base::CpuFeatures& /*cpu*/) noexcept { return true; }

// ---- rounding, without a branch on the value ----

// below is all ones if a < b. REQUIRES: |a - b| < 2^63.
std::uint32_t below(std::int64_t a, std::int64_t b) noexcept {
  return static_cast<std::uint32_t>((a - b) >> 63);
}
std::int64_t lesser(std::int64_t a, std::int64_t b) noexcept {
  return b + ((a - b) & ((a - b) >> 63));
}
std::int64_t greater(std::int64_t a, std::int64_t b) noexcept {
  return a - ((a - b) & ((a - b) >> 63));
}

// round_even clamps v to [-2^30, 2^30] and rounds it to the nearest integer, ties to even: in
// binary64 1.5 * 2^52 + v has a last place of 1, and its low bits are the integer.
std::int32_t round_even(float v) noexcept {
  constexpr std::uint32_t kLimit = 0x4e80'0000;  // 2^30
  const auto bits = std::bit_cast<std::uint32_t>(v);
  const std::uint32_t magnitude = bits & 0x7fff'ffff;
  const auto held = static_cast<std::uint32_t>(lesser(kLimit, magnitude));
  const float clamped = std::bit_cast<float>(held | (bits & 0x8000'0000));
  const double shifted = static_cast<double>(clamped) + 0x1.8p52;
  return static_cast<std::int32_t>(std::bit_cast<std::uint64_t>(shifted) & 0xffff'ffff);
}

std::int32_t requantise(std::int32_t y, float multiplier, const Epilogue& e) noexcept {
  const std::int64_t q =
      std::int64_t{round_even(static_cast<float>(y) * multiplier)} + e.zero_point;
  return static_cast<std::int32_t>(lesser(greater(q, e.lo), e.hi));
}

std::uint8_t look_up(const std::uint8_t* table, std::uint8_t code) noexcept {
  std::uint32_t out = 0;
  for (std::uint32_t i = 0; i < 256; ++i) {
    out |= table[i] & below(static_cast<std::int64_t>(i ^ code), 1);
  }
  return static_cast<std::uint8_t>(out);
}

// stored is what the epilogue makes of Y + bias: a code, or an integer.
template <class T>
T stored(std::int32_t y, float multiplier, const Epilogue& e) noexcept {
  const auto q = static_cast<T>(requantise(y, multiplier, e));
  if constexpr (sizeof(T) == 1) return e.table != nullptr ? look_up(e.table, q) : q;
  return q;
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
std::uint32_t take_word(const OutputTile& tile, const OutputChallenge& challenge,
                        std::size_t position, std::size_t channel, OutputSum& sum) noexcept {
  const Field f = tile.field;
  const std::size_t at = position * tile.channels + channel;
  const std::uint32_t raw = load_once(tile.words + at * word_bytes(f), f);
  sum.bad |= below(modulus(f) - std::int64_t{1}, raw);
  std::uint32_t v = raw & 0x7fff'ffff;
  if (tile.u != nullptr) {
    v -= tile.u[at];
    v += modulus(f) & (0 - (v >> 31));
  }
  for (std::size_t k = 0; k < challenge.repetitions; ++k) {
    const std::uint32_t weighed =
        mul(reduce(std::uint64_t{v} * challenge.c[k * challenge.c_stride + position], f),
            challenge.a[k * challenge.a_stride + channel], f);
    sum.residues.value[k] = add(sum.residues.value[k], weighed, f);
  }
  return v;
}

std::int32_t centre(std::uint32_t v, std::size_t channel, Field f, const Epilogue& e) noexcept {
  const std::uint32_t wrap = modulus(f) & below(e.threshold[channel], v);
  return static_cast<std::int32_t>(v + static_cast<std::uint32_t>(e.offset[channel]) - wrap);
}

template <class T>
void consume(const OutputTile& tile, const OutputChallenge& challenge, const Epilogue& e, T* dst,
             OutputSum& sum) noexcept {
  for (std::size_t pos = 0; pos < tile.positions; ++pos) {
    for (std::size_t ch = 0; ch < tile.channels; ++ch) {
      const std::uint32_t v = take_word(tile, challenge, pos, ch, sum);
      *dst++ = stored<T>(centre(v, ch, tile.field, e), e.multiplier[ch], e);
    }
  }
}

void apply_table(const std::uint8_t* table, std::uint8_t* codes, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) codes[i] = look_up(table, codes[i]);
}

void requantise_codes(const IntegerTile& tile, const Epilogue& e, std::uint8_t* dst,
                      std::size_t dst_stride) noexcept {
  for (std::size_t p = 0; p < tile.positions; ++p) {
    for (std::size_t ch = 0; ch < tile.channels; ++ch) {
      dst[p * dst_stride + ch] =
          stored<std::uint8_t>(tile.y[p * tile.stride + ch], e.multiplier[ch], e);
    }
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

std::uint32_t value(std::uint32_t w, Field /*f*/) noexcept { return w; }
std::uint32_t value(std::uint8_t q, Field /*f*/) noexcept { return q; }
std::uint32_t value(std::int8_t w, Field f) noexcept { return to_word(w, f); }

template <class T>
void combine(Field f, const std::uint32_t* coefficients, const T* const* rows, std::size_t num_rows,
             std::size_t n, std::uint32_t* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t sum = 0;
    for (std::size_t t = 0; t < num_rows; ++t) {
      sum = add(sum, mul(coefficients[t], value(rows[t][i], f), f), f);
    }
    out[i] = sum;
  }
}

template <class T>
std::uint32_t dot(Field f, const T* x, const std::uint32_t* s, std::size_t n) noexcept {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum = add(sum, mul(x[i], s[i], f), f);
  return sum;
}

// ---- words ----

void pack(Field f, const std::uint32_t* words, std::size_t n, std::byte* packed) noexcept {
  for (std::size_t i = 0; i < n; ++i) store_word(packed + i * word_bytes(f), words[i], f);
}
void unpack(Field f, const std::byte* packed, std::size_t n, std::uint32_t* words) noexcept {
  for (std::size_t i = 0; i < n; ++i) words[i] = load_once(packed + i * word_bytes(f), f);
}

}  // namespace

const Kernels kPortableKernels = {
    .name = "portable",
    .supported = supported,
    .consume_codes = consume<std::uint8_t>,
    .consume_integers = consume<std::int32_t>,
    .requantise_codes = requantise_codes,
    .apply_table = apply_table,
    .check_bytes = check_bytes,
    .pack_check = pack_check,
    .check_input = check_input,
    .send_codes = send_codes,
    .blind = blind,
    .fence = fence,
    .combine_words = combine<std::uint32_t>,
    .combine_weights = combine<std::int8_t>,
    .combine_codes = combine<std::uint8_t>,
    .dot_words = dot<std::uint32_t>,
    .dot_codes = dot<std::uint8_t>,
    .pack = pack,
    .unpack = unpack,
    .expand_key = nullptr,
    .pad_candidates = nullptr,
};

}  // namespace slalom::field
