// SPDX-License-Identifier: Apache-2.0
#include "cli/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <span>
#include <utility>

#include "cli/failure.h"

namespace slalom::cli {
namespace {

// spec_of reads an input's shape at batch 1 as model/plan.h stores it: (1, C, H, W), (1, S, C) or
// (1, C).
InputSpec spec_of(const importer::InputInfo& info) {
  const auto dim = [&](std::size_t i) { return static_cast<std::uint32_t>(info.shape[i]); };
  switch (info.shape.size()) {
    case 4:
      return {info.name, {dim(2), dim(3), dim(1)}};
    case 3:
      return {info.name, {1, dim(1), dim(2)}};
    case 2:
      return {info.name, {1, 1, dim(1)}};
    default:
      throw Stop(Errc::kMalformed,
                 fmt::format("the network's input '{}' of shape {} is no picture, sequence or "
                             "vector",
                             info.name, importer::shape_text(info.shape)));
  }
}

// reals_of_random gives bytes a meaning: pixels, or values in -2..2.
std::vector<float> reals_of_random(const std::vector<std::uint8_t>& bytes, std::size_t channels,
                                   const std::optional<model::Preprocess>& preprocess) {
  std::vector<float> out(bytes.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto byte = static_cast<float>(bytes[i]);
    const std::size_t c = i % channels;
    out[i] = preprocess ? (byte - preprocess->mean[c]) / preprocess->std[c] : (byte - 128) / 64;
  }
  return out;
}

}  // namespace

Calibration::Calibration(const std::vector<importer::InputInfo>& inputs,
                         std::optional<model::Preprocess> preprocess,
                         const std::vector<std::string>& names)
    : inputs_(inputs), preprocess_(std::move(preprocess)) {
  for (const importer::InputInfo& input : inputs) specs_.push_back(spec_of(input));
  const model::Shape& first = specs_.at(0).shape;
  if (preprocess_ && (specs_.size() != 1 || preprocess_->crop_h != first.h ||
                      preprocess_->crop_w != first.w || preprocess_->mean.size() != first.c)) {
    throw Stop(Errc::kMalformed,
               fmt::format("the preparation of pictures (--preprocess) makes {} channels of {} x "
                           "{}, but the network takes {} of {} x {}",
                           preprocess_->mean.size(), preprocess_->crop_h, preprocess_->crop_w,
                           first.c, first.h, first.w));
  }
  images_ = std::make_unique<InputSet>(specs_, preprocess_, names);
}

importer::SampleSource Calibration::source(std::size_t limit) const {
  const std::size_t all = images_->count();
  const std::size_t count = limit == 0 ? all : std::min(limit, all);
  return {count,
          [this, all, count](std::span<const importer::InputInfo>,
                             std::size_t index) -> importer::ImportResult<importer::Sample> {
            try {
              return sample(index * all / count);
            } catch (const Stop& stop) {
              return importer::Error{stop.what(), {}, {}, 0};
            }
          }};
}

importer::Sample Calibration::sample(std::size_t image) const {
  const std::vector<InputValue> values = images_->get(image);
  const bool random = images_->name(image).starts_with("random:");
  importer::Sample out;
  for (std::size_t k = 0; k < values.size(); ++k) {
    const model::Shape& shape = specs_[k].shape;
    if (values[k].reals.empty() && !random) {
      throw Stop(Errc::kMalformed,
                 fmt::format("{} holds codes (uint8), which mean nothing before calibration; give "
                             "real values (float32)",
                             images_->name(image)));
    }
    const std::vector<float> reals =
        random ? reals_of_random(values[k].codes, shape.c, preprocess_) : values[k].reals;
    out.push_back(inputs_[k].shape.size() == 4
                      ? importer::Tensor::of(inputs_[k].shape, channels_first(reals, shape))
                      : importer::Tensor::of(inputs_[k].shape, reals));
  }
  return out;
}

}  // namespace slalom::cli
