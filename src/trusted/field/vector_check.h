// SPDX-License-Identifier: Apache-2.0
// check_input over V, written once; included like vector_consume.h. V::Check says how s~ is cut
// into limbs: kLimbs<F> signed digits of type Limb in base 2^kShift<F>, V::dot(acc, codes, limbs)
// adding products into 32-bit lanes, kSteps the most blocks of 64 elements that these lanes hold.
//
// Packed layout: [block of 64 elements][repetition][limb][64] Limb.

constexpr std::size_t kCheckBlock = 64;

template <class V>
std::size_t check_bytes(Field f, std::size_t repetitions, std::size_t elements) noexcept {
  using C = typename V::Check;
  std::size_t limbs = C::template kLimbs<Field::kP24>;
  if (f == Field::kP31) limbs = C::template kLimbs<Field::kP31>;
  return (elements + kCheckBlock - 1) / kCheckBlock * repetitions * limbs * kCheckBlock *
         sizeof(typename C::Limb);
}

template <class V, Field F>
void pack_field_check(const CheckVector& vector, std::size_t first, std::size_t n,
                      const std::uint32_t* const* words, std::byte* packed) noexcept {
  using C = typename V::Check;
  using Limb = typename C::Limb;
  constexpr std::size_t kLimbs = C::template kLimbs<F>;
  constexpr unsigned kShift = C::template kShift<F>;
  constexpr std::int32_t kHalf = 1 << (kShift - 1);
  auto* const all = reinterpret_cast<Limb*>(packed);
  for (std::size_t k = 0; k < vector.repetitions; ++k) {
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t block = (first + i) / kCheckBlock;
      Limb* const at =
          all + (block * vector.repetitions + k) * kLimbs * kCheckBlock + i % kCheckBlock;
      std::int32_t rest = limb_centred(words[k][i], F);
      for (std::size_t l = 0; l < kLimbs; ++l) {
        // The balanced digit of rest: its low bits as a signed number; the last takes what is left.
        const std::int32_t low = static_cast<std::int32_t>(
                                     (static_cast<std::uint32_t>(rest) + kHalf) & (2 * kHalf - 1)) -
                                 kHalf;
        const std::int32_t digit = l + 1 == kLimbs ? rest : low;
        at[l * kCheckBlock] = static_cast<Limb>(digit);
        rest = (rest - digit) >> kShift;
      }
    }
  }
}
template <class V>
void pack_check(const CheckVector& vector, std::size_t first, std::size_t n,
                const std::uint32_t* const* words, std::byte* packed) noexcept {
  vector.field == Field::kP24 ? pack_field_check<V, Field::kP24>(vector, first, n, words, packed)
                              : pack_field_check<V, Field::kP31>(vector, first, n, words, packed);
}

// CheckTile is one stretch of whole blocks for kImages images and one repetition: limbs are loaded
// once for all of them.
template <class V, Field F, std::size_t kImages>
void check_blocks(const typename V::Check::Limb* limbs, std::size_t stride, std::size_t blocks,
                  const std::uint8_t* const* codes, std::size_t k, Residues* sums) noexcept {
  using C = typename V::Check;
  using W = typename V::W;
  constexpr std::size_t kLimbs = C::template kLimbs<F>;
  constexpr std::size_t kChunk = C::kChunk;  // elements one V::dot takes
  W acc[kImages][kLimbs];
  for (std::size_t b = 0; b < kImages; ++b) {
    for (std::size_t l = 0; l < kLimbs; ++l) acc[b][l] = V::zero();
  }
  for (std::size_t block = 0; block < blocks; ++block) {
    for (std::size_t part = 0; part < kCheckBlock; part += kChunk) {
      W limb[kLimbs];
      for (std::size_t l = 0; l < kLimbs; ++l) {
        limb[l] = V::load(limbs + block * stride + l * kCheckBlock + part);
      }
      for (std::size_t b = 0; b < kImages; ++b) {
        const W q = C::codes(codes[b] + block * kCheckBlock + part);
        for (std::size_t l = 0; l < kLimbs; ++l) acc[b][l] = C::dot(acc[b][l], q, limb[l]);
      }
    }
  }
  for (std::size_t b = 0; b < kImages; ++b) {
    W total = V::zero();
    for (std::size_t l = 0; l < kLimbs; ++l) {
      constexpr unsigned kShift = C::template kShift<F>;
      total =
          V::add64(total, V::shift_left64(V::pair_sums(acc[b][l]), static_cast<int>(kShift * l)));
    }
    alignas(64) std::int64_t lanes[V::kWidth / 2];
    V::store(lanes, total);
    std::int64_t sum = 0;
    for (const std::int64_t lane : lanes) sum += lane;
    sums[b].value[k] = Modulus<F>::add(sums[b].value[k], Modulus<F>::reduce_signed(sum));
  }
}

template <class V, Field F, std::size_t kImages>
void check_images(const CheckVector& vector, std::size_t first, std::size_t n,
                  const std::uint8_t* const* codes, Residues* sums) noexcept {
  using C = typename V::Check;
  constexpr std::size_t kLimbs = C::template kLimbs<F>;
  const std::size_t stride = vector.repetitions * kLimbs * kCheckBlock;
  const auto* const all = reinterpret_cast<const typename C::Limb*>(vector.packed);
  std::size_t done = 0;
  while (done < n) {
    const std::size_t at = first + done;
    const std::size_t off = at % kCheckBlock;
    const auto* const limbs = all + at / kCheckBlock * stride;
    const std::uint8_t* here[kImages];
    for (std::size_t b = 0; b < kImages; ++b) here[b] = codes[b] + done;
    // A block that is not wholly inside the tile is copied out; codes of 0 add nothing.
    alignas(64) std::uint8_t edge[kImages][kCheckBlock];
    std::size_t blocks = off == 0 ? (n - done) / kCheckBlock : 0;
    std::size_t taken = 0;
    if (blocks == 0) {
      blocks = 1;
      taken = kCheckBlock - off < n - done ? kCheckBlock - off : n - done;
      for (std::size_t b = 0; b < kImages; ++b) {
        std::memset(edge[b], 0, kCheckBlock);
        std::memcpy(edge[b] + off, here[b], taken);
        here[b] = edge[b];
      }
    } else {
      if (blocks > C::kSteps) blocks = C::kSteps;
      taken = blocks * kCheckBlock;
    }
    for (std::size_t k = 0; k < vector.repetitions; ++k) {
      check_blocks<V, F, kImages>(limbs + k * kLimbs * kCheckBlock, stride, blocks, here, k, sums);
    }
    done += taken;
  }
}

template <class V, Field F>
void check_field(const CheckVector& vector, std::size_t first, std::size_t n,
                 const std::uint8_t* const* codes, std::size_t images, Residues* sums) noexcept {
  constexpr std::size_t kGroup = V::Check::kGroup;
  std::size_t b = 0;
  for (; b + kGroup <= images; b += kGroup) {
    check_images<V, F, kGroup>(vector, first, n, codes + b, sums + b);
  }
  for (; b < images; ++b) check_images<V, F, 1>(vector, first, n, codes + b, sums + b);
}
template <class V>
void check_input(const CheckVector& vector, std::size_t first, std::size_t n,
                 const std::uint8_t* const* codes, std::size_t images, Residues* sums) noexcept {
  vector.field == Field::kP24 ? check_field<V, Field::kP24>(vector, first, n, codes, images, sums)
                              : check_field<V, Field::kP31>(vector, first, n, codes, images, sums);
}
