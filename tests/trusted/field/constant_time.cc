// SPDX-License-Identifier: Apache-2.0
// Run under valgrind's memcheck: every secret is marked undefined, so that any branch or address
// that depends on one is an error (A. Langley's ctgrind). Covers every kernel that valgrind can run
// (portable and AVX2) and the verdict. `constant_time leak NAME` does the opposite on purpose.
#include <valgrind/memcheck.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "field/arithmetic.h"
#include "field/challenge.h"
#include "field/kernels.h"

namespace {

using namespace slalom;  // NOLINT(google-build-using-namespace): a program of one file
using field::Field;
using field::Kernels;

template <class T>
void hide(std::vector<T>& values) {
  VALGRIND_MAKE_MEM_UNDEFINED(values.data(), values.size() * sizeof(T));
}
template <class T>
void show(std::vector<T>& values) {
  VALGRIND_MAKE_MEM_DEFINED(values.data(), values.size() * sizeof(T));
}

std::vector<std::uint32_t> secret_words(std::size_t n, std::uint32_t seed) {
  std::vector<std::uint32_t> out(n);
  for (std::size_t i = 0; i < n; ++i)
    out[i] = (seed + 7919 * static_cast<std::uint32_t>(i)) & 0xf'ffff;
  hide(out);
  return out;
}
std::vector<std::uint8_t> secret_codes(std::size_t n) {
  std::vector<std::uint8_t> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::uint8_t>(37 * i);
  hide(out);
  return out;
}

void output_side(const Kernels& k, Field f, std::size_t repetitions, std::size_t channels,
                 bool unblind, bool table) {
  const std::size_t positions = 19;
  const std::size_t n = positions * channels;
  const std::size_t padded =
      (channels + field::kChannelPad - 1) / field::kChannelPad * field::kChannelPad;
  // Some words are out of range: that must not show in time either.
  std::vector<std::byte> slot(n * word_bytes(f));
  for (std::size_t i = 0; i < slot.size(); ++i)
    slot[i] = static_cast<std::byte>(i % 5 == 0 ? 0xff : i * 3);
  hide(slot);
  const std::vector<std::uint32_t> u = secret_words(n, 1);
  const std::vector<std::uint32_t> a = secret_words(repetitions * padded, 2);
  const std::vector<std::uint32_t> c = secret_words(repetitions * positions, 3);
  const std::vector<std::uint32_t> threshold(padded, modulus(f) / 2);
  const std::vector<std::int32_t> offset(padded, -77);
  const std::vector<float> multiplier(padded, 1e-4F);
  std::vector<std::uint8_t> entries(256, 5);
  const field::Epilogue e{threshold.data(),
                          offset.data(),
                          multiplier.data(),
                          3,
                          1,
                          250,
                          table ? entries.data() : nullptr,
                          true};
  const field::OutputTile tile{f, positions, channels, slot.data(), unblind ? u.data() : nullptr};
  const field::OutputChallenge challenge{repetitions, a.data(), padded, c.data(), positions};
  std::vector<std::uint8_t> codes(n);
  std::vector<std::int32_t> integers(n);
  field::OutputSum sum;
  k.consume_codes(tile, challenge, e, codes.data(), sum);
  k.consume_integers(tile, challenge, e, integers.data(), sum);
  k.requantise_codes({integers.data(), channels, positions, channels}, e, codes.data(), channels);
  k.apply_table(entries.data(), codes.data(), n);
  field::OutputSum twice = sum;
  merge(f, twice, sum);
}

void input_side(const Kernels& k, Field f, std::size_t n) {
  constexpr std::size_t kRepetitions = 2;
  std::vector<std::uint32_t> s = secret_words(kRepetitions * n, 4);
  const std::uint32_t* rows[] = {s.data(), s.data() + n};
  std::vector<std::byte> packed(k.check_bytes(f, kRepetitions, n));
  const field::CheckVector vector{f, kRepetitions, n, packed.data()};
  k.pack_check(vector, 0, n, rows, packed.data());
  const std::vector<std::uint8_t> q = secret_codes(n);
  const std::uint8_t* images[] = {q.data(), q.data(), q.data(), q.data(), q.data()};
  std::vector<field::Residues> sums(5);
  k.check_input(vector, 0, n, images, 5, sums.data());
  std::vector<std::byte> slot(n * 4 + 3);
  k.send_codes(q.data(), n, slot.data());
  k.blind(f, q.data(), 9, s.data(), n, slot.data() + 3);
  k.fence();
}

void algebra(const Kernels& k, Field f, std::size_t n) {
  const std::vector<std::uint32_t> c = secret_words(3, 5);
  const std::vector<std::uint32_t> x = secret_words(3 * n, 6);
  const std::vector<std::uint8_t> q = secret_codes(3 * n);
  const std::vector<std::int8_t> w(3 * n, -3);
  const std::uint32_t* words[] = {x.data(), x.data() + n, x.data() + 2 * n};
  const std::uint8_t* codes[] = {q.data(), q.data() + n, q.data() + 2 * n};
  const std::int8_t* weights[] = {w.data(), w.data() + n, w.data() + 2 * n};
  std::vector<std::uint32_t> out(n);
  k.combine_words(f, c.data(), words, 3, n, out.data());
  k.combine_codes(f, c.data(), codes, 3, n, out.data());
  k.combine_weights(f, c.data(), weights, 3, n, out.data());
  out[0] = k.dot_words(f, x.data(), out.data(), n);
  out[1] = k.dot_codes(f, q.data(), out.data(), n);
  std::vector<std::byte> packed(4 * n);
  k.pack(f, x.data(), n, packed.data());
  k.unpack(f, packed.data(), n, out.data());
}

// The event that a candidate was rejected is public (pad_stream.h), hence the result may be used.
void pads(const Kernels& k, Field f) {
  if (k.pad_candidates == nullptr) return;
  std::vector<std::byte> key(32, std::byte{7});
  hide(key);
  std::vector<std::byte> round_keys(240);
  k.expand_key(key.data(), round_keys.data());
  std::vector<std::uint32_t> out(400);
  (void)k.pad_candidates(f, round_keys.data(), 0, 77, out.size(), out.data());
}

void verdict(Field f) {
  std::vector<field::OutputSum> outputs(1);
  std::vector<field::Residues> inputs(2);
  hide(outputs);
  hide(inputs);
  field::ChallengeSet::Layer layer;
  layer.field = f;
  layer.output.repetitions = 2;
  layer.constant = inputs.data() + 1;
  field::Verdict end;
  end.add(layer.difference(outputs[0], inputs[0]), outputs[0].bad);
  bool right = std::move(end).take_verdict();
  VALGRIND_MAKE_MEM_DEFINED(&right, sizeof(right));
  std::printf("verdict %s\n", right ? "true" : "false");
}

int leak(const std::string& kind) {
  std::vector<std::uint32_t> secret = secret_words(64, 8);
  static constexpr std::uint32_t kTable[64] = {1, 2, 3};
  volatile std::uint32_t sink = 0;
  if (kind == "branch" && secret[3] > 1000) sink = 1;
  if (kind == "index") sink = kTable[secret[5] % 64];
  if (kind == "loop") {
    for (std::uint32_t i = 0; i < (secret[1] & 3); ++i) sink = i;
  }
  return static_cast<int>(sink & 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (RUNNING_ON_VALGRIND == 0) {
    static_cast<void>(std::fputs("constant_time: run me under valgrind\n", stderr));
    return 2;
  }
  if (argc == 3 && std::strcmp(argv[1], "leak") == 0) return leak(argv[2]);
  std::size_t count = 0;
  const base::CpuFeatures cpu = base::detect_cpu();
  for (const Kernels* k : field::all_kernels()) {
    if (!k->supported(cpu)) continue;
    ++count;
    std::printf("%s\n", std::string(k->name).c_str());
    for (const Field f : {Field::kP24, Field::kP31}) {
      for (const std::size_t repetitions : {0U, 1U, 2U, 3U}) {
        for (const std::size_t channels : {5U, 80U}) {
          output_side(*k, f, repetitions, channels, repetitions % 2 == 0, channels == 5);
        }
      }
      input_side(*k, f, 333);
      algebra(*k, f, 75);
      pads(*k, f);
    }
  }
  verdict(Field::kP24);
  verdict(Field::kP31);
  return count >= 2 ? 0 : 3;  // portable and AVX2
}
