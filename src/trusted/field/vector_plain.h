// SPDX-License-Identifier: Apache-2.0
// What AVX2 and AVX-512 without IFMA, VBMI, VNNI and wide AES do alike; included after vector.h and
// permute (lanes), shuffle (bytes of each 16), repeat (16 bytes in all of them), add_saturated
// (bytes), code_lanes and multiply_codes (of the input side).

// ---- words of three bytes: dwords to each sixteen bytes, then bytes ----

constexpr std::uint32_t kSpreadWords[16] = {0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11};
constexpr std::int8_t kSpreadBytes[16] = {0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1};
constexpr std::uint32_t kPackWords[16] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15};
constexpr std::int8_t kPackBytes[16] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1};

inline Words spread(Words x) noexcept {
  return shuffle(permute(x, load(kSpreadWords)), repeat(kSpreadBytes));
}
// packed_each: twelve bytes of words at the front of each sixteen. packed: all bytes at the front.
inline Words packed_each(Words x) noexcept { return shuffle(x, repeat(kPackBytes)); }
inline Words packed(Words x) noexcept { return permute(packed_each(x), load(kPackWords)); }

// look_up tries each of the sixteen pieces of the table; codes of other pieces have bit 7 set after
// the saturating addition, which the shuffle turns into 0.
inline Words look_up(const std::uint8_t* table, Words codes) noexcept {
  Words out{};
  for (std::size_t piece = 0; piece < 16; ++piece) {
    const Bytes index = Bytes(codes) - static_cast<std::uint8_t>(16 * piece);
    out |= shuffle(repeat(table + 16 * piece), add_saturated(Words(index), set(0x7070'7070)));
  }
  return out;
}

// ---- the check of the output side: sums of 64-bit lanes ----

using Sum = Pairs;
using Column = Pairs;
inline Pairs even(Words x) noexcept { return Pairs(x); }  // multiply reads the low halves only
inline void settle(Sum& /*sum*/) noexcept {}

template <Field F>
Column multiply_add(Column sum, Pairs x, Pairs c) noexcept {
  return sum + multiply(x, c);
}
// weigh: sum += column * a mod p. Columns below 2^52 (p24) or 2^59 (p31) fold below 2^32; so does
// the product: the sum takes 2^31 of them.
template <Field F>
void weigh(Sum& sum, Column column, Pairs a) noexcept {
  sum += fold<F>(multiply(fold<F>(column), a));
}
template <Field F>
std::uint32_t finish(const Sum& sum) noexcept {
  return sum_lanes<F>(sum);
}

// ---- the check of the input side: 16-bit limbs, multiplied and added in pairs ----
// p24: 12 bits, digits in -2057..2048: 255 * 2057 * 4,000 < 2^31, and a lane takes 256 / kBytes
// products a block. p31: 11 bits, smaller.

using Limb = std::int16_t;
template <Field F>
constexpr std::size_t kLimbs = F == Field::kP24 ? 2 : 3;
template <Field F>
constexpr unsigned kShift = F == Field::kP24 ? 12 : 11;
constexpr std::size_t kSteps = 4'000 * kBytes / 256;

// ---- pads: one block a register ----

using Blocks = __m128i;
inline Blocks all_blocks(__m128i x) noexcept { return x; }
inline Blocks aes_round(Blocks x, Blocks key) noexcept { return _mm_aesenc_si128(x, key); }
inline Blocks last_aes_round(Blocks x, Blocks key) noexcept { return _mm_aesenclast_si128(x, key); }
inline Blocks shuffle_blocks(Blocks x, Blocks index) noexcept { return _mm_shuffle_epi8(x, index); }
