// SPDX-License-Identifier: Apache-2.0
#include "baseline/float_engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#ifdef SLALOM_WITH_ONEDNN
#include "baseline/float_network.h"
#endif
#include "untrusted/host/plan_file.h"

namespace slalom::baseline {

#ifdef SLALOM_WITH_ONEDNN
namespace {

using Clock = std::chrono::steady_clock;

host::Failure not_here(const char* what) {
  return {Errc::kInvalidArgument, std::string("the float32 baseline has no ") + what};
}

class FloatEngine final : public host::Engine {
 public:
  FloatEngine(host::PlanFile file, const host::Modes& modes)
      : plan_(std::move(file.plan)), digest_(file.digest), modes_(modes) {
    for (const model::TensorId input : plan_->inputs) {
      image_bytes_ += plan_->tensors[input].shape.elements();
    }
  }

  host::Done run(runtime::Source& source, runtime::Sink& sink) override {
    const auto start = Clock::now();
    host::Done done;
    try {
      while (const std::size_t images = read(source)) {
        network_->run(codes_);
        for (std::size_t i = 0; i < images; ++i) deliver(i, sink);
      }
    } catch (const std::exception& e) {
      done = host::Failure{Errc::kUnavailable, std::string("the float32 baseline: ") + e.what()};
    }
    delivered_ = 0;
    stats_.wall_s += std::chrono::duration<double>(Clock::now() - start).count();
    stats_.trusted_s = stats_.wall_s;
    return done;
  }

  host::Done reconfigure(const host::Modes& modes) override {
    modes_ = modes;
    network_.reset();
    stats_ = {};
    return {};
  }
  host::Outcome<runtime::Stats> stats() override { return stats_; }
  host::Outcome<host::PadStock> pad_stock() override { return not_here("pads"); }
  host::Outcome<std::uint64_t> prepare(std::uint64_t, const Progress&) override {
    return not_here("pads");
  }
  host::Outcome<host::Report> report() override { return not_here("trusted process"); }
  host::Done shutdown() override { return {}; }
  [[nodiscard]] const model::Digest& digest() const noexcept override { return digest_; }
  [[nodiscard]] const model::Plan* plan() const noexcept override { return plan_.get(); }

 private:
  // read takes up to a micro-batch of images and returns how many there were. The first time it
  // makes the network for that many.
  std::size_t read(runtime::Source& source) {
    const std::size_t most = network_ ? network_->batch() : modes_.options.micro_batch;
    codes_.resize(most * image_bytes_);
    std::size_t images = 0;
    while (images < most && source.next({codes_.data() + images * image_bytes_, image_bytes_})) {
      ++images;
    }
    if (network_ == nullptr && images > 0) {
      const std::size_t threads = modes_.options.threads;
      network_ = std::make_unique<FloatNetwork>(
          *plan_, images,
          threads != 0 ? threads : std::max(1U, std::thread::hardware_concurrency()));
      codes_.resize(images * image_bytes_);
    }
    return images;
  }

  // deliver rounds the real outputs of one image to the integers that the plan asks for.
  void deliver(std::size_t i, runtime::Sink& sink) {
    const std::size_t outputs = plan_->outputs.size();
    std::vector<std::vector<std::uint8_t>> codes(outputs);
    std::vector<std::vector<std::int32_t>> integers(outputs);
    std::vector<runtime::OutputView> views;
    for (std::size_t o = 0; o < outputs; ++o) {
      const model::TensorId tensor = plan_->outputs[o].tensor;
      const model::TensorInfo& info = plan_->tensors[tensor];
      const std::size_t n = info.shape.elements();
      const std::span<const float> values = network_->values(tensor).subspan(i * n, n);
      const bool wide = info.dtype == model::Dtype::kI32;
      for (const float v : values) {
        const auto q =
            std::lrint(std::clamp(v / info.scale, -1073741824.0F, 1073741824.0F)) + info.zero_point;
        if (wide) {
          integers[o].push_back(static_cast<std::int32_t>(q));
        } else {
          codes[o].push_back(static_cast<std::uint8_t>(std::clamp(q, 0L, 255L)));
        }
      }
      views.push_back({tensor, codes[o], integers[o]});
    }
    ++stats_.images;
    sink.deliver(delivered_++, views);
  }

  std::shared_ptr<const model::Plan> plan_;
  model::Digest digest_;
  host::Modes modes_;
  std::size_t image_bytes_ = 0;
  std::unique_ptr<FloatNetwork> network_;
  std::vector<std::uint8_t> codes_;
  std::uint64_t delivered_ = 0;
  runtime::Stats stats_;
};

}  // namespace

host::Outcome<std::unique_ptr<host::Engine>> start_float_engine(
    const host::EngineOptions& options) {
  auto file = host::read_plan_file(options.plan_file);
  if (!file) return file.failure();
  return std::unique_ptr<host::Engine>(
      std::make_unique<FloatEngine>(std::move(*file), options.modes));
}

#else

host::Outcome<std::unique_ptr<host::Engine>> start_float_engine(const host::EngineOptions&) {
  return host::Failure{Errc::kUnavailable,
                       "the float32 baseline needs oneDNN; build with -DSLALOM_WITH_ONEDNN=ON"};
}

#endif

}  // namespace slalom::baseline
