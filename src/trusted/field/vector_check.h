// SPDX-License-Identifier: Apache-2.0
// check_input over the registers of vector.h; included after what says how s~ is cut into limbs:
// kLimbs<F> signed digits of type Limb in base 2^kShift<F>, multiply_codes adding products with
// code_lanes into 32-bit lanes, kSteps the most blocks of 64 elements that these lanes hold.
//
// Packed layout: [block of 64 elements][repetition][limb][64] Limb.

constexpr std::size_t kCheckBlock = 64;

template <Field F>
std::size_t check_bytes(Field /*f*/, std::size_t repetitions, std::size_t elements) noexcept {
  return base::round_up(elements, kCheckBlock) * repetitions * kLimbs<F> * sizeof(Limb);
}

template <Field F>
void pack_check(const CheckVector& vector, std::size_t first, std::size_t n,
                const std::uint32_t* const* words, std::byte* packed) noexcept {
  constexpr std::int32_t kHalf = 1 << (kShift<F> - 1);
  auto* const all = reinterpret_cast<Limb*>(packed);
  for (std::size_t k = 0; k < vector.repetitions; ++k) {
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t block = (first + i) / kCheckBlock;
      Limb* const at =
          all + (block * vector.repetitions + k) * kLimbs<F> * kCheckBlock + i % kCheckBlock;
      std::int32_t rest = limb_centred(words[k][i], F);
      for (std::size_t l = 0; l < kLimbs<F>; ++l) {
        // The balanced digit of rest: its low bits as a signed number; the last takes what is left.
        const std::int32_t low = static_cast<std::int32_t>(
                                     (static_cast<std::uint32_t>(rest) + kHalf) & (2 * kHalf - 1)) -
                                 kHalf;
        const std::int32_t digit = l + 1 == kLimbs<F> ? rest : low;
        at[l * kCheckBlock] = static_cast<Limb>(digit);
        rest = (rest - digit) >> kShift<F>;
      }
    }
  }
}

// pair_sums adds signed 32-bit lanes in pairs, lifted by 2^31 meanwhile.
inline Pairs pair_sums(Words x) noexcept {
  const auto lifted = Pairs(x ^ 0x8000'0000);
  return (lifted & 0xffff'ffff) + (lifted >> 32) - (std::uint64_t{1} << 32);
}

// check_blocks takes a stretch of whole blocks for kImages images and one repetition: limbs are
// loaded once for all of them.
template <Field F, std::size_t kImages>
void check_blocks(const Limb* limbs, std::size_t stride, std::size_t blocks,
                  const std::uint8_t* const* codes, std::size_t k, Residues* sums) noexcept {
  constexpr std::size_t kChunk = kBytes / sizeof(Limb);  // elements of a register
  Words acc[kImages][kLimbs<F>] = {};
  for (std::size_t block = 0; block < blocks; ++block) {
    for (std::size_t part = 0; part < kCheckBlock; part += kChunk) {
      Words limb[kLimbs<F>];
      for (std::size_t l = 0; l < kLimbs<F>; ++l) {
        limb[l] = load(limbs + block * stride + l * kCheckBlock + part);
      }
      for (std::size_t b = 0; b < kImages; ++b) {
        const Words q = code_lanes(codes[b] + block * kCheckBlock + part);
        for (std::size_t l = 0; l < kLimbs<F>; ++l) {
          acc[b][l] = multiply_codes(acc[b][l], q, limb[l]);
        }
      }
    }
  }
  for (std::size_t b = 0; b < kImages; ++b) {
    Pairs total{};
    for (std::size_t l = 0; l < kLimbs<F>; ++l) total += pair_sums(acc[b][l]) << (kShift<F> * l);
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < kWidth / 2; ++i) sum += total[i];
    sums[b].value[k] = Modulus<F>::add(sums[b].value[k],
                                       Modulus<F>::reduce_signed(static_cast<std::int64_t>(sum)));
  }
}

template <Field F, std::size_t kImages>
void check_images(const CheckVector& vector, std::size_t first, std::size_t n,
                  const std::uint8_t* const* codes, Residues* sums) noexcept {
  const std::size_t stride = vector.repetitions * kLimbs<F> * kCheckBlock;
  const auto* const all = reinterpret_cast<const Limb*>(vector.packed);
  std::size_t taken = 0;
  for (std::size_t done = 0; done < n; done += taken) {
    const std::size_t off = (first + done) % kCheckBlock;
    const Limb* const limbs = all + (first + done) / kCheckBlock * stride;
    const std::uint8_t* here[kImages];
    for (std::size_t b = 0; b < kImages; ++b) here[b] = codes[b] + done;
    std::size_t blocks = off == 0 ? min(kSteps, (n - done) / kCheckBlock) : 0;
    taken = blocks * kCheckBlock;
    // A block that is not wholly inside the tile is copied out; codes of 0 add nothing.
    alignas(kBytes) std::uint8_t edge[kImages][kCheckBlock];
    if (blocks == 0) {
      blocks = 1;
      taken = min(kCheckBlock - off, n - done);
      std::memset(edge, 0, sizeof(edge));
      for (std::size_t b = 0; b < kImages; ++b) {
        std::memcpy(edge[b] + off, here[b], taken);
        here[b] = edge[b];
      }
    }
    for (std::size_t k = 0; k < vector.repetitions; ++k) {
      check_blocks<F, kImages>(limbs + k * kLimbs<F> * kCheckBlock, stride, blocks, here, k, sums);
    }
  }
}

template <Field F>
void check_input(const CheckVector& vector, std::size_t first, std::size_t n,
                 const std::uint8_t* const* codes, std::size_t images, Residues* sums) noexcept {
  std::size_t b = 0;
  for (; b + 4 <= images; b += 4) check_images<F, 4>(vector, first, n, codes + b, sums + b);
  for (; b < images; ++b) check_images<F, 1>(vector, first, n, codes + b, sums + b);
}
