// SPDX-License-Identifier: Apache-2.0
// The importer's front door, as the command line uses it: an ONNX file or an architecture's name
// goes in, the bytes of a plan and a report come out.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "importer/error.h"
#include "importer/graph.h"
#include "importer/quantise.h"
#include "importer/report.h"
#include "importer/zoo.h"
#include "model/plan.h"

namespace slalom::importer {

struct ConvertOptions {
  std::string path;  // of the ONNX file
  std::string name;  // of the plan; empty: the file's without its ending
  // Shapes for inputs whose file leaves dimensions open, by input name.
  std::map<std::string, Shape> input_shapes;
  // Calibration inputs. A network that is quantised already needs none.
  SampleSource samples;
  std::optional<model::Preprocess> preprocess;
  std::vector<std::string> labels;
  QuantiseOptions quantise;
};

struct ConvertOutput {
  std::vector<std::byte> plan;  // decode_plan accepts these bytes
  Report report;
};

// convert reads, folds and quantises a network. Nothing is written anywhere.
// Thread safe. Memory exhaustion throws std::bad_alloc, nothing else is thrown.
ImportResult<ConvertOutput> convert(const ConvertOptions& options);

// make_model builds a network of the zoo (zoo.h) with synthetic weights and quantises it over
// synthetic pictures. The same name and options give the same bytes on every x86-64 machine with
// the same C library.
ImportResult<ConvertOutput> make_model(std::string_view name, const ZooOptions& options = {},
                                       const QuantiseOptions& quantise = zoo_quantise_options());

// parse_preprocess reads how a picture becomes an input (docs/plan-format.md, "Pictures"): a JSON
// object with
//   "crop": [height, width] or one number                                     (required)
//   "resize_shorter": pixels, 0 = stretch to the crop                         (default 0)
//   "interpolation": "nearest" | "bilinear" | "bicubic"                       (default bilinear)
//   "layout": "RGB" | "BGR" | "L" (one channel, luma)                         (default RGB)
//   "mean", "std": a list with one number for each channel, of values 0..255  (default 0 and 1)
// Unknown keys are refused.
ImportResult<model::Preprocess> parse_preprocess(std::string_view json);

// parse_labels reads one label a line, as UTF-8; a last empty line is ignored, a carriage return
// before a newline is dropped, control characters and labels above 4096 bytes are refused.
ImportResult<std::vector<std::string>> parse_labels(std::string_view text);

// picture_sample puts the prepared pixels of a picture (channels last, real values) into the order
// of a network's only input, [1,C,H,W] or [1,H,W,C]. Errors: the shapes do not fit.
ImportResult<Sample> picture_sample(std::span<const InputInfo> inputs, const model::Shape& shape,
                                    std::span<const float> pixels);

}  // namespace slalom::importer
