// SPDX-License-Identifier: Apache-2.0
#include "cli/inputs.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "cli/array.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/image.h"
#include "cli/preprocess.h"

namespace slalom::cli {
namespace {

[[noreturn]] void bad_input(const std::string& name, std::string_view what) {
  throw Stop(Errc::kMalformed, fmt::format("{} cannot be used: {}", name, what));
}

std::string shape_text(const model::Shape& s) {
  return s.positions() == 1 ? fmt::format("{} values", s.c)
                            : fmt::format("{} channels of {} x {}", s.c, s.h, s.w);
}

// Bytes of image i of "random:N": SplitMix64 (Steele, Lea, Flood 2014) over a counter.
std::uint64_t random_word(std::uint64_t counter) {
  std::uint64_t z = (counter + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31U);
}

// Fit says how an array holds images of one shape.
struct Fit {
  bool batched = false;
  bool channels_first = false;
};

std::optional<Fit> fit(const std::vector<std::size_t>& dims, const model::Shape& s) {
  using Dims = std::vector<std::size_t>;
  const Dims first{s.c, s.h, s.w};
  const Dims last{s.h, s.w, s.c};
  std::vector<std::pair<Dims, bool>> forms{{first, true}, {last, false}};
  if (s.h == 1) forms.push_back({{s.w, s.c}, false});
  if (s.positions() == 1) forms.push_back({{s.c}, false});
  if (s.c == 1) forms.push_back({{s.h, s.w}, false});
  for (const auto& [form, channels_first] : forms) {
    if (dims == form) return Fit{false, channels_first};
    if (dims.size() == form.size() + 1 && std::equal(form.begin(), form.end(), dims.begin() + 1)) {
      return Fit{true, channels_first};
    }
  }
  return std::nullopt;
}

template <class T>
std::vector<T> channels_last(std::span<const T> values, const model::Shape& s, bool first) {
  if (!first) return {values.begin(), values.end()};
  std::vector<T> out(values.size());
  const std::size_t positions = s.positions();
  for (std::size_t c = 0; c < s.c; ++c) {
    for (std::size_t p = 0; p < positions; ++p) out[p * s.c + c] = values[c * positions + p];
  }
  return out;
}

// ArrayInput is one array that holds images for one input of the network.
struct ArrayInput {
  std::shared_ptr<const Array> array;
  Fit fit;
  std::size_t count = 1;

  static ArrayInput make(Array&& array, const InputSpec& spec, const std::string& file) {
    const auto found = fit_of(array, spec, file);
    const std::size_t n = found.batched ? array.shape[0] : 1;
    return {std::make_shared<const Array>(std::move(array)), found, n};
  }
  [[nodiscard]] InputValue get(const model::Shape& shape, std::size_t image) const {
    InputValue out;
    const std::size_t n = shape.elements();
    std::visit(
        [&]<class T>(const std::vector<T>& values) {
          auto one = channels_last(std::span<const T>(values).subspan(image * n, n), shape,
                                   fit.channels_first);
          if constexpr (std::is_same_v<T, float>) {
            out.reals = std::move(one);
          } else {
            out.codes = std::move(one);
          }
        },
        array->values);
    return out;
  }

 private:
  static Fit fit_of(const Array& array, const InputSpec& spec, const std::string& file) {
    const auto found = slalom::cli::fit(array.shape, spec.shape);
    if (!found) {
      bad_input(file, fmt::format("an array of shape ({}) is not the network's input '{}', {}",
                                  fmt::join(array.shape, ", "), spec.name, shape_text(spec.shape)));
    }
    return *found;
  }
};

bool begins(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

template <class T>
T must(Result<T> result, const std::string& name) {
  if (!result.ok()) bad_input(name, result.error().message);
  return *std::move(result);
}

// prepared turns a picture into the values of a network's only input.
std::vector<InputValue> prepared(const Image& picture, const model::Preprocess& how,
                                 const std::string& name) {
  const Image ready = must(prepare(picture, how), name);
  std::vector<InputValue> out(1);
  out[0].reals = normalise(ready, how);
  return out;
}

Image grey_picture(const Array& array, std::size_t i) {
  const std::size_t n = array.image_elements();
  Image image{static_cast<std::uint32_t>(array.shape[1]),
              static_cast<std::uint32_t>(array.shape[2]),
              3,
              {}};
  const auto& values = std::get<std::vector<std::uint8_t>>(array.values);
  image.pixels.resize(n * 3);
  for (std::size_t k = 0; k < n * 3; ++k) image.pixels[k] = values[i * n + k / 3];
  return image;
}

std::size_t random_count(const std::string& name) {
  constexpr std::string_view kRandom = "random:";
  const char* first = name.data() + kRandom.size();
  const char* last = name.data() + name.size();
  std::size_t n = 0;
  const auto [end, error] = std::from_chars(first, last, n);
  if (error != std::errc() || end != last || n == 0 || n > 1'000'000'000) {
    throw Stop(Errc::kInvalidArgument,
               fmt::format("{} is not a number of inputs; write, for example, random:16", name));
  }
  return n;
}

}  // namespace

InputSet::InputSet(std::vector<InputSpec> specs, std::optional<model::Preprocess> preprocess,
                   std::span<const std::string> names)
    : specs_(std::move(specs)), preprocess_(std::move(preprocess)) {
  for (const std::string& name : names) add(name);
}

InputSet::InputSet(const model::Plan& plan, std::span<const std::string> names)
    : InputSet(specs_of(plan), plan.preprocess, names) {}

std::size_t InputSet::count() const noexcept { return items_.size(); }
const std::string& InputSet::name(std::size_t image) const { return items_.at(image).name; }
std::vector<InputValue> InputSet::get(std::size_t image) const { return items_.at(image).get(); }

const model::Preprocess& InputSet::preprocess_for(const std::string& name) const {
  if (!preprocess_) {
    bad_input(name,
              "the network does not say how a picture becomes its input: convert it with "
              "--preprocess FILE.json, or give .npy arrays");
  }
  return *preprocess_;
}

void InputSet::add(const std::string& name) {
  struct stat info {};
  if (name.starts_with("random:")) return add_random(name);
  if (::stat(name.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return add_folder(name);
  std::vector<std::byte> bytes = read_file(name, kMaxArrayBytes);
  if (begins(bytes, "\x1F\x8B")) bytes = must(gunzip(bytes, kMaxArrayBytes), name);
  if (begins(bytes, "\x93NUMPY")) {
    std::vector<Array> arrays;
    arrays.push_back(must(decode_npy(bytes), name));
    return add_arrays(name, std::move(arrays));
  }
  if (begins(bytes, "PK\x03\x04")) return add_arrays(name, must(decode_npz(bytes), name));
  if (begins(bytes, std::string_view("\0\0\x08", 3))) return add_idx(name, bytes);
  // A picture. It is read again, and then decoded, when its turn comes: memory stays flat.
  const model::Preprocess& how = preprocess_for(name);
  items_.push_back({name, [&how, name] {
                      const auto file = read_file(name, kMaxImageBytes);
                      return prepared(must(decode_image(file), name), how, name);
                    }});
}

void InputSet::add_random(const std::string& name) {
  const std::size_t n = random_count(name);
  for (std::size_t i = 0; i < n; ++i) {
    items_.push_back({fmt::format("{}[{}]", name, i), [this, i] {
                        std::vector<InputValue> out(specs_.size());
                        std::uint64_t counter = static_cast<std::uint64_t>(i) << 32U;
                        for (std::size_t k = 0; k < specs_.size(); ++k) {
                          out[k].codes.resize(specs_[k].shape.elements());
                          for (std::uint8_t& code : out[k].codes) {
                            code = static_cast<std::uint8_t>(random_word(counter++));
                          }
                        }
                        return out;
                      }});
  }
}

void InputSet::add_folder(const std::string& name) {
  const std::array<std::string, 3> suffixes{".jpg", ".jpeg", ".png"};
  const auto files = files_in(name, suffixes);
  if (files.empty()) bad_input(name, "the folder holds no .jpg or .png file");
  for (const std::string& file : files) add(file);
}

void InputSet::add_idx(const std::string& name, std::span<const std::byte> bytes) {
  const model::Preprocess& how = preprocess_for(name);
  const auto array = std::make_shared<const Array>(must(decode_idx(bytes), name));
  if (array->shape.size() == 3 && array->shape[0] == 0) bad_input(name, "it holds no images");
  if (array->shape.size() != 3 || array->image_elements() == 0 ||
      array->image_elements() > kMaxPixels) {
    bad_input(name, "an IDX file of pictures has three dimensions");
  }
  for (std::size_t i = 0; i < array->shape[0]; ++i) {
    items_.push_back({fmt::format("{}[{}]", name, i), [&how, array, i, name] {
                        return prepared(grey_picture(*array, i), how, name);
                      }});
  }
}

// One input: every array holds images. Several: one array for each input, with the same images.
void InputSet::add_arrays(const std::string& name, std::vector<Array> arrays) {
  std::vector<std::vector<ArrayInput>> groups;
  if (specs_.size() == 1) {
    for (Array& array : arrays) {
      groups.push_back({ArrayInput::make(std::move(array), specs_[0], name)});
    }
  } else {
    std::vector<ArrayInput> group;
    for (const InputSpec& spec : specs_) {
      const auto found = std::find_if(arrays.begin(), arrays.end(),
                                      [&](const Array& a) { return a.name == spec.name; });
      if (found == arrays.end()) {
        bad_input(name, fmt::format("it holds no array for the network's input '{}'; give an .npz "
                                    "file with one array for each input",
                                    spec.name));
      }
      group.push_back(ArrayInput::make(std::move(*found), spec, name));
      if (group.back().count != group.front().count) {
        bad_input(name, "its arrays hold different numbers of images");
      }
    }
    groups.push_back(std::move(group));
  }
  for (const auto& group : groups) {
    if (group.front().count == 0) bad_input(name, "it holds no images");
    const auto inputs = std::make_shared<const std::vector<ArrayInput>>(group);
    for (std::size_t i = 0; i < group.front().count; ++i) {
      const std::string item = group.front().fit.batched ? fmt::format("{}[{}]", name, i) : name;
      items_.push_back({item, [this, inputs, i] {
                          std::vector<InputValue> out;
                          for (std::size_t k = 0; k < inputs->size(); ++k) {
                            out.push_back((*inputs)[k].get(specs_[k].shape, i));
                          }
                          return out;
                        }});
    }
  }
}

std::vector<float> channels_first(std::span<const float> values, const model::Shape& shape) {
  std::vector<float> out(values.size());
  const std::size_t positions = shape.positions();
  for (std::size_t p = 0; p < positions; ++p) {
    for (std::size_t c = 0; c < shape.c; ++c) out[c * positions + p] = values[p * shape.c + c];
  }
  return out;
}

std::vector<InputSpec> specs_of(const model::Plan& plan) {
  std::vector<InputSpec> specs;
  for (const model::TensorId id : plan.inputs) {
    specs.push_back({plan.tensors[id].name, plan.tensors[id].shape});
  }
  return specs;
}

std::size_t input_elements(const model::Plan& plan) noexcept {
  std::size_t n = 0;
  for (const model::TensorId id : plan.inputs) n += plan.tensors[id].shape.elements();
  return n;
}

void to_codes(const model::Plan& plan, std::span<const InputValue> values,
              std::span<std::uint8_t> out) {
  std::size_t at = 0;
  for (std::size_t k = 0; k < plan.inputs.size(); ++k) {
    const model::TensorInfo& tensor = plan.tensors[plan.inputs[k]];
    const auto part = out.subspan(at, tensor.shape.elements());
    if (values[k].codes.empty()) {
      quantise(values[k].reals, tensor, part);
    } else {
      std::copy(values[k].codes.begin(), values[k].codes.end(), part.begin());
    }
    at += part.size();
  }
}

}  // namespace slalom::cli
