// SPDX-License-Identifier: Apache-2.0
// Differential: the same bytes through every implementation of the field kernels that this CPU
// runs; any difference from the portable one aborts. The first bytes choose the field, the
// operation and the shape, the rest are words, codes and challenges (repeated as needed).
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/cpu.h"
#include "field/arithmetic.h"
#include "field/kernels.h"
#include "field/pad_stream.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file
using field::Field;
using field::Kernels;

void require(bool condition) {
  if (!condition) std::abort();
}

// Tape deals out the input's bytes, over and over, with a counter mixed in once they repeat.
class Tape {
 public:
  Tape(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  std::uint8_t byte() {
    const std::size_t round = size_ == 0 ? at_ : at_ / size_;
    const std::uint8_t out = size_ == 0 ? 0 : data_[at_ % size_];
    ++at_;
    return static_cast<std::uint8_t>(out + 151 * round);
  }
  std::uint32_t word() {
    std::uint32_t out = 0;
    for (int i = 0; i < 4; ++i) out = (out << 8) | byte();
    return out;
  }
  std::size_t below(std::size_t n) { return word() % n; }
  // canonical is often an edge of the field.
  std::uint32_t canonical(Field f) {
    const std::uint32_t w = word();
    const std::uint32_t p = modulus(f);
    switch (w & 15) {
      case 0:
        return 0;
      case 1:
        return p - 1;
      case 2:
        return p / 2;
      case 3:
        return p / 2 + 1;
      default:
        return (w >> 4) % p;
    }
  }
  template <class T, class Make>
  std::vector<T> fill(std::size_t n, Make make) {
    std::vector<T> out(n);
    out.reserve(n + 1);  // an empty row has an address too
    for (T& v : out) v = make();
    return out;
  }
  std::vector<std::uint32_t> words(Field f, std::size_t n) {
    return fill<std::uint32_t>(n, [&] { return canonical(f); });
  }
  std::vector<std::uint8_t> bytes(std::size_t n) {
    return fill<std::uint8_t>(n, [&] { return byte(); });
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

const std::vector<const Kernels*>& fast_kernels() {
  static const std::vector<const Kernels*> fast = [] {
    std::vector<const Kernels*> out;
    for (const Kernels* k : field::all_kernels()) {
      if (k->supported(base::detect_cpu())) out.push_back(k);
    }
    out.pop_back();
    return out;
  }();
  return fast;
}
const Kernels& portable() { return *field::all_kernels().back(); }

// same runs one operation with every implementation and compares what it returns.
template <class Run>
void same(Run run) {
  const auto want = run(portable());
  for (const Kernels* k : fast_kernels()) require(run(*k) == want);
}

void consume(Tape& tape, Field f) {
  const std::size_t channels = 1 + tape.below(150);
  const std::size_t positions = 1 + tape.below(36);
  const std::size_t repetitions = tape.below(field::kMaxRepetitions + 1);
  const std::size_t n = positions * channels;
  const std::size_t padded =
      (channels + field::kChannelPad - 1) / field::kChannelPad * field::kChannelPad;
  const std::vector<std::uint8_t> slot = tape.bytes(n * word_bytes(f));
  const bool unblind = (tape.byte() & 1) != 0;
  const std::vector<std::uint32_t> u = tape.words(f, unblind ? n : 0);
  std::vector<std::uint32_t> a = tape.words(Field::kP24, repetitions * padded);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = i % padded < channels ? a[i] : 0;
  const std::vector<std::uint32_t> c = tape.words(Field::kP24, repetitions * positions);
  const std::vector<std::uint32_t> threshold = tape.words(f, padded);
  const std::vector<std::int32_t> offset =
      tape.fill<std::int32_t>(padded, [&] { return static_cast<std::int32_t>(tape.word()); });
  const bool tame = (tape.byte() & 1) != 0;
  const std::vector<float> multiplier = tape.fill<float>(padded, [&] {
    const auto m = static_cast<float>(1 + tape.word() % 100'000) /
                   static_cast<float>(1 + tape.word() % 1'000'000);
    return tame ? std::min(m, 0.5F) : m;
  });
  const std::vector<std::uint8_t> table = tape.bytes(256);
  const std::uint8_t x = tape.byte();
  const std::uint8_t y = tape.byte();
  const field::Epilogue e{threshold.data(),
                          offset.data(),
                          multiplier.data(),
                          tape.byte(),
                          std::min(x, y),
                          std::max(x, y),
                          x % 2 == 0 ? table.data() : nullptr,
                          tame};
  const field::OutputTile tile{f, positions, channels,
                               reinterpret_cast<const std::byte*>(slot.data()),
                               unblind ? u.data() : nullptr};
  const field::OutputChallenge challenge{repetitions, a.data(), padded, c.data(), positions};
  same([&](const Kernels& k) {
    field::OutputSum sum;
    std::vector<std::uint8_t> codes(n);
    std::vector<std::int32_t> integers(n);
    k.consume_codes(tile, challenge, e, codes.data(), sum);
    k.consume_integers(tile, challenge, e, integers.data(), sum);
    return std::tuple(codes, integers, sum.residues.value, sum.bad != 0);
  });
}

void check_input(Tape& tape, Field f) {
  const std::size_t elements = 1 + tape.below(900);
  const std::size_t repetitions = 1 + tape.below(3);
  const std::size_t images = 1 + tape.below(6);
  const std::size_t first = tape.below(elements);
  const std::size_t n = tape.below(elements - first + 1);
  const std::vector<std::uint32_t> s = tape.words(f, repetitions * elements);
  const std::vector<std::uint8_t> codes = tape.bytes(images * n);
  std::vector<const std::uint32_t*> rows;
  for (std::size_t k = 0; k < repetitions; ++k) rows.push_back(s.data() + k * elements);
  std::vector<const std::uint8_t*> starts;
  for (std::size_t b = 0; b < images; ++b) starts.push_back(codes.data() + b * n);
  same([&](const Kernels& k) {
    std::vector<std::byte> packed(k.check_bytes(f, repetitions, elements));
    const field::CheckVector vector{f, repetitions, elements, packed.data()};
    k.pack_check(vector, 0, elements, rows.data(), packed.data());
    std::vector<field::Residues> sums(images);
    k.check_input(vector, first, n, starts.data(), images, sums.data());
    std::vector<std::uint32_t> out;
    for (const auto& sum : sums) out.insert(out.end(), sum.value.begin(), sum.value.end());
    return out;
  });
}

void slots(Tape& tape, Field f) {
  const std::size_t n = 1 + tape.below(600);
  const std::size_t shift = tape.below(64);
  const std::vector<std::uint8_t> codes = tape.bytes(n);
  const std::vector<std::uint32_t> r = tape.words(f, n);
  const std::uint8_t zero = tape.byte();
  same([&](const Kernels& k) {
    std::vector<std::byte> slot(shift + n * word_bytes(f));
    k.blind(f, codes.data(), zero, r.data(), n, slot.data() + shift);
    std::vector<std::byte> sent(shift + n);
    k.send_codes(codes.data(), n, sent.data() + shift);
    std::vector<std::byte> packed(n * word_bytes(f));
    k.pack(f, r.data(), n, packed.data());
    std::vector<std::uint32_t> back(n);
    k.unpack(f, packed.data(), n, back.data());
    return std::tuple(slot, sent, packed, back);
  });
}

void algebra(Tape& tape, Field f) {
  const std::size_t rows = tape.below(20);
  const std::size_t n = 1 + tape.below(200);
  const std::vector<std::uint32_t> c = tape.words(f, rows);
  const std::vector<std::uint32_t> x = tape.words(f, rows * n);
  const std::vector<std::uint8_t> q = tape.bytes(rows * n);
  std::vector<const std::uint32_t*> words;
  std::vector<const std::uint8_t*> codes;
  std::vector<const std::int8_t*> weights;
  for (std::size_t t = 0; t < rows; ++t) {
    words.push_back(x.data() + t * n);
    codes.push_back(q.data() + t * n);
    weights.push_back(reinterpret_cast<const std::int8_t*>(q.data()) + t * n);
  }
  same([&](const Kernels& k) {
    std::vector<std::uint32_t> out(3 * n);
    k.combine_words(f, c.data(), words.data(), rows, n, out.data());
    k.combine_codes(f, c.data(), codes.data(), rows, n, out.data() + n);
    k.combine_weights(f, c.data(), weights.data(), rows, n, out.data() + 2 * n);
    out.push_back(k.dot_words(f, out.data(), out.data() + n, n));
    out.push_back(rows == 0 ? 0 : k.dot_codes(f, codes[0], out.data(), n));
    return out;
  });
}

void pads(Tape& tape, Field f) {
  field::StreamKey key{};
  for (auto& b : key) b = static_cast<std::byte>(tape.byte());
  const std::uint64_t first = tape.word();
  const std::size_t n = 1 + tape.below(500);
  same([&](const Kernels& k) {
    std::vector<std::uint32_t> out(n);
    field::PadStream(key, f, k).fill(first, out);
    return out;
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  Tape tape(data + 1, size - 1);
  const Field f = (data[0] & 1) != 0 ? Field::kP24 : Field::kP31;
  switch (data[0] >> 1 & 7) {
    case 0:
    case 1:
    case 2:
      consume(tape, f);
      break;
    case 3:
      check_input(tape, f);
      break;
    case 4:
      slots(tape, f);
      break;
    case 5:
      algebra(tape, f);
      break;
    default:
      pads(tape, f);
      break;
  }
  return 0;
}
