// SPDX-License-Identifier: Apache-2.0
#include "importer/onnx_reader.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "importer/model_builder.h"

namespace slalom::importer {
namespace {

using testing::ModelBuilder;
using testing::set_float;
using testing::set_int;

// relu_model is the smallest useful network; tests damage copies of it.
ModelBuilder relu_model(std::int64_t opset = 13) {
  ModelBuilder builder(opset);
  builder.input("x", {0, 4}).output("y").node("Relu", {"x"}, "y");
  return builder;
}

std::string error_of(const ModelBuilder& builder) {
  const auto graph = parse_onnx(builder.bytes());
  return graph ? "no error" : graph.error().message();
}

// expect_error wants the whole sentence: the message is what a person gets.
void expect_error(const ModelBuilder& builder, const std::string& sentence) {
  EXPECT_EQ(error_of(builder), sentence);
}

TEST(OnnxReader, ReadsASmallNetwork) {
  ModelBuilder builder = relu_model();
  const auto graph = parse_onnx(builder.bytes());
  ASSERT_TRUE(graph.ok());
  EXPECT_EQ(graph.value().opset, 13);
  ASSERT_EQ(graph.value().nodes.size(), 1U);
  EXPECT_EQ(graph.value().nodes[0].op, "Relu");
  ASSERT_EQ(graph.value().inputs.size(), 1U);
  EXPECT_EQ(graph.value().value(graph.value().inputs[0]).shape, (Shape{-1, 4}));
}

TEST(OnnxReader, RefusesWhatIsNotONNX) {
  EXPECT_EQ(parse_onnx({}).error().message(), "the file is not an ONNX network");
  const std::vector<std::byte> noise(100, std::byte{0xA7});
  EXPECT_EQ(parse_onnx(noise).error().message(), "the file is not an ONNX network");
  EXPECT_EQ(read_onnx("/nowhere/at/all.onnx").error().message(),
            "'/nowhere/at/all.onnx' cannot be opened: No such file or directory");
  EXPECT_EQ(read_onnx("/dev/zero").error().message(), "'/dev/zero' is not a regular file");
}

TEST(OnnxReader, RefusesEveryTruncation) {
  ModelBuilder builder = relu_model();
  builder.floats("w", {2, 3}, {1, 2, 3, 4, 5, 6});
  const auto bytes = builder.bytes();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto graph = parse_onnx(std::span(bytes).first(size));
    // Cutting between two fields can leave a whole network; it must then be one that makes sense.
    if (graph) {
      EXPECT_EQ(graph.value().outputs.size(), 1U);
    } else {
      EXPECT_FALSE(graph.error().what.empty());
    }
  }
}

TEST(OnnxReader, RefusesOperatorSetsByName) {
  for (const std::int64_t opset : {1, 10, 22, 23, 1'000'000}) {
    expect_error(relu_model(opset), "the network uses operator set " + std::to_string(opset) +
                                        "; 11 to 21 are supported");
  }
  for (std::int64_t opset = kMinOpset; opset <= kMaxOpset; ++opset) {
    EXPECT_EQ(error_of(relu_model(opset)), "no error") << opset;
  }
  ModelBuilder none = relu_model();
  none.model.clear_opset_import();
  expect_error(none, "the network does not name its operator set");
  ModelBuilder twice = relu_model();
  twice.model.add_opset_import()->set_version(13);
  expect_error(twice, "the network names its operator set twice");
}

TEST(OnnxReader, NamesTheNodeTheOperatorAndTheOpset) {
  ModelBuilder unknown = relu_model();
  unknown.graph().mutable_node(0)->set_op_type("Gelu");
  expect_error(unknown, "node 'y' (Gelu, opset 13): the operator is not supported");

  ModelBuilder foreign = relu_model();
  foreign.graph().mutable_node(0)->set_domain("com.example");
  expect_error(foreign, "node 'y' (com.example::Relu, opset 13): the operator is not supported");

  ModelBuilder ours = relu_model();
  ours.graph().mutable_node(0)->set_op_type("Swish");
  expect_error(ours, "node 'y' (Swish, opset 13): the operator is not supported");

  ModelBuilder early = relu_model(13);
  early.graph().mutable_node(0)->set_op_type("HardSwish");
  expect_error(early,
               "node 'y' (HardSwish, opset 13): the operator exists from operator set 14 on");
}

TEST(OnnxReader, MessagesHoldNoControlCharacters) {
  ModelBuilder builder = relu_model();
  builder.graph().mutable_node(0)->set_op_type("Evil\x1b[2J\n");
  builder.graph().mutable_node(0)->set_name(std::string(5000, 'n'));
  const std::string message = error_of(builder);
  EXPECT_LT(message.size(), 2100U);
  for (const char c : message) EXPECT_GE(static_cast<unsigned char>(c), 0x20);
}

TEST(OnnxReader, RefusesAttributesItDoesNotKnow) {
  ModelBuilder unknown = relu_model();
  set_int(*unknown.graph().mutable_node(0), "inplace", 1);
  expect_error(unknown, "node 'y' (Relu, opset 13): the attribute 'inplace' is not supported");

  ModelBuilder wrong = relu_model();
  wrong.graph().mutable_node(0)->set_op_type("LeakyRelu");
  set_int(*wrong.graph().mutable_node(0), "alpha", 1);
  expect_error(wrong, "node 'y' (LeakyRelu, opset 13): the attribute 'alpha' has the wrong type");

  ModelBuilder twice = relu_model();
  twice.graph().mutable_node(0)->set_op_type("LeakyRelu");
  set_float(*twice.graph().mutable_node(0), "alpha", 0.1F);
  set_float(*twice.graph().mutable_node(0), "alpha", 0.2F);
  expect_error(twice, "node 'y' (LeakyRelu, opset 13): the attribute 'alpha' is given twice");

  ModelBuilder branch = relu_model();
  auto& attribute = *branch.graph().mutable_node(0)->add_attribute();
  attribute.set_name("alpha");
  attribute.set_type(onnx::AttributeProto::GRAPH);
  branch.graph().mutable_node(0)->set_op_type("LeakyRelu");
  expect_error(branch,
               "node 'y' (LeakyRelu, opset 13): the attribute 'alpha' has a type that is not "
               "supported");

  ModelBuilder early = relu_model(13);
  early.graph().mutable_node(0)->set_op_type("AveragePool");
  testing::set_ints(*early.graph().mutable_node(0), "dilations", {2});
  expect_error(early,
               "node 'y' (AveragePool, opset 13): the attribute 'dilations' exists from operator "
               "set 19 on");
}

TEST(OnnxReader, RefusesBrokenWiring) {
  ModelBuilder dangling = relu_model();
  dangling.graph().mutable_node(0)->set_input(0, "z");
  expect_error(dangling, "node 'y' (Relu, opset 13): nothing computes the value 'z'");

  ModelBuilder twice = relu_model();
  twice.node("Relu", {"x"}, "y");
  expect_error(twice, "the value 'y' is defined twice");

  ModelBuilder circle;
  circle.input("x", {1, 4}).output("b");
  circle.node("Add", {"x", "b"}, "a");
  circle.node("Relu", {"a"}, "b");
  expect_error(circle, "the nodes of the network form a circle");

  ModelBuilder none = relu_model();
  none.graph().clear_output();
  expect_error(none, "the network has no output");

  ModelBuilder missing = relu_model();
  missing.graph().mutable_node(0)->set_op_type("Add");
  expect_error(missing, "node 'y' (Add, opset 13): it has 1 inputs");
  missing.graph().mutable_node(0)->add_input("");
  expect_error(missing, "node 'y' (Add, opset 13): it has 1 inputs");
  missing.graph().mutable_node(0)->set_input(0, "");
  missing.graph().mutable_node(0)->set_input(1, "x");
  expect_error(missing, "node 'y' (Add, opset 13): input 1 is missing");
}

TEST(OnnxReader, SortsNodes) {
  ModelBuilder builder;
  builder.input("x", {1, 4}).output("c");
  builder.node("Relu", {"b"}, "c");
  builder.node("Relu", {"a"}, "b");
  builder.node("Relu", {"x"}, "a");
  const auto graph = parse_onnx(builder.bytes());
  ASSERT_TRUE(graph.ok());
  EXPECT_EQ(graph.value().nodes[0].name, "a");
  EXPECT_EQ(graph.value().nodes[1].name, "b");
  EXPECT_EQ(graph.value().nodes[2].name, "c");
}

TEST(OnnxReader, RefusesInputsItCannotUse) {
  ModelBuilder typed = relu_model();
  typed.graph().mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(
      onnx::TensorProto::STRING);
  expect_error(typed, "the input 'x' is refused: the element type string is not supported");
  ModelBuilder shapeless = relu_model();
  shapeless.graph().mutable_input(0)->mutable_type()->mutable_tensor_type()->clear_shape();
  expect_error(shapeless, "the input 'x' has no shape");
  ModelBuilder sequence = relu_model();
  sequence.graph().mutable_input(0)->mutable_type()->mutable_sequence_type();
  expect_error(sequence, "the input 'x' is not a tensor");
}

TEST(OnnxReader, ChecksTheSizesOfTensors) {
  const std::string prefix = "the initialiser 'w': ";
  const auto check = [&](auto damage, const std::string& what) {
    ModelBuilder builder = relu_model();
    damage(builder.floats("w", {2, 3}, {1, 2, 3, 4, 5, 6}));
    expect_error(builder, prefix + what);
  };
  check([](auto& t) { t.add_dims(2); }, "it has 6 elements, but its shape needs 12");
  check([](auto& t) { t.mutable_float_data()->RemoveLast(); },
        "it has 5 elements, but its shape needs 6");
  check([](auto& t) { t.add_float_data(7); }, "it has 7 elements, but its shape needs 6");
  check([](auto& t) { t.set_dims(0, -2); }, "its shape is [-2,3]");
  check([](auto& t) { t.set_dims(0, std::numeric_limits<std::int64_t>::max()); },
        "its shape is [9223372036854775807,3]");
  check([](auto& t) { t.set_dims(0, std::int64_t{1} << 38); },
        "the constants of the network are too large");
  check([](auto& t) { t.set_dims(0, 1'000'000); },
        "it has 6 elements, but its shape needs 3000000");
  check([](auto& t) { t.set_raw_data(std::string(24, 'x')); }, "it has its data twice");
  check(
      [](auto& t) {
        t.clear_float_data();
        t.set_raw_data(std::string(23, 'x'));
      },
      "it has 23 bytes, but its shape needs 24");
  check([](auto& t) { t.set_data_type(onnx::TensorProto::UINT16); },
        "the element type uint16 is not supported");
  check([](auto& t) { t.set_data_type(-5); }, "the element type -5 is not supported");
  check([](auto& t) { t.mutable_segment()->set_begin(0); },
        "it is cut into segments, which is not supported");
  check([](auto& t) { t.set_data_location(onnx::TensorProto::EXTERNAL); },
        "it refers to external data, which is not allowed here");
  check(
      [](auto& t) {
        t.clear_float_data();
        t.set_data_type(onnx::TensorProto::INT8);
        for (const int value : {1, 2, 3, 4, 5, 128}) t.add_int32_data(value);
      },
      "the element 128 is out of range");
}

TEST(OnnxReader, ReadsEveryElementType) {
  onnx::TensorProto half;
  half.set_data_type(onnx::TensorProto::FLOAT16);
  half.add_dims(6);
  for (const int bits : {0x3C00, 0xC000, 0x0001, 0x7BFF, 0x7C00, 0x8000}) half.add_int32_data(bits);
  const auto bytes = [](const onnx::TensorProto& proto) {
    const std::string text = proto.SerializeAsString();
    const auto* first = reinterpret_cast<const std::byte*>(text.data());
    return std::vector<std::byte>(first, first + text.size());
  };
  const auto tensor = parse_tensor(bytes(half));
  ASSERT_TRUE(tensor.ok());
  // Values of binary16 as IEEE 754-2019 defines them.
  EXPECT_EQ(
      tensor.value(),
      Tensor::of(Shape{6}, std::vector<float>{1.0F, -2.0F, 0x1p-24F, 65504.0F,
                                              std::numeric_limits<float>::infinity(), -0.0F}));
  onnx::TensorProto wide;
  wide.set_data_type(onnx::TensorProto::DOUBLE);
  wide.add_dims(2);
  wide.add_double_data(0.1);
  wide.add_double_data(-1e300);
  const auto narrowed = parse_tensor(bytes(wide));
  ASSERT_TRUE(narrowed.ok());
  EXPECT_EQ(
      narrowed.value(),
      Tensor::of(Shape{2}, std::vector<float>{0.1F, -std::numeric_limits<float>::infinity()}));
}

// --- External data ------------------------------------------------------------------------

class ExternalData : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ =
        std::filesystem::temp_directory_path() / ("slalom_external_" + std::to_string(getpid()));
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_ / "model" / "sub");
    write(root_ / "model" / "data.bin", 100);
    write(root_ / "model" / "sub" / "data.bin", 24);
    write(root_ / "secret.bin", 100);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  static void write(const std::filesystem::path& path, std::size_t size) {
    std::ofstream(path, std::ios::binary) << std::string(size, '\1');
  }

  // load reads a network whose six floats lie at the given place.
  ImportResult<Graph> load(const std::string& location, const std::string& offset = "",
                           const std::string& length = "") {
    ModelBuilder builder = relu_model();
    auto& tensor = builder.floats("w", {2, 3}, {});
    tensor.set_data_location(onnx::TensorProto::EXTERNAL);
    const auto add = [&tensor](const std::string& key, const std::string& value) {
      if (value.empty() && key != "location") return;
      tensor.add_external_data()->set_key(key);
      tensor.mutable_external_data()->rbegin()->set_value(value);
    };
    add("location", location);
    add("offset", offset);
    add("length", length);
    const auto bytes = builder.bytes();
    const auto path = root_ / "model" / "model.onnx";
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return read_onnx(path);
  }

  void expect_refused(const std::string& location, const std::string& text,
                      const std::string& offset = "", const std::string& length = "") {
    const auto graph = load(location, offset, length);
    ASSERT_FALSE(graph.ok()) << location << " " << offset << " " << length;
    EXPECT_NE(graph.error().what.find(text), std::string::npos) << graph.error().message();
  }

  std::filesystem::path root_;
};

TEST_F(ExternalData, IsReadFromTheFolderAndBelow) {
  const float ones = 2.3694278e-38F;  // the float whose four bytes are 1
  for (const auto& [location, offset, length] : {std::array<std::string, 3>{"data.bin", "", ""},
                                                 {"data.bin", "76", "24"},
                                                 {"data.bin", "0", ""},
                                                 {"sub/data.bin", "", "24"}}) {
    const auto graph = load(location, offset, length);
    ASSERT_TRUE(graph.ok()) << graph.error().message();
    EXPECT_EQ(graph.value().initialisers.begin()->second,
              Tensor::of(Shape{2, 3}, std::vector<float>(6, ones)));
  }
}

TEST_F(ExternalData, DoesNotLeaveTheFolder) {
  const std::string plain = "is not a plain path below the folder of the network";
  expect_refused("../secret.bin", plain);
  expect_refused("sub/../../secret.bin", plain);
  expect_refused((root_ / "secret.bin").string(), plain);
  expect_refused("./data.bin", plain);
  expect_refused("sub//data.bin", plain);
  expect_refused("data.bin/", plain);
  expect_refused("..", plain);
  expect_refused("", "is empty");
  expect_refused(std::string("data.bin\0x", 10), "holds a zero byte");
}

TEST_F(ExternalData, FollowsNoSymbolicLinks) {
  std::filesystem::create_symlink(root_ / "secret.bin", root_ / "model" / "link.bin");
  std::filesystem::create_symlink("data.bin", root_ / "model" / "near.bin");
  std::filesystem::create_directory_symlink(root_, root_ / "model" / "up");
  expect_refused("link.bin", "it is a symbolic link");
  expect_refused("near.bin", "it is a symbolic link");
  expect_refused("up/secret.bin", "cannot be opened");
}

TEST_F(ExternalData, IsARegularFileOfTheRightSize) {
  ASSERT_EQ(mkfifo((root_ / "model" / "pipe").c_str(), 0600), 0);
  expect_refused("pipe", "is not a regular file");
  expect_refused("sub", "is not a regular file");
  expect_refused("missing.bin", "No such file or directory");
  expect_refused("data.bin", "but the tensor needs 24 from offset 77", "77");
  expect_refused("data.bin", "but the tensor needs 24 from offset 101", "101");
  expect_refused("data.bin", "from offset 9223372036854775807", "9223372036854775807");
  expect_refused("data.bin", "the offset of its external data is '-1'", "-1");
  expect_refused("data.bin", "the offset of its external data is '4x'", "4x");
  expect_refused("data.bin", "the offset of its external data is '99999999999999999999'",
                 "99999999999999999999");
  expect_refused("data.bin", "has 23 bytes, but the tensor needs 24", "0", "23");
  expect_refused("data.bin", "has 25 bytes, but the tensor needs 24", "0", "25");
}

}  // namespace
}  // namespace slalom::importer
