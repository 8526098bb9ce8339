// SPDX-License-Identifier: Apache-2.0
// The reference interpreter against vectors that NumPy computed from the text of model/plan.h
// (tests/vectors/plan_ops.py).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "importer/reference.h"

namespace slalom::importer {
namespace {

// Case is one block of the file.
struct Case {
  std::map<std::string, std::vector<std::string>> keys;

  [[nodiscard]] bool has(const std::string& key) const { return keys.count(key) != 0; }
  template <class T>
  [[nodiscard]] std::vector<T> list(const std::string& key) const {
    std::vector<T> values;
    for (const std::string& text : keys.at(key)) {
      // Real numbers are hexadecimal and exact in binary32.
      values.push_back(static_cast<T>(std::strtod(text.c_str(), nullptr)));
    }
    return values;
  }
  template <class T>
  [[nodiscard]] T one(const std::string& key) const {
    return list<T>(key).at(0);
  }
  template <class T, std::size_t N>
  [[nodiscard]] std::array<T, N> array(const std::string& key) const {
    std::array<T, N> values{};
    const auto all = list<T>(key);
    std::copy_n(all.begin(), N, values.begin());
    return values;
  }
};

std::vector<Case> read_cases() {
  std::ifstream file(SLALOM_VECTORS "/plan_ops.txt");
  std::vector<Case> cases;
  std::string line;
  while (std::getline(file, line)) {
    const std::size_t equals = line.find(" = ");
    if (equals == std::string::npos) continue;
    const std::string key = line.substr(0, equals);
    if (key == "case") cases.emplace_back();
    std::istringstream words(line.substr(equals + 3));
    std::string word;
    auto& list = cases.back().keys[key];
    while (words >> word) list.push_back(word);
  }
  return cases;
}

model::TensorInfo tensor(const Case& c, const std::string& name) {
  const auto s = c.list<std::uint32_t>(name + ".shape");
  const bool integers = c.has(name + ".i32") && c.one<int>(name + ".i32") != 0;
  return {.name = name,
          .shape = {s[0], s[1], s[2]},
          .dtype = integers ? model::Dtype::kI32 : model::Dtype::kU8,
          .scale = c.one<float>(name + ".scale"),
          .zero_point = c.one<std::int32_t>(name + ".zp")};
}

// window reads kernel, stride, dilation, padding (top, left, bottom, right), groups.
model::Window window(const std::vector<std::uint32_t>& w) {
  return {.kernel_h = w[0],
          .kernel_w = w[1],
          .stride_h = w[2],
          .stride_w = w[3],
          .dilation_h = w[4],
          .dilation_w = w[5],
          .pad_top = w[6],
          .pad_left = w[7],
          .pad_bottom = w[8],
          .pad_right = w[9]};
}

model::Linear linear(const Case& c) {
  const model::Shape in = tensor(c, "in0").shape;
  const model::Shape out = tensor(c, "out").shape;
  const auto w = c.list<std::uint32_t>("stage0");
  const auto weights = c.list<std::int8_t>("weights0");
  const std::uint32_t groups = w[10];
  const auto outputs =
      static_cast<std::uint32_t>(weights.size() / (std::size_t{w[0]} * w[1] * (in.c / groups)));
  model::Linear op;
  op.stages.push_back({{in, {out.h, out.w, outputs}, window(w), groups}, weights});
  if (c.has("weights1")) {
    op.stages.push_back({{op.stages[0].conv.out, out, {}, 1}, c.list<std::int8_t>("weights1")});
  }
  op.bias = c.list<std::int32_t>("bias");
  op.requant = {.multiplier = c.list<float>("multiplier"),
                .zero_point = c.one<std::int32_t>("zp"),
                .lo = c.one<std::int32_t>("lo"),
                .hi = c.one<std::int32_t>("hi"),
                .table = c.list<std::uint8_t>("table")};
  return op;
}

model::Op op_of(const Case& c) {
  const std::string& op = c.keys.at("case").at(0);
  const auto lo = c.has("lo") ? c.one<std::int32_t>("lo") : 0;
  const auto hi = c.has("hi") ? c.one<std::int32_t>("hi") : 0;
  if (op == "linear") return linear(c);
  if (op == "add") return model::Add{c.one<float>("ma"), c.one<float>("mb"), lo, hi};
  if (op == "mul") return model::Mul{c.one<float>("m"), lo, hi};
  if (op == "prelu") {
    return model::Prelu{c.one<float>("positive"), c.list<float>("negative"), lo, hi};
  }
  if (op == "max") return model::MaxPool{window(c.list<std::uint32_t>("window"))};
  if (op == "average") {
    return model::AveragePool{window(c.list<std::uint32_t>("window")), c.one<int>("count") != 0,
                              c.one<float>("m"), lo, hi};
  }
  if (op == "concat") {
    return model::Concat{c.one<std::uint8_t>("axis"), c.list<float>("multiplier")};
  }
  if (op == "pad") {
    return model::Pad{c.array<std::uint32_t, 3>("before"), c.array<std::uint32_t, 3>("after"),
                      c.one<std::uint8_t>("code")};
  }
  if (op == "slice") {
    return model::Slice{c.array<std::uint32_t, 3>("begin"), c.array<std::uint32_t, 3>("step")};
  }
  if (op == "transpose") return model::Transpose{c.array<std::uint8_t, 3>("perm")};
  if (op == "reshape") return model::Reshape{};
  if (op == "table") return model::Table{c.list<std::uint8_t>("table")};
  if (op == "constant") return model::Constant{c.list<std::uint8_t>("values")};
  if (op == "softmax") return model::Softmax{c.list<std::uint32_t>("table")};
  EXPECT_EQ(op, "lrn");
  return model::Lrn{c.one<std::uint32_t>("size"),
                    c.one<std::uint8_t>("quarters"),
                    c.one<float>("alpha"),
                    c.one<float>("bias"),
                    c.one<float>("m"),
                    lo,
                    hi};
}

TEST(ReferenceVectors, EveryOperatorGivesNumPysIntegers) {
  const std::vector<Case> cases = read_cases();
  ASSERT_GE(cases.size(), 35U);
  std::vector<bool> seen(std::variant_size_v<model::Op>, false);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.keys.at("case").at(0));
    model::Plan plan;
    model::Node node{.name = "node", .inputs = {}, .output = 0, .op = op_of(c)};
    seen[node.op.index()] = true;
    std::vector<Codes> inputs;
    for (int i = 0; c.has("in" + std::to_string(i) + ".shape"); ++i) {
      const std::string name = "in" + std::to_string(i);
      const auto id = static_cast<model::TensorId>(plan.tensors.size());
      plan.tensors.push_back(tensor(c, name));
      plan.inputs.push_back(id);
      node.inputs.push_back(id);
      inputs.push_back(c.list<std::int32_t>(name + ".codes"));
    }
    if (inputs.empty()) {  // a plan has an input, read or not
      plan.tensors.push_back({.name = "unused", .shape = {}});
      plan.inputs.push_back(0);
      inputs.push_back({0});
    }
    node.output = static_cast<model::TensorId>(plan.tensors.size());
    plan.tensors.push_back(tensor(c, "out"));
    plan.outputs.push_back({node.output, model::Final::kNone});
    plan.nodes.push_back(std::move(node));
    const Status status = model::validate(plan);
    ASSERT_TRUE(status.ok()) << status.error().message;
    EXPECT_EQ(run_reference(plan, inputs)[0], c.list<std::int32_t>("out.codes"));
  }
  for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_TRUE(seen[i]) << "operator " << i;
}

}  // namespace
}  // namespace slalom::importer
