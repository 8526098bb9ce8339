// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/array.h"
#include "model/plan.h"

// What a user may name as input of a network, and how it becomes tensors:
//   a JPEG or PNG file      a picture, prepared as the plan says (preprocess.h)
//   a folder                all pictures directly in it, by name
//   an IDX file (.gz too)   many grey pictures
//   an .npy file            an array: one image, or many if it has one dimension more; float
//   elements
//                           are real values of the input tensor, uint8 elements are its codes
//   an .npz file            arrays; if the network has several inputs, one for each by its name
//   random:N                N inputs of uniform codes, always the same ones
// Arrays may be channels first (C, H, W: what ONNX networks take) or channels last (H, W, C); the
// shape decides, and where both fit, channels first.

namespace slalom::cli {

// InputSpec is one input of a network: its shape as in model/plan.h.
struct InputSpec {
  std::string name;
  model::Shape shape;
};

// InputValue is one tensor of one image, channels last. Exactly one of the two is not empty.
struct InputValue {
  std::vector<float> reals;
  std::vector<std::uint8_t> codes;
};

// InputSet is everything that was named, in order; files are opened when it is made, pictures are
// decoded when they are asked for. All functions throw Stop: kInvalidArgument for a name that is
// wrong, kMalformed for contents that are.
class InputSet {
 public:
  InputSet(std::vector<InputSpec> specs, std::optional<model::Preprocess> preprocess,
           std::span<const std::string> names);
  // The inputs of a plan.
  InputSet(const model::Plan& plan, std::span<const std::string> names);
  InputSet(const InputSet&) = delete;
  InputSet& operator=(const InputSet&) = delete;

  // add appends what one more name stands for.
  void add(const std::string& name);

  [[nodiscard]] std::size_t count() const noexcept;
  // name of an image: "cat.jpg", "batch.npy[3]".
  [[nodiscard]] const std::string& name(std::size_t image) const;
  // get returns one value for each input of the network.
  [[nodiscard]] std::vector<InputValue> get(std::size_t image) const;

 private:
  struct Item {
    std::string name;
    std::function<std::vector<InputValue>()> get;
  };
  void add_random(const std::string& name);
  void add_folder(const std::string& name);
  void add_idx(const std::string& name, std::span<const std::byte> bytes);
  void add_arrays(const std::string& name, std::vector<Array> arrays);
  [[nodiscard]] const model::Preprocess& preprocess_for(const std::string& name) const;

  std::vector<InputSpec> specs_;
  std::optional<model::Preprocess> preprocess_;
  std::vector<Item> items_;
};

// channels_first reorders the values of one tensor from (H, W, C) to (C, H, W).
std::vector<float> channels_first(std::span<const float> values, const model::Shape& shape);

// specs_of lists the inputs of a plan.
std::vector<InputSpec> specs_of(const model::Plan& plan);

// to_codes gives the codes of all inputs of a plan, concatenated in the plan's order.
// REQUIRES: out.size() == input_elements(plan).
void to_codes(const model::Plan& plan, std::span<const InputValue> values,
              std::span<std::uint8_t> out);
std::size_t input_elements(const model::Plan& plan) noexcept;

}  // namespace slalom::cli
