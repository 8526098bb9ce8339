// SPDX-License-Identifier: Apache-2.0
#include "system/liar/lies.h"

#include <algorithm>
#include <cstring>

namespace slalom::testing {
namespace {

// Words reads and writes packed residues.
class Words {
 public:
  explicit Words(const AnswerWords& answer)
      : bytes_(answer.bytes),
        step_(field::word_bytes(answer.field)),
        p_(field::modulus(answer.field)) {}

  [[nodiscard]] std::size_t size() const { return bytes_.size() / step_; }
  [[nodiscard]] std::uint32_t get(std::size_t i) const {
    std::uint32_t v = 0;
    std::memcpy(&v, bytes_.data() + i * step_, step_);
    return v;
  }
  void set(std::size_t i, std::uint32_t v) { std::memcpy(bytes_.data() + i * step_, &v, step_); }
  void add(std::size_t i, std::uint32_t d) {
    set(i, static_cast<std::uint32_t>((std::uint64_t{get(i)} + d) % p_));
  }
  [[nodiscard]] std::uint32_t modulus() const { return p_; }

 private:
  std::span<std::byte> bytes_;
  std::size_t step_;
  std::uint32_t p_;
};

std::size_t below(std::mt19937_64& random, std::size_t n) { return random() % n; }

// Adds d to word a and takes it from word b.
void shift(Words& words, std::size_t a, std::size_t b, std::uint32_t d) {
  words.add(a, d);
  words.add(b, words.modulus() - d);
}

void replace(std::span<std::byte> bytes, std::span<const std::byte> with) {
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = with[i % with.size()];
}

// The lies that need two of something; false when there is only one.
bool alter_two(Lie lie, const AnswerWords& a, Words& words, std::mt19937_64& random) {
  const std::size_t image = below(random, a.batch) * a.positions * a.channels;
  const std::size_t position = below(random, a.positions);
  const std::size_t channel = below(random, a.channels);
  const auto d = static_cast<std::uint32_t>(1 + below(random, words.modulus() - 1));
  if (lie == Lie::kPair && a.channels > 1) {
    const std::size_t other = (channel + 1 + below(random, a.channels - 1)) % a.channels;
    const std::size_t row = image + position * a.channels;
    shift(words, row + channel, row + other, d);
    return true;
  }
  if (lie == Lie::kPositions && a.positions > 1) {
    const std::size_t other = (position + 1 + below(random, a.positions - 1)) % a.positions;
    shift(words, image + position * a.channels + channel, image + other * a.channels + channel, d);
    return true;
  }
  if (lie == Lie::kImages && a.batch > 1) {
    const std::size_t size = a.bytes.size() / a.batch;
    std::swap_ranges(a.bytes.begin(), a.bytes.begin() + static_cast<std::ptrdiff_t>(size),
                     a.bytes.begin() + static_cast<std::ptrdiff_t>(size));
    return true;
  }
  return false;
}

}  // namespace

void alter(Lie lie, const AnswerWords& answer, std::span<const std::byte> before,
           std::span<const std::byte> other, std::mt19937_64& random) {
  Words words(answer);
  const std::size_t any = below(random, words.size());
  switch (lie) {
    case Lie::kBit:
      answer.bytes[any * field::word_bytes(answer.field)] ^= std::byte{1};
      return;
    case Lie::kConstant:
      for (std::size_t i = 0; i < words.size(); ++i) words.add(i, 3);
      return;
    case Lie::kZeros:
      std::fill(answer.bytes.begin(), answer.bytes.end(), std::byte{0});
      return;
    case Lie::kAboveP:
      // Congruent to a small residue: a check that reduced it would let a right value pass.
      words.set(any, words.modulus() + static_cast<std::uint32_t>(below(
                                           random, answer.field == field::Field::kP24 ? 3 : 100)));
      return;
    case Lie::kLastBatch:
      if (before.size() != answer.bytes.size()) break;
      replace(answer.bytes, before);
      return;
    case Lie::kOtherLayer:
      if (other.empty()) break;
      replace(answer.bytes, other);
      return;
    default:
      if (alter_two(lie, answer, words, random)) return;
  }
  words.add(any, static_cast<std::uint32_t>(1 + below(random, words.modulus() - 1)));
}

}  // namespace slalom::testing
