// SPDX-License-Identifier: Apache-2.0
// Runs the backend node tests of ONNX: those of Debian's libonnx-testdata (ONNX 1.12, operator sets
// up to 17) and, where the project's .venv has the onnx package, its newer ones (ONNX 1.16, up to
// 21). A checked-in list says of every folder what must happen, so that nothing is skipped
// silently:
//   run NAME             the outputs agree
//   old NAME             the same once operator set 11 is asked for: the file asks for an older
//   one,
//                        whose definition of this operator is the same
//   refuse NAME: TEXT    reading or running ends in an error that holds TEXT
//   data NAME: TEXT      the test's own tensors have a type that is not imported
//   wrong NAME: TEXT     the outputs differ as TEXT says, and are right: a comment says why
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "importer/fold.h"
#include "importer/interpreter.h"
#include "importer/node_cases.h"
#include "importer/onnx_reader.h"
#include "importer/ops/op.h"

namespace slalom::importer {
namespace {

using testing::difference;
using testing::read_bytes;
using testing::read_tensors;
using testing::subfolders;
using testing::with_opset;

struct Expectation {
  std::string verb;
  std::string text;
};

std::map<std::string, Expectation> read_list(const std::string& path) {
  std::map<std::string, Expectation> list;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    const std::size_t space = line.find(' ');
    const std::size_t colon = line.find(": ");
    const std::string name = line.substr(space + 1, colon - space - 1);
    const bool fresh =
        list.emplace(name, Expectation{.verb = line.substr(0, space),
                                       .text = colon == std::string::npos ? std::string()
                                                                          : line.substr(colon + 2)})
            .second;
    EXPECT_TRUE(fresh) << name << " is listed twice";
  }
  return list;
}

// disagreement compares what a graph computes with what is expected; empty if they agree.
std::string disagreement(const ImportResult<std::vector<Tensor>>& outputs,
                         const std::vector<Tensor>& expected) {
  if (!outputs) return outputs.error().message();
  if (outputs.value().size() != expected.size() || expected.empty()) {
    return "the number of outputs";
  }
  for (std::size_t i = 0; i < expected.size(); ++i) {
    std::string text = difference(outputs.value()[i], expected[i]);
    if (!text.empty()) return text;
  }
  return {};
}

// folded_disagreement does so for the folded graph. The first input stays one, the others become
// constants, as weights, axes and shapes are in a real network; so do all inputs of the operators
// whose result has its shape from them.
std::string folded_disagreement(Graph graph, std::span<const Tensor> inputs,
                                const std::vector<Tensor>& expected) {
  const std::string& op = graph.nodes.front().op;
  const std::size_t kept =
      op == "ConstantOfShape" || op == "Range" ? 0 : std::min<std::size_t>(1, inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    graph.value(graph.inputs[i]).shape = inputs[i].shape();
    if (i >= kept) graph.initialisers.emplace(graph.inputs[i], inputs[i]);
  }
  graph.inputs.resize(kept);
  const auto folded = fold(std::move(graph), {.input_shapes = {}, .lift_batch = false});
  if (!folded) return folded.error().message();
  return disagreement(run(folded.value(), inputs.first(folded.value().inputs.size())), expected);
}

// outcome runs one case and says what happened in the words of the list.
Expectation outcome(const std::string& dir, const std::string& verb) {
  std::vector<std::byte> bytes = read_bytes(dir + "/model.onnx");
  if (verb == "old") bytes = with_opset(bytes, kMinOpset);
  ImportResult<Graph> graph = parse_onnx(bytes);
  if (!graph) return {.verb = "refuse", .text = graph.error().message()};
  const auto inputs = read_tensors(dir + "/test_data_set_0", "input");
  if (!inputs) return {.verb = "data", .text = inputs.error().message()};
  const auto expected = read_tensors(dir + "/test_data_set_0", "output");
  if (!expected) return {.verb = "data", .text = expected.error().message()};
  const auto outputs = run(graph.value(), inputs.value());
  if (!outputs) return {.verb = "refuse", .text = outputs.error().message()};
  std::string text = disagreement(outputs, expected.value());
  if (!text.empty()) return {.verb = "wrong", .text = text};
  text = folded_disagreement(std::move(graph).value(), inputs.value(), expected.value());
  if (!text.empty()) return {.verb = "wrong once folded", .text = text};
  return {.verb = verb, .text = {}};
}

// operators_of adds the operators of a file to `operators`.
void operators_of(const std::string& dir, std::set<std::string>& operators) {
  onnx::ModelProto proto;
  const auto bytes = read_bytes(dir + "/model.onnx");
  ASSERT_TRUE(proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  for (const onnx::NodeProto& node : proto.graph().node()) operators.insert(node.op_type());
}

void check_all(const std::string& root, const std::string& list_path, std::size_t least_run) {
  const auto list = read_list(list_path);
  const auto names = subfolders(root);
  std::size_t ran = 0;
  std::set<std::string> operators;
  for (const std::string& name : names) {
    const auto it = list.find(name);
    if (it == list.end()) {
      ADD_FAILURE() << name << " is not listed";
      continue;
    }
    const auto& [verb, text] = it->second;
    const std::string dir = std::filesystem::path(root) / name;
    const Expectation found = outcome(dir, verb);
    EXPECT_EQ(found.verb, verb) << name << ": " << found.text;
    EXPECT_NE(found.text.find(text), std::string::npos) << name << ": " << found.text;
    if (found.verb == "run" || found.verb == "old") {
      ++ran;
      operators_of(dir, operators);
    }
  }
  for (const OpDef& op : all_ops()) {
    // Swish is what folding makes of x * sigmoid(x); files of these operator sets cannot hold it.
    if (op.name == "Swish") continue;
    EXPECT_TRUE(operators.contains(std::string(op.name))) << op.name << " is in no case that ran";
  }
  EXPECT_EQ(names.size(), list.size()) << "a listed folder is missing";
  EXPECT_GE(ran, least_run);
}

TEST(NodeCases, DebianTestDataOfOnnx112) {
  const std::string root = "/usr/share/libonnx-testdata/data/node";
  ASSERT_TRUE(std::filesystem::is_directory(root)) << "install libonnx-testdata";
  check_all(root, SLALOM_TEST_DIR "/node_cases_1_12.txt", 330);
}

// onnx_of_venv finds the node tests of the onnx package in the project's .venv.
std::string onnx_of_venv() {
  const std::filesystem::path lib = SLALOM_VENV "/lib";
  if (!std::filesystem::is_directory(lib)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(lib)) {
    const auto found = entry.path() / "site-packages/onnx/backend/test/data/node";
    if (std::filesystem::is_directory(found)) return found;
  }
  return {};
}

TEST(NodeCases, PythonPackageOfOnnx116) {
  const std::string root = onnx_of_venv();
  if (root.empty()) GTEST_SKIP() << "no onnx package in .venv: run tools/install.sh --venv";
  check_all(root, SLALOM_TEST_DIR "/node_cases_1_16.txt", 390);
}

}  // namespace
}  // namespace slalom::importer
