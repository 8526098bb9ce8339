// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "base/thread_pool.h"
#include "field/kernels.h"
#include "field/requant.h"
#include "model/plan.h"
#include "runtime/executor.h"
#include "runtime/program.h"
#include "vault/pads.h"

namespace slalom::runtime {

// Setup is what one executor was made for: all its parts read it, nothing in it changes.
struct Setup {
  // REQUIRES: valid arguments (Executor::create). plan and pads must outlive the setup.
  Setup(const model::Plan& plan, const Placement& placement, const Options& options,
        vault::Pads* pads);

  const model::Plan& plan;
  const Options options;
  vault::Pads* const pads;  // null: codes go out unmasked
  const field::Kernels& kernels;
  const Operators operators;  // by node
  base::ThreadPool pool;
  const Program program;

  // input_side_first says that the input side of a check belongs to the upload, with the layers of
  // the challenge set.
  [[nodiscard]] bool input_side_first() const noexcept {
    return options.integrity == model::Integrity::kPreprocessed;
  }
  // keep_inputs says that it needs a layer's input once more when the answer is there.
  [[nodiscard]] bool keep_inputs() const noexcept {
    return options.integrity == model::Integrity::kPlain ||
           options.integrity == model::Integrity::kBatched;
  }
  [[nodiscard]] field::InputForm input_form() const noexcept {
    return pads != nullptr ? field::InputForm::kWords : field::InputForm::kCodes;
  }
  // tensor is where one image's tensor lies in a lane's arena. REQUIRES: it does not pass.
  [[nodiscard]] std::byte* tensor(std::byte* arena, model::TensorId id, std::size_t image) const {
    const Place& place = program.places[id];
    return arena + place.offset + image * place.image_bytes;
  }
};

}  // namespace slalom::runtime
