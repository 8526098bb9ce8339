// SPDX-License-Identifier: Apache-2.0
#include "linear/proof.h"

#include <algorithm>
#include <array>
#include <vector>

#include "linear/portable.h"

namespace slalom::linear {
namespace {

using field::Field;
using model::Conv;
using model::Linear;

constexpr std::size_t kConvSamples = 12;
constexpr std::size_t kDenseImages = 3;

// The data need no secrecy, only variety: a linear congruential generator (Knuth's MMIX constants).
class Varied {
 public:
  std::uint32_t next() noexcept {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  std::size_t below(std::size_t n) noexcept { return next() % n; }

 private:
  std::uint64_t state_ = 20190101;
};

// Drive says to which end a sample's inputs take its channel's sum; without one they stay random.
enum class Drive : std::uint8_t { kLeast, kMost, kNone };

struct Sample {
  std::size_t image = 0;
  std::size_t y = 0;
  std::size_t x = 0;
  std::size_t channel = 0;
  Drive drive = Drive::kNone;
};

// patch_layer is the layer cut down to one output position: its input is the window, padding
// included.
Linear patch_layer(const Linear& layer) {
  Linear patch = layer;
  for (model::ConvStage& stage : patch.stages) {
    Conv& c = stage.conv;
    model::Window& w = c.window;
    c.in.h = (w.kernel_h - 1) * w.dilation_h + 1;
    c.in.w = (w.kernel_w - 1) * w.dilation_w + 1;
    c.out.h = c.out.w = 1;
    w.pad_top = w.pad_left = w.pad_bottom = w.pad_right = 0;
    w.stride_h = w.stride_w = 1;
  }
  return patch;
}

// for_each_position calls body(index into the image or kOutside, index into the patch) for each
// place in the sample's window, dilation gaps included.
constexpr std::size_t kOutside = ~std::size_t{0};
template <class Body>
void for_each_position(const Conv& c, const Sample& s, Body body) {
  const model::Window& w = c.window;
  const std::size_t h = std::size_t{w.kernel_h - 1} * w.dilation_h + 1;
  const std::size_t width = std::size_t{w.kernel_w - 1} * w.dilation_w + 1;
  for (std::size_t i = 0; i < h * width; ++i) {
    const std::size_t y = s.y * w.stride_h + i / width - w.pad_top;  // wraps above the image
    const std::size_t x = s.x * w.stride_w + i % width - w.pad_left;
    const bool inside = y < c.in.h && x < c.in.w;
    body(inside ? y * c.in.w + x : kOutside, i);
  }
}

template <class T>
std::vector<T> cut_patch(const Conv& c, const Sample& s, const std::vector<T>& data, T outside) {
  std::vector<T> patch;
  const std::size_t image = s.image * c.in.elements();
  for_each_position(c, s, [&](std::size_t position, std::size_t) {
    for (std::size_t i = 0; i < c.in.c; ++i) {
      patch.push_back(position == kOutside ? outside : data[image + position * c.in.c + i]);
    }
  });
  return patch;
}

// effect is the sign with which input channel i at a tap enters the sample's output channel.
int effect(const Linear& layer, const Sample& s, std::size_t tap, std::size_t i) {
  const model::ConvStage& first = layer.stages[0];
  const Conv& c = first.conv;
  const bool pair = layer.stages.size() == 2;
  const std::size_t o = pair ? i : s.channel;  // a pair's first stage is depthwise
  const std::size_t group = o / c.group_out();
  if (i / c.group_in() != group) return 0;
  int weight = first.weights[o * c.terms() + tap * c.group_in() + i % c.group_in()];
  if (pair) weight *= layer.stages[1].weights[s.channel * c.out.c + i];
  return weight;
}

// drive writes the extreme inputs of a sample: high where the effect has the wanted sign, else low.
template <class T>
void drive(const Linear& layer, const Sample& s, T low, T high, std::vector<T>& data) {
  if (s.drive == Drive::kNone) return;
  const Conv& c = layer.stages[0].conv;
  const model::Window& w = c.window;
  const std::size_t width = std::size_t{w.kernel_w - 1} * w.dilation_w + 1;
  for_each_position(c, s, [&](std::size_t position, std::size_t i) {
    const std::size_t y = i / width;
    const std::size_t x = i % width;
    if (position == kOutside || y % w.dilation_h != 0 || x % w.dilation_w != 0) return;
    const std::size_t tap = y / w.dilation_h * w.kernel_w + x / w.dilation_w;
    T* to = data.data() + s.image * c.in.elements() + position * c.in.c;
    for (std::size_t k = 0; k < c.in.c; ++k) {
      const int sign = effect(layer, s, tap, k);
      if (sign != 0) to[k] = (sign > 0) == (s.drive == Drive::kMost) ? high : low;
    }
  });
}

class Proof {
 public:
  Proof(const Linear& layer, const EngineOptions& options, Engine& engine)
      : layer_(layer),
        patch_(patch_layer(layer)),
        engine_(engine),
        dense_(layer.out().positions() == 1),
        in_(layer.in().elements()),
        out_(layer.out().elements()) {
    distinct_ = dense_ ? kDenseImages : 1;
    for (std::size_t batch = 1; batch < options.max_batch && dense_; batch *= 2) {
      batches_.push_back(batch);
    }
    batches_.push_back(dense_ ? options.max_batch : 1);
    choose_samples();
    EngineOptions reference = options;
    reference.max_batch = samples_.size();
    portable_ = make_portable(patch_, reference);
  }

  bool codes_agree() {
    constexpr std::uint8_t kPadCode = 255;
    std::vector<std::uint8_t> codes(distinct_ * in_);
    for (auto& q : codes) q = static_cast<std::uint8_t>(varied_.next());
    for (const Sample& s : samples_) drive<std::uint8_t>(layer_, s, 0, 255, codes);
    const std::vector<std::uint8_t> patches = cut(codes, kPadCode);
    std::vector<std::int32_t> expected(samples_.size() * layer_.out().c);
    portable_->run_codes(patches, kPadCode, samples_.size(), expected);
    const bool sums = agree(codes, expected, [&](const auto& in, std::size_t batch, auto& out) {
      engine_.run_codes(in, kPadCode, batch, out);
    });
    // The layer's output is u8 if its clamp fits; the sums have been compared in any case.
    const model::Requant& rule = layer_.requant;
    if (!sums || rule.lo < 0 || rule.hi > 255) return sums;
    std::vector<std::uint8_t> rounded(expected.size());
    portable_->run_requant(patches, kPadCode, samples_.size(), rounded);
    return agree(codes, rounded, [&](const auto& in, std::size_t batch, auto& out) {
      engine_.run_requant(in, kPadCode, batch, out);
    });
  }

  bool words_agree(Field f) {
    const std::uint32_t centre = field::limb_centre(f);
    std::vector<std::uint32_t> words(distinct_ * in_);
    for (auto& v : words) v = varied_.next() % field::modulus(f);
    for (const Sample& s : samples_) drive<std::uint32_t>(layer_, s, centre + 1, centre, words);
    std::vector<std::uint32_t> expected(samples_.size() * layer_.out().c);
    portable_->run_words(f, cut(words, std::uint32_t{0}), samples_.size(), expected);
    return agree(words, expected, [&](const auto& in, std::size_t batch, auto& out) {
      engine_.run_words(f, in, batch, out);
    });
  }

 private:
  void choose_samples() {
    const model::Shape& out = layer_.out();
    const auto add = [&](std::size_t image, std::size_t y, std::size_t x) {
      samples_.push_back(
          {image, y, x, varied_.below(out.c), static_cast<Drive>(samples_.size() % 3)});
    };
    if (dense_) {
      for (std::size_t image = 0; image < distinct_; ++image) add(image, 0, 0);
      return;
    }
    for (std::size_t i = 4; i < kConvSamples; ++i)
      add(0, varied_.below(out.h), varied_.below(out.w));
    add(0, 0, 0);
    add(0, 0, out.w - 1);
    add(0, out.h - 1, 0);
    add(0, out.h - 1, out.w - 1);
  }

  template <class T>
  [[nodiscard]] std::vector<T> cut(const std::vector<T>& data, T outside) const {
    std::vector<T> patches;
    for (const Sample& s : samples_) {
      const std::vector<T> patch = cut_patch(layer_.stages[0].conv, s, data, outside);
      patches.insert(patches.end(), patch.begin(), patch.end());
    }
    return patches;
  }

  // agree runs the engine at every batch size until every distinct image was in a batch, and
  // compares the samples.
  template <class In, class Out, class Run>
  bool agree(const std::vector<In>& data, const std::vector<Out>& expected, Run run) {
    for (const std::size_t batch : batches_) {
      for (std::size_t first = 0; first < distinct_; first += batch) {
        std::vector<In> in;
        for (std::size_t i = 0; i < batch; ++i) {
          const std::size_t image = (first + i) % distinct_;
          const auto from = data.begin() + static_cast<std::ptrdiff_t>(image * in_);
          in.insert(in.end(), from, from + static_cast<std::ptrdiff_t>(in_));
        }
        std::vector<Out> out(batch * out_);
        run(in, batch, out);
        for (std::size_t i = 0; i < batch; ++i) {
          if (!image_agrees((first + i) % distinct_, out.data() + i * out_, expected)) return false;
        }
      }
    }
    return true;
  }

  template <class Out>
  bool image_agrees(std::size_t image, const Out* out, const std::vector<Out>& expected) const {
    const std::size_t channels = layer_.out().c;
    for (std::size_t k = 0; k < samples_.size(); ++k) {
      const Sample& s = samples_[k];
      if (s.image != image) continue;
      const Out* got = out + (s.y * layer_.out().w + s.x) * channels;
      if (!std::equal(got, got + channels, expected.data() + k * channels)) return false;
    }
    return true;
  }

  const Linear& layer_;
  Linear patch_;
  Engine& engine_;
  bool dense_;
  std::size_t in_, out_;
  std::size_t distinct_ = 1;
  std::vector<std::size_t> batches_;
  std::vector<Sample> samples_;
  std::unique_ptr<Engine> portable_;
  Varied varied_;
};

}  // namespace

bool proves_exact(const Linear& layer, const EngineOptions& options, Engine& engine) {
  Proof proof(layer, options, engine);
  return proof.codes_agree() && proof.words_agree(layer.field.value_or(Field::kP31));
}

}  // namespace slalom::linear
