// SPDX-License-Identifier: Apache-2.0
#include "linear/proof.h"

#include <algorithm>
#include <random>
#include <vector>

#include "field/kernels.h"
#include "field/requant.h"

namespace slalom::linear {
namespace {

using field::Field;
using model::Conv;
using model::Linear;

constexpr std::size_t kRandomSamples = 8;
constexpr std::size_t kJoinedImages = 3;  // where tiles span images; one for each Drive

// Drive says to which end a sample's inputs take its channel's sum; without one they stay random.
enum class Drive : std::uint8_t { kLeast, kMost, kNone };

// Sample is one output position of an image, all channels of which are compared.
struct Sample {
  std::size_t image = 0;
  std::size_t y = 0;
  std::size_t x = 0;
  std::size_t channel = 0;
  Drive drive = Drive::kNone;
};

// tap_position is where in the image a tap of output position (y, x) reads, or kOutside.
constexpr std::size_t kOutside = ~std::size_t{0};
std::size_t tap_position(const Conv& c, std::size_t y, std::size_t x, std::size_t tap) {
  const model::Window& w = c.window;
  const std::size_t in_y = y * w.stride_h + tap / w.kernel_w * w.dilation_h - w.pad_top;
  const std::size_t in_x = x * w.stride_w + tap % w.kernel_w * w.dilation_w - w.pad_left;
  const bool inside = in_y < c.in.h && in_x < c.in.w;  // above and left of the image they wrap
  return inside ? in_y * c.in.w + in_x : kOutside;
}

// stage_at is the specification of a stage: all channels' sums at one output position. An input's
// value is what `in` holds less `zero`; in the padding it is `outside`.
template <class Sum, class In>
std::vector<Sum> stage_at(const model::ConvStage& stage, const In* in, Sum zero, Sum outside,
                          std::size_t y, std::size_t x) {
  const Conv& c = stage.conv;
  const std::size_t n = c.group_in();
  std::vector<Sum> sums(c.out.c, 0);
  for (std::size_t o = 0; o < c.out.c; ++o) {
    for (std::size_t tap = 0; tap < c.taps(); ++tap) {
      const std::int8_t* weights = stage.weights.data() + o * c.terms() + tap * n;
      const std::size_t position = tap_position(c, y, x, tap);
      Sum sum = 0;
      if (position == kOutside) {
        for (std::size_t i = 0; i < n; ++i) sum += weights[i] * outside;
      } else {
        const In* at = in + position * c.in.c + o / c.group_out() * n;
        for (std::size_t i = 0; i < n; ++i) sum += weights[i] * (static_cast<Sum>(at[i]) - zero);
      }
      sums[o] += sum;
    }
  }
  return sums;
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
  for (std::size_t tap = 0; tap < c.taps(); ++tap) {
    const std::size_t position = tap_position(c, s.y, s.x, tap);
    if (position == kOutside) continue;
    T* to = data.data() + s.image * c.in.elements() + position * c.in.c;
    for (std::size_t k = 0; k < c.in.c; ++k) {
      const int sign = effect(layer, s, tap, k);
      if (sign != 0) to[k] = (sign > 0) == (s.drive == Drive::kMost) ? high : low;
    }
  }
}

class Proof {
 public:
  Proof(const Linear& layer, const EngineOptions& options, Engine& engine)
      : layer_(layer),
        engine_(engine),
        pool_(options.pool),
        in_(layer.in().elements()),
        out_(layer.out().elements()) {
    const model::Shape& out = layer_.out();
    batches_ = {1};
    if (out.positions() == 1) {  // images are rows: every class of batch sizes
      for (; images_ < kJoinedImages; ++images_) add_sample(images_, 0, 0);
      for (std::size_t batch = 2; batch < options.max_batch; batch *= 2) batches_.push_back(batch);
    } else {
      for (std::size_t i = 0; i < kRandomSamples; ++i) {
        add_sample(0, varied_() % out.h, varied_() % out.w);
      }
      const bool joined = layer_.stages[0].conv.window == model::Window{};
      for (; images_ < (joined ? kJoinedImages : 1); ++images_) add_corners(images_);
    }
    if (images_ > 1 && options.max_batch > 1) batches_.push_back(options.max_batch);
  }

  bool codes_agree() {
    constexpr std::uint8_t kPadCode = 255;
    std::vector<std::uint8_t> codes(images_ * in_);
    for (auto& q : codes) q = static_cast<std::uint8_t>(varied_());
    for (const Sample& s : samples_) drive<std::uint8_t>(layer_, s, 0, 255, codes);
    // All sums of a validated plan, those between the stages too, fit an int32.
    auto expected = specify<std::int32_t>(codes, 128, kPadCode - 128, [](auto v) { return v; });
    const bool sums = agree(codes, expected, [&](auto in, std::size_t batch, auto& out) {
      engine_.run_codes(in, kPadCode, batch, out);
    });
    // The layer's output is u8 if its clamp fits; the sums have been compared in any case.
    const model::Requant& rule = layer_.requant;
    if (!sums || rule.lo < 0 || rule.hi > 255) return sums;
    const std::size_t channels = layer_.out().c;
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += layer_.bias[i % channels];
    std::vector<std::uint8_t> rounded(expected.size());
    field::all_kernels().back()->requantise_codes(
        {expected.data(), channels, samples_.size(), channels},
        field::EpilogueTables(layer_).requantising(), rounded.data(), channels);
    return agree(codes, rounded, [&](auto in, std::size_t batch, auto& out) {
      engine_.run_requant(in, kPadCode, batch, out);
    });
  }

  bool words_agree(Field f) {
    const std::uint32_t centre = field::limb_centre(f);
    const std::int64_t p = field::modulus(f);
    std::vector<std::uint32_t> words(images_ * in_);
    for (auto& v : words) v = static_cast<std::uint32_t>(varied_() % field::modulus(f));
    for (const Sample& s : samples_) drive<std::uint32_t>(layer_, s, centre + 1, centre, words);
    const auto sums = specify<std::int64_t>(words, 0, 0, [p](auto v) { return (v % p + p) % p; });
    const std::vector<std::uint32_t> expected(sums.begin(), sums.end());
    return agree(words, expected, [&](auto in, std::size_t batch, auto& out) {
      engine_.run_words(f, in, batch, out);
    });
  }

 private:
  void add_sample(std::size_t image, std::size_t y, std::size_t x) {
    const auto end = static_cast<Drive>(samples_.size() % 3);
    samples_.push_back({image, y, x, varied_() % layer_.out().c, end});
  }

  void add_corners(std::size_t image) {
    const model::Shape& out = layer_.out();
    for (const std::size_t y : {std::size_t{0}, std::size_t{out.h} - 1}) {
      for (const std::size_t x : {std::size_t{0}, std::size_t{out.w} - 1}) add_sample(image, y, x);
    }
  }

  // specify computes what the samples' outputs should be, sample after sample. A pair's second
  // stage is pointwise: its input is what the first one gives at the same position.
  template <class Sum, class In, class Reduce>
  std::vector<Sum> specify(const std::vector<In>& data, Sum zero, Sum outside, Reduce reduce) {
    const std::size_t channels = layer_.out().c;
    std::vector<Sum> expected(samples_.size() * channels);
    pool_.parallel_for(samples_.size(), [&](std::size_t k, std::size_t /*worker*/) {
      const Sample& s = samples_[k];
      auto sums = stage_at(layer_.stages[0], data.data() + s.image * in_, zero, outside, s.y, s.x);
      std::ranges::transform(sums, sums.begin(), reduce);
      if (layer_.stages.size() == 2) {
        sums = stage_at(layer_.stages[1], sums.data(), Sum{0}, Sum{0}, 0, 0);
        std::ranges::transform(sums, sums.begin(), reduce);
      }
      std::ranges::copy(sums, expected.data() + k * channels);
    });
    return expected;
  }

  // agree runs the engine at every batch size until every image was in a batch, and compares the
  // samples. The images of a batch follow each other in the data, again and again.
  template <class In, class Out, class Run>
  bool agree(std::vector<In> data, const std::vector<Out>& expected, Run run) {
    const std::size_t once = data.size();
    data.resize(once + batches_.back() * in_);
    for (std::size_t i = once; i < data.size(); ++i) data[i] = data[i - once];
    for (const std::size_t batch : batches_) {
      std::vector<Out> out(batch * out_);
      for (std::size_t first = 0; first < images_; first += batch) {
        run(std::span<const In>(data).subspan(first * in_, batch * in_), batch, out);
        for (std::size_t i = 0; i < batch; ++i) {
          if (!image_agrees((first + i) % images_, out.data() + i * out_, expected)) return false;
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
      const Out* got = out + (s.y * layer_.out().w + s.x) * channels;
      const Out* wanted = expected.data() + k * channels;
      if (s.image == image && !std::equal(got, got + channels, wanted)) return false;
    }
    return true;
  }

  const Linear& layer_;
  Engine& engine_;
  base::ThreadPool& pool_;
  std::size_t in_, out_;
  std::size_t images_ = 0;  // different ones
  std::vector<std::size_t> batches_;
  std::vector<Sample> samples_;
  // The data need no secrecy, only variety, and the same at each start.
  std::minstd_rand varied_{20190101};  // NOLINT(cert-msc32-c,cert-msc51-cpp)
};

}  // namespace

bool proves_exact(const Linear& layer, const EngineOptions& options, Engine& engine) {
  Proof proof(layer, options, engine);
  return proof.codes_agree() && proof.words_agree(layer.field.value_or(Field::kP31));
}

}  // namespace slalom::linear
