// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/cpu.h"
#include "field/prime.h"

// The field loops: everything that touches every word of an inference. Kernels is one
// implementation for one instruction set; all of them return the same bits for the same arguments,
// the portable one (kernels_portable.cc) is the specification, they differ only in speed.
//
// Common rules.
//  - A word is a residue mod p: in the untrusted slot packed little-endian in word_bytes(field)
//  bytes,
//    in trusted memory one uint32. "Canonical" means below p.
//  - Kernels check nothing: lengths, pointers and ranges are the caller's promise. They allocate
//    nothing, keep no state, and may be called from any number of threads.
//  - Time and addresses depend on lengths and flags only, never on a word, code, pad or challenge.
//  - No alignment is required anywhere; 64-byte aligned slots and tiles that are multiples of 64
//    elements are fastest. No kernel reads or writes a byte outside the ranges named here.
//  - Memory of the slot is read by `consume` only, each byte exactly once, by loads that the
//  compiler
//    may not repeat; it is written by `send_codes` and `blind` only, with non-temporal stores where
//    it pays, and never read back. Each thread calls `fence` after its last store to a slot and
//    before it tells another thread that the slot is filled.

namespace slalom::field {

// kMaxRepetitions bounds k. Six repetitions give 134 bits at d = 3.
inline constexpr std::size_t kMaxRepetitions = 6;

// kChannelPad: tables with one entry a channel are padded with zeros to a multiple of this many.
inline constexpr std::size_t kChannelPad = 64;

// Residues holds one canonical word per repetition of a check; entries from k on stay zero. Secret
// until the verdict.
struct Residues {
  std::array<std::uint32_t, kMaxRepetitions> value{};
};

// OutputSum is what `consume` adds up: residues of the output side, and bad != 0 once any word was
// not below p. Sums of disjoint tiles are joined by `merge`.
struct OutputSum {
  Residues residues;
  std::uint32_t bad = 0;
};

void merge(Field f, Residues& into, const Residues& from) noexcept;
void merge(Field f, OutputSum& into, const OutputSum& from) noexcept;

// OutputChallenge is the rank-one challenge a (x) c of one layer, as `consume` reads it (DESIGN:
// checks; the paper, section 3.2, has one vector where this has a product of two). In trusted,
// secret memory.
//   a[k*a_stride + channel]: words in [0, N), padded with zeros to a_stride, a multiple of
//   kChannelPad c[k*c_stride + position]: words in [0, N); position 0 is the first position of the
//   tile
struct OutputChallenge {
  std::size_t repetitions = 0;  // 0: no check (integrity off)
  const std::uint32_t* a = nullptr;
  std::size_t a_stride = 0;
  const std::uint32_t* c = nullptr;
  std::size_t c_stride = 0;

  // from returns the challenge of the tile that starts `positions` further on.
  [[nodiscard]] OutputChallenge from(std::size_t positions) const noexcept {
    OutputChallenge out = *this;
    if (out.repetitions != 0) out.c += positions;
    return out;
  }
};

// Epilogue turns a word v (unblinded, below p) of channel o into a stored value:
//   Y + bias = v + offset[o] - (v > threshold[o] ? p : 0)         (int32, wrapping)
//   codes      rounded = requantise(f32(Y + bias) * multiplier[o], zero_point, lo, hi)  as in
//              model/plan.h, then table[rounded] if there is a table, stored as uint8; 0 <= lo <=
//              hi <= 255
//   integers   the same rounding, no table, stored as int32; any lo <= hi
// The channel tables are padded to a multiple of kChannelPad. requant.h builds them. Not secret.
struct Epilogue {
  const std::uint32_t* threshold = nullptr;
  const std::int32_t* offset = nullptr;
  const float* multiplier = nullptr;  // one a channel, finite, > 0
  std::int32_t zero_point = 0;
  std::int32_t lo = 0;
  std::int32_t hi = 255;
  const std::uint8_t* table = nullptr;  // 256 entries, or none
  bool tame = false;  // every multiplier is at most 1/2: then a faster loop may be taken
};

// OutputTile is a run of consecutive positions of one image's answer, all channels, channels last.
struct OutputTile {
  Field field = Field::kP24;
  std::size_t positions = 0;
  std::size_t channels = 0;          // of the whole tensor, 1..2^20
  const std::byte* words = nullptr;  // UNTRUSTED, positions*channels packed words
  const std::uint32_t* u = nullptr;  // trusted: canonical unblinding words to subtract; or none
};

// IntegerTile is channels of some positions: that of position p at y[p*stride].
struct IntegerTile {
  const std::int32_t* y = nullptr;
  std::size_t stride = 0;
  std::size_t positions = 0;
  std::size_t channels = 0;
};

// CheckVector is s~, the input side of a preprocessed check: one word per repetition and input
// element, in a layout that belongs to the kernels that packed it. Secret. `elements` is h*w*c of
// the input.
struct CheckVector {
  Field field = Field::kP24;
  std::size_t repetitions = 0;
  std::size_t elements = 0;
  const std::byte* packed = nullptr;  // check_bytes(...) bytes
};

struct Kernels {
  std::string_view name;
  bool (*supported)(const base::CpuFeatures& cpu) noexcept;

  // ---- the output side ----
  // consume_* read each word of the tile once from the slot, and
  //   1. set sum.bad if it is not below p. From there on the low 24 (p31: 31) bits of the word are
  //   used,
  //      whatever they are, so that every later step is total;
  //   2. subtract u mod p, if there is one;
  //   3. add, for each repetition k, v * a[k][channel] * c[k][position] to sum.residues.value[k]
  //   mod p;
  //   4. store what the epilogue makes of v, positions*channels values, channels last, at dst.
  // With repetitions == 0 step 3 is left out. dst is trusted memory and must not overlap anything.
  void (*consume_codes)(const OutputTile& tile, const OutputChallenge& challenge,
                        const Epilogue& epilogue, std::uint8_t* dst, OutputSum& sum) noexcept;
  void (*consume_integers)(const OutputTile& tile, const OutputChallenge& challenge,
                           const Epilogue& epilogue, std::int32_t* dst, OutputSum& sum) noexcept;

  // requantise_codes applies the epilogue's rounding (bias included in the integers, threshold and
  // offset unused) to trusted integers. A position's codes follow the last one's by dst_stride.
  void (*requantise_codes)(const IntegerTile& tile, const Epilogue& epilogue, std::uint8_t* dst,
                           std::size_t dst_stride) noexcept;
  // apply_table: codes[i] = table[codes[i]], every entry of the table touched alike.
  void (*apply_table)(const std::uint8_t* table, std::uint8_t* codes, std::size_t n) noexcept;

  // ---- the input side ----
  // check_bytes is the size of a packed CheckVector; pack_check writes elements [first, first + n)
  // of it from canonical words, words[k] pointing at element `first` of repetition k. first must be
  // a multiple of 64, and n too unless the vector ends there. The memory starts zeroed.
  std::size_t (*check_bytes)(Field f, std::size_t repetitions, std::size_t elements) noexcept;
  void (*pack_check)(const CheckVector& vector, std::size_t first, std::size_t n,
                     const std::uint32_t* const* words, std::byte* packed) noexcept;
  // check_input adds sum over i in [first, first + n) of q_i * s~_i mod p to sums[b].value[k], for
  // `images` images whose codes q of these elements start at codes[b]. It multiplies codes q, not
  // q - 128: the difference is a constant of the layer that challenge.h accounts for. One call with
  // all images of a micro-batch reads s~ once: order the loops tile by tile, images inside, with
  // tiles whose part of s~ (about 4*k bytes an element) fits the second-level cache.
  void (*check_input)(const CheckVector& vector, std::size_t first, std::size_t n,
                      const std::uint8_t* const* codes, std::size_t images,
                      Residues* sums) noexcept;
  // send_codes copies n codes to the slot.
  void (*send_codes)(const std::uint8_t* codes, std::size_t n, std::byte* slot) noexcept;
  // blind writes the packed words (q_i - zero + r_i) mod p to the slot; r canonical. zero is the
  // code that stands for 0: in both private modes the input's zero point, since devices pad words
  // with zeros (see requant.h). 0 <= zero <= 255.
  void (*blind)(Field f, const std::uint8_t* codes, std::uint8_t zero, const std::uint32_t* r,
                std::size_t n, std::byte* slot) noexcept;
  // fence orders this thread's stores to slots before anything that follows.
  void (*fence)() noexcept;

  // ---- linear combinations of rows: out[i] = sum over t of coefficients[t] * rows[t][i] mod p
  // ---- All of one shape, with canonical coefficients and results; num_rows >= 0, n >= 0. A row of
  // words may be out itself; nothing else overlaps out. A code stands for q.
  void (*combine_words)(Field f, const std::uint32_t* coefficients,
                        const std::uint32_t* const* rows, std::size_t num_rows, std::size_t n,
                        std::uint32_t* out) noexcept;
  void (*combine_weights)(Field f, const std::uint32_t* coefficients,
                          const std::int8_t* const* rows, std::size_t num_rows, std::size_t n,
                          std::uint32_t* out) noexcept;
  void (*combine_codes)(Field f, const std::uint32_t* coefficients, const std::uint8_t* const* rows,
                        std::size_t num_rows, std::size_t n, std::uint32_t* out) noexcept;
  // dot_words and dot_codes return sum x[i] * s[i] mod p, canonical; words canonical, codes as q.
  std::uint32_t (*dot_words)(Field f, const std::uint32_t* x, const std::uint32_t* s,
                             std::size_t n) noexcept;
  std::uint32_t (*dot_codes)(Field f, const std::uint8_t* codes, const std::uint32_t* s,
                             std::size_t n) noexcept;

  // ---- words ----
  // pack and unpack move words between uint32 and the packed form. All memory is trusted (or the
  // caller's own): these are not for the trusted end's slots.
  void (*pack)(Field f, const std::uint32_t* words, std::size_t n, std::byte* packed) noexcept;
  void (*unpack)(Field f, const std::byte* packed, std::size_t n, std::uint32_t* words) noexcept;

  // ---- pads (both or none: without them pad_stream.cc uses libcrypto) ----
  // expand_key writes the 15 round keys (240 bytes) of a 32-byte AES key. pad_candidates writes
  // candidate words of AES-256-CTR keystream `stream` from word `first` on (pad_stream.h) and
  // returns whether any of them is not below p.
  void (*expand_key)(const std::byte* key, std::byte* round_keys) noexcept;
  bool (*pad_candidates)(Field f, const std::byte* round_keys, std::uint64_t stream,
                         std::uint64_t first, std::size_t n, std::uint32_t* out) noexcept;
};

// The implementations, each in its own file.
extern const Kernels kPortableKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512IfmaKernels;

// all_kernels lists every implementation in this build, fastest first, portable last.
[[nodiscard]] std::span<const Kernels* const> all_kernels() noexcept;

// choose_kernels returns the first that this CPU supports. Choose once, pass the reference on.
[[nodiscard]] const Kernels& choose_kernels(const base::CpuFeatures& cpu) noexcept;

}  // namespace slalom::field
