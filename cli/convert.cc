// SPDX-License-Identifier: Apache-2.0
#include "importer/convert.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/calibration.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "cli/conversion.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "importer/fold.h"
#include "importer/onnx_reader.h"

namespace slalom::cli {
namespace {

struct Options {
  std::string network;
  std::string output;
  std::string report;
  std::vector<std::string> calibrate;
  std::size_t samples = 64;
  std::string preprocess;
  std::string labels;
  std::vector<std::string> input_shapes;
  importer::ConvertOptions convert;
};

// NOLINTBEGIN(cert-err58-cpp): without memory for these nothing can be said anyway
const Choices<importer::Calibrator> kCalibrators{{"minmax", importer::Calibrator::kMinMax},
                                                 {"mse", importer::Calibrator::kMse},
                                                 {"percentile", importer::Calibrator::kPercentile}};
const Choices<importer::Equalise> kEqualise{{"auto", importer::Equalise::kAuto},
                                            {"off", importer::Equalise::kOff},
                                            {"on", importer::Equalise::kOn}};
// NOLINTEND(cert-err58-cpp)

std::string read_text(const std::string& path) {
  constexpr std::uint64_t kMaxText = 64U << 20U;
  const auto bytes = read_file(path, kMaxText);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// "name=1,3,224,224" of --input-shape.
std::pair<std::string, importer::Shape> parse_shape(const std::string& text) {
  const std::size_t equals = text.find('=');
  importer::Shape shape;
  bool good = equals != std::string::npos && equals > 0;
  std::string_view rest = good ? std::string_view(text).substr(equals + 1) : std::string_view();
  while (good && !rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    std::int64_t dimension = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + comma, dimension);
    good = error == std::errc() && end == rest.data() + comma && dimension > 0;
    shape.push_back(dimension);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  if (!good || shape.empty()) {
    throw Stop(Errc::kInvalidArgument,
               fmt::format("--input-shape {} is not understood; write NAME=1,3,224,224", text));
  }
  return {text.substr(0, equals), shape};
}

std::vector<importer::InputInfo> inputs_of(const importer::ConvertOptions& convert) {
  importer::FoldOptions options;
  options.input_shapes = convert.input_shapes;
  auto graph = unwrap_import(importer::read_onnx(convert.path), convert.path);
  return importer::input_info(
      unwrap_import(importer::fold(std::move(graph), options), convert.path));
}

int convert(Options& o) {
  importer::ConvertOptions& c = o.convert;
  c.path = o.network;
  if (::access(c.path.c_str(), R_OK) != 0) {
    throw Stop(Errc::kInvalidArgument, fmt::format("{} cannot be read; name an ONNX file", c.path));
  }
  std::vector<std::string> sources{o.network, o.preprocess, o.labels};
  sources.insert(sources.end(), o.calibrate.begin(), o.calibrate.end());
  check_output(o.output, sources);
  sources.push_back(o.output);
  if (!o.report.empty()) check_output(o.report, sources);
  if (!o.preprocess.empty()) {
    c.preprocess = unwrap_import(importer::parse_preprocess(read_text(o.preprocess)), o.preprocess);
  }
  if (!o.labels.empty()) {
    c.labels = unwrap_import(importer::parse_labels(read_text(o.labels)), o.labels);
  }
  for (const std::string& shape : o.input_shapes) c.input_shapes.insert(parse_shape(shape));
  std::optional<Calibration> calibration;
  if (!o.calibrate.empty()) {
    calibration.emplace(inputs_of(c), c.preprocess, o.calibrate);
    c.samples = calibration->source(o.samples);
  }
  StageProgress progress;
  c.quantise.progress = progress.callback();
  const auto made = unwrap_import(importer::convert(c), c.path);
  progress.end();
  save_plan(made, o.output, o.report);
  return 0;
}

}  // namespace

Action define_convert(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  importer::QuantiseOptions& q = o->convert.quantise;
  app.add_option("IN.onnx", o->network, "The float (or QDQ) network")
      ->type_name("IN.onnx")
      ->required();
  app.add_option("-o,--output", o->output, "The plan file to write")
      ->type_name("OUT.slalom")
      ->required();
  app.add_option("--calibrate", o->calibrate,
                 "Sample inputs that show the ranges of activations: pictures, folders of them, "
                 "arrays, or random:N; a network that is quantised already needs none")
      ->type_name("FILE");
  app.add_option("--samples", o->samples, "Use at most so many of them (0: all)")
      ->type_name("N")
      ->check(CLI::Range(0, 1'000'000'000))
      ->capture_default_str();
  app.add_option("--preprocess", o->preprocess,
                 "How a picture becomes an input: a JSON file (docs/plan-format.md, Pictures)")
      ->type_name("FILE.json");
  app.add_option("--labels", o->labels, "Names of the classes, one a line")->type_name("FILE");
  app.add_option("--name", o->convert.name, "Name of the plan")->type_name("NAME");
  app.add_option("--input-shape", o->input_shapes, "Shape of an input that the file leaves open")
      ->type_name("NAME=1,C,H,W")
      ->allow_extra_args(false);
  app.add_option("--report", o->report, "Also write bounds, fields and noise per layer as JSON")
      ->type_name("FILE.json");
  choice(app, "--calibrator", q.calibrator, kCalibrators, "How the range of a tensor is chosen");
  app.add_option("--percentile", q.percentile, "Share of values inside, for percentile")
      ->type_name("P")
      ->check(CLI::Range(50.0, 100.0))
      ->capture_default_str();
  choice(app, "--equalise", q.equalise, kEqualise,
         "Rescale neighbouring layers against each other first (auto: if the network has depthwise "
         "convolutions)");
  app.add_flag("!--no-bias-correction", q.correct_bias, "Leave biases as they are");
  app.add_option("--threads", q.threads, "Threads (0: all)")
      ->type_name("N")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.footer(
      "Quantises the network, proves that no integer of it can overflow, and writes everything "
      "that\naffects its answers into one file with a SHA-256 digest.\n\n"
      "Examples:\n"
      "  slalom convert net.onnx -o net.slalom --calibrate photos/ --preprocess imagenet.json \\\n"
      "      --labels imagenet.txt\n"
      "  slalom convert quantised.onnx -o net.slalom\n"
      "  slalom convert net.onnx -o net.slalom --calibrate samples.npy --report report.json");
  return [o] { return convert(*o); };
}

}  // namespace slalom::cli
