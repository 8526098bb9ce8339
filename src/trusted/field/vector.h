// SPDX-License-Identifier: Apache-2.0
// A register of kBytes bytes in the compiler's vector operators, one source for all widths. Not an
// ordinary header: a kernel file includes it inside its target region and unnamed namespace, after
// kBytes, and adds what the operators cannot say:
//
//   load, store(at, n)     n lanes in use, 0 <= n <= kWidth: no other memory is touched, unused
//   load_, store_bytes     lanes read as zero; *_bytes have one byte a lane
//   load_packed(at, n)     3*n bytes, each loaded once
//   multiply(a, b)         64-bit products of the low halves of 64-bit lanes
//   even(x)                the even lanes, as multiply_add takes them (odd ones: Pairs(x) >> 32)
//   nearest(x)             nearest integers, ties to even, in the thread's rounding mode
//   stream(at, x)          a non-temporal store to aligned memory
//   spread, packed(x)      words of three packed bytes to lanes, and back to the front
//   stream_packed(at, x)   four registers of lanes as three of packed bytes
//   look_up(table, codes)  256 entries, every one touched alike
//
// and what vector_plain.h and kernels_avx512ifma.cc do in their own ways: Column and Sum with
// multiply_add, weigh, settle and finish (the check of the output side), Limb with code_lanes and
// multiply_codes (of the input side), Blocks with aes_round (pads); and Narrow, a faster Rounding.

constexpr std::size_t kWidth = kBytes / 4;

using Words [[gnu::vector_size(kBytes)]] = std::uint32_t;
using Ints [[gnu::vector_size(kBytes)]] = std::int32_t;
using Pairs [[gnu::vector_size(kBytes)]] = std::uint64_t;
using Bytes [[gnu::vector_size(kBytes)]] = std::uint8_t;
using Floats [[gnu::vector_size(kBytes)]] = float;
using Anywhere [[gnu::vector_size(kBytes), gnu::aligned(1), gnu::may_alias]] = std::uint32_t;

inline Words load(const void* at) noexcept { return *static_cast<const Anywhere*>(at); }
inline void store(void* at, Words x) noexcept { *static_cast<Anywhere*>(at) = x; }
inline Words set(std::uint32_t x) noexcept { return Words{} + x; }

// opaque hides where a value came from: the compiler must keep the register and cannot load again.
[[gnu::always_inline]] inline Words opaque(Words x) noexcept {
  __asm__ volatile("" : "+v"(x));
  return x;
}

template <class T>
constexpr T min(T a, T b) noexcept {
  return a < b ? a : b;
}
template <class T>
T max(T a, T b) noexcept {
  return a > b ? a : b;
}

// fold brings 64-bit lanes closer to [0, p) without changing their residues (Modulus::fold).
template <Field F>
Pairs fold(Pairs x) noexcept {
  const Pairs low = x & Modulus<F>::kMask;
  const Pairs high = x >> Modulus<F>::kBits;
  return F == Field::kP31 ? low + high : (low + high) + (high + high);
}
// sum_lanes adds 64-bit lanes of any value mod p.
template <Field F>
std::uint32_t sum_lanes(Pairs x) noexcept {
  const Pairs folded = fold<F>(x);  // below 2^42
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kWidth / 2; ++i) sum += folded[i];
  return Modulus<F>::reduce(sum);
}
// any_not_below_p is not zero if a lane is p or more.
template <Field F>
std::uint32_t any_not_below_p(Words x) noexcept {
  const auto above = Words(x > Modulus<F>::kP - 1);
  std::uint32_t any = 0;
  for (std::size_t i = 0; i < kWidth; ++i) any |= above[i];
  return any;
}
