# SPDX-License-Identifier: Apache-2.0
"""Small networks of many kinds, with seeded weights, in the shapes that exporters give them.

all_networks() yields (name, onnx.ModelProto). Networks whose name begins with "fixed_" have the
batch size 1 in the file; the others leave it open.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Collects nodes and initialisers of one network."""

    def __init__(self, name, opset, shape, batch="N", dtype=TensorProto.FLOAT):
        self.name, self.opset = name, opset
        self.random = np.random.default_rng(sum(map(ord, name)) + opset)
        self.nodes, self.initialisers = [], []
        self.count = 0
        self.x = "x"
        self.inputs = [helper.make_tensor_value_info("x", dtype, [batch, *shape])]

    def const(self, array, name=None):
        self.count += 1
        name = name or f"c{self.count}"
        self.initialisers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape, scale=None):
        fan_in = max(1, int(np.prod(shape[1:])))
        scale = scale or (2.0 / fan_in) ** 0.5
        return self.const((self.random.standard_normal(shape) * scale).astype(np.float32))

    def op(self, op, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"{op.lower()}_{self.count}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def ints(self, *values):
        return self.const(np.array(values, np.int64))

    def axes_op(self, op, x, axes, since, **attributes):
        """An operator whose axes are an attribute before `since` and an input from then on."""
        if self.opset < since:
            return self.op(op, x, axes=axes, **attributes)
        return self.op(op, x, self.ints(*axes), **attributes)

    def conv(self, x, out, into, kernel=3, **attributes):
        groups = attributes.get("group", 1)
        kernel = [kernel] * 2 if isinstance(kernel, int) else list(kernel)
        return self.op("Conv", x, self.weights(out, into // groups, *kernel), **attributes)

    def batch_norm(self, x, channels):
        r = self.random
        parameters = [r.uniform(0.5, 1.5, channels), r.normal(0, 0.2, channels),
                      r.normal(0, 0.2, channels), r.uniform(0.3, 2, channels)]
        return self.op("BatchNormalization", x,
                       *[self.const(p.astype(np.float32)) for p in parameters])

    def model(self, *outputs):
        types = [helper.make_tensor_value_info(o, TensorProto.UNDEFINED, None) for o in outputs]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, types, self.initialisers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        model = onnx.shape_inference.infer_shapes(model)
        inferred = {v.name: v for v in model.graph.value_info}
        del model.graph.output[:]
        for name in outputs:
            model.graph.output.append(inferred.get(name) or helper.make_tensor_value_info(
                name, TensorProto.FLOAT, None))
        return model


def resnet_block(opset):
    n = Net("resnet_block", opset, [3, 16, 16])
    x = n.op("Relu", n.batch_norm(n.conv("x", 8, 3, 7, strides=[2, 2], pads=[3] * 4), 8))
    x = n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    y = n.op("Relu", n.batch_norm(n.conv(x, 8, 8, 3, pads=[1] * 4), 8))
    y = n.batch_norm(n.conv(y, 16, 8, 3, pads=[1] * 4), 16)
    x = n.op("Relu", n.op("Add", y, n.batch_norm(n.conv(x, 16, 8, 1), 16)))
    x = n.op("Flatten", n.op("GlobalAveragePool", x))
    return n.model(n.op("Gemm", x, n.weights(10, 16), n.weights(10), transB=1))


def mobilenet_block(opset):
    """Inverted residual with squeeze-and-excite and hard swish as the nodes of PyTorch."""
    n = Net("mobilenet_block", opset, [8, 9, 9])
    three, six = n.const(np.float32(3)), n.const(np.float32(6))
    zero = n.const(np.float32(0))

    def ramp(v):
        return n.op("Clip", n.op("Add", v, three), zero, six)

    x = n.batch_norm(n.conv("x", 24, 8, 1), 24)
    x = n.op("Div", n.op("Mul", x, ramp(x)), six)
    x = n.batch_norm(n.conv(x, 24, 24, 5, group=24, pads=[2] * 4, strides=[2, 2]), 24)
    s = n.axes_op("ReduceMean", x, [2, 3], 18, keepdims=1)
    s = n.op("Relu", n.conv(s, 6, 24, 1))
    s = n.op("Div", ramp(n.conv(s, 24, 6, 1)), six)
    x = n.op("Mul", x, s)
    return n.model(n.batch_norm(n.conv(x, 8, 24, 1), 8))


def efficientnet_block(opset):
    """Swish and a squeeze-and-excite gate, TensorFlow's SAME padding."""
    n = Net("efficientnet_block", opset, [6, 11, 10])
    x = n.batch_norm(n.conv("x", 12, 6, 3, auto_pad="SAME_UPPER", strides=[2, 2]), 12)
    x = n.op("Mul", x, n.op("Sigmoid", x))
    s = n.op("GlobalAveragePool", x)
    s = n.conv(s, 3, 12, 1)
    s = n.op("Mul", n.op("Sigmoid", s), s)
    s = n.op("Sigmoid", n.conv(s, 12, 3, 1))
    x = n.op("Mul", s, x)
    x = n.conv(x, 12, 12, 3, auto_pad="SAME_LOWER", group=12, strides=[2, 2])
    return n.model(n.op("LeakyRelu", x, alpha=0.1))


def inception_block(opset):
    n = Net("inception_block", opset, [4, 13, 13])
    a = n.op("Relu", n.conv("x", 4, 4, 1))
    b = n.op("Relu", n.conv(n.conv("x", 4, 4, (1, 7), pads=[0, 3, 0, 3]), 5, 4, (7, 1),
                            pads=[3, 0, 3, 0]))
    c = n.op("AveragePool", "x", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    c = n.conv(c, 3, 4, 1)
    d = n.op("MaxPool", "x", kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    x = n.op("Concat", a, b, c, d, axis=1)
    x = n.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    x = n.op("LRN", x, size=5, alpha=0.01, beta=0.75, bias=1.0)
    return n.model(x)


def preactivation(opset):
    """Batch normalisation that cannot be folded backwards; Sum; global max."""
    n = Net("preactivation", opset, [4, 8, 8])
    x = n.op("Relu", n.batch_norm("x", 4))
    y = n.conv(x, 4, 4, 3, pads=[1] * 4)
    x = n.op("Sum", y, "x", x)
    x = n.op("Elu", n.batch_norm(x, 4), alpha=0.7)
    x = n.op("PRelu", x, n.const(n.random.uniform(0.1, 0.4, (4, 1, 1)).astype(np.float32)))
    return n.model(n.op("GlobalMaxPool", x))


def shape_arithmetic(opset):
    """view(batch, -1) in the nodes of PyTorch, then a classifier with log-softmax."""
    n = Net("shape_arithmetic", opset, [3, 6, 6])
    x = n.op("Tanh", n.conv("x", 4, 3, 3))
    batch = n.op("Gather", n.op("Shape", x), n.const(np.int64(0)), axis=0)
    batch = n.axes_op("Unsqueeze", batch, [0], 13)
    x = n.op("Reshape", x, n.op("Concat", batch, n.ints(-1), axis=0))
    x = n.op("Add", n.op("MatMul", x, n.weights(64, 5, scale=0.2)), n.weights(5))
    return n.model(n.op("LogSoftmax", x, axis=1), n.op("Softmax", x, axis=-1))


def channel_shuffle(opset):
    """Reshape and transpose through shape arithmetic, split and slice."""
    n = Net("channel_shuffle", opset, [8, 5, 5])
    shape = n.op("Shape", "x")
    batch = n.op("Slice", shape, n.ints(0), n.ints(1))
    rest = n.op("Slice", shape, n.ints(2), n.ints(4))
    x = n.op("Reshape", "x", n.op("Concat", batch, n.ints(2, 4), rest, axis=0))
    x = n.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = n.op("Reshape", x, n.op("Concat", batch, n.ints(8), rest, axis=0))
    if opset < 13:
        a, b = n.op("Split", x, axis=1, split=[3, 5], outputs=2)
    else:
        a, b = n.op("Split", x, n.ints(3, 5), axis=1, outputs=2)
    b = n.op("Slice", b, n.ints(-1, 0), n.ints(-100, 5), n.ints(1, 3), n.ints(-2, 2))
    a = n.op("Slice", a, n.ints(0), n.ints(5), n.ints(3), n.ints(2))
    return n.model(n.op("Concat", a, b, axis=1))


def upsampler(opset):
    n = Net("upsampler", opset, [6, 5, 4])
    x = n.op("ConvTranspose", "x", n.weights(6, 4, 3, 3), n.weights(4), strides=[2, 2],
             pads=[1, 1, 0, 1], output_padding=[1, 0])
    x = n.op("ConvTranspose", n.batch_norm(x, 4), n.weights(4, 3, 2, 4), group=2,
             dilations=[2, 1], strides=[1, 3])
    x = n.op("HardSigmoid", n.batch_norm(x, 6), alpha=0.3, beta=0.4)
    return n.model(n.op("ConvTranspose", x, n.weights(6, 2, 3, 3), strides=[2, 2],
                        auto_pad="SAME_UPPER"))


def one_and_three_dimensions(opset):
    n = Net("one_and_three_dimensions", opset, [4, 6, 7, 5])
    x = n.op("Conv", "x", n.weights(6, 2, 3, 2, 3), n.weights(6), group=2, pads=[1, 0, 1, 0, 1, 1],
             strides=[1, 2, 1])
    x = n.op("AveragePool", n.op("Relu", x), kernel_shape=[2, 2, 2], strides=[2, 1, 2])
    x = n.op("MaxPool", x, kernel_shape=[2, 1, 2], ceil_mode=1, strides=[2, 1, 2])
    x = n.op("Reshape", x, n.ints(0, 6, -1))
    x = n.op("Conv", x, n.weights(5, 6, 2), dilations=[1], pads=[1, 0])
    return n.model(n.op("MaxPool", x, kernel_shape=[2]))


def padded(opset):
    """Pad nodes that merge into what follows, and some that must not."""
    n = Net("padded", opset, [3, 7, 7])

    def pad(x, *amounts, value=0.0, mode="constant"):
        return n.op("Pad", x, n.ints(*amounts), n.const(np.float32(value)), mode=mode)

    x = n.conv(pad("x", 0, 0, 1, 2, 0, 0, 2, 1), 4, 3, 3, strides=[2, 2])
    x = n.op("MaxPool", pad(x, 0, 0, 1, 1, 0, 0, 1, 1, value=-10.0), kernel_shape=[3, 3])
    x = n.op("AveragePool", pad(x, 0, 0, 1, 1, 0, 0, 1, 1), kernel_shape=[3, 3])
    x = n.conv(pad(x, 0, 0, 1, 1, 0, 0, 1, 1, mode="reflect"), 4, 4, 3)
    x = pad(x, 0, 0, -1, 1, 0, 1, 0, -1, value=0.25)
    if opset >= 19:
        x = pad(x, 0, 0, 3, 0, 0, 0, 1, 5, mode="wrap")
    return n.model(pad(x, 0, 1, 0, 0, 0, 0, 0, 1, value=0.5, mode="edge"))


def quotients(opset):
    """Divisions by what is not constant, with every kind of dividend and broadcast."""
    n = Net("quotients", opset, [4, 7, 6])
    x = n.conv("x", 6, 4, 3)
    gate = n.op("Sigmoid", n.conv("x", 6, 4, 3))
    divisor = n.op("Add", gate, n.const(np.float32(0.5)))
    pooled = n.op("GlobalAveragePool", divisor)
    x = n.op("Div", n.op("Div", x, divisor), pooled)
    scale = n.const(n.random.uniform(0.5, 1.5, (6, 1, 1)).astype(np.float32))
    return n.model(n.op("Add", x, n.op("Add", n.op("Div", scale, divisor),
                                       n.op("Div", n.const(np.float32(1.5)), divisor))))


def transformer_like(opset):
    """Rank 3 products, softmax over the last axis, squeeze of an axis."""
    n = Net("transformer_like", opset, [7, 12])
    q, k, v = (n.op("MatMul", "x", n.weights(12, 8, scale=0.3)) for _ in range(3))
    scores = n.op("MatMul", q, n.op("Transpose", k, perm=[0, 2, 1]))
    x = n.op("MatMul", n.op("Softmax", n.op("Div", scores, n.const(np.float32(2.8))), axis=2), v)
    x = n.axes_op("ReduceMean", x, [1], 18, keepdims=1)
    return n.model(n.axes_op("Squeeze", x, [1], 13))


def fixed_batch(opset):
    """A file that names its batch of one everywhere."""
    n = Net("fixed_batch", opset, [3, 6, 6], batch=1)
    x = n.op("Relu", n.conv("x", 4, 3, 3))
    x = n.op("Reshape", x, n.ints(1, 2, 2, 4, 4))
    x = n.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = n.op("Reshape", x, n.ints(1, -1))
    x = n.op("Gemm", x, n.weights(64, 3, scale=0.2))
    return n.model(n.op("Softmax", x, axis=1))


def fixed_shapes(opset):
    n = Net("fixed_shapes", opset, [4, 1, 6], batch=1)
    shape = n.op("Shape", "x")
    x = n.axes_op("Squeeze", n.conv("x", 4, 4, (1, 3)), [2], 13)
    x = n.op("Reshape", x, n.op("Concat", n.op("Slice", shape, n.ints(0), n.ints(1)), n.ints(16),
                                axis=0))
    return n.model(n.op("Mul", x, n.const(np.float32(-1.5))))


def qdq(opset):
    """A quantised convolution and classifier in QuantizeLinear and DequantizeLinear nodes."""
    n = Net("qdq", opset, [3, 8, 8])
    r = n.random

    def codes(*shape):
        return n.const(r.integers(-127, 128, shape).astype(np.int8))

    def round_trip(x, scale, zero):
        scale, zero = n.const(np.float32(scale)), n.const(np.uint8(zero))
        return n.op("DequantizeLinear", n.op("QuantizeLinear", x, scale, zero), scale, zero)

    def weights(out, *shape):
        scale = n.const(r.uniform(0.001, 0.005, out).astype(np.float32))
        zero = n.const(np.zeros(out, np.int8))
        return n.op("DequantizeLinear", codes(out, *shape), scale, zero, axis=0)

    x = n.op("Relu", n.op("Conv", round_trip("x", 0.03, 128), weights(6, 3, 3, 3),
                          n.weights(6, scale=0.1), pads=[1] * 4))
    x = n.op("MaxPool", round_trip(x, 0.02, 0), kernel_shape=[2, 2], strides=[2, 2])
    x = n.op("Flatten", x)
    x = n.op("Gemm", x, weights(5, 96), n.weights(5, scale=0.1), transB=1)
    return n.model(round_trip(x, 0.05, 120))


def qlinear_conv(opset):
    n = Net("qlinear_conv", opset, [8, 9, 9])
    r = n.random
    f, z = (lambda v: n.const(np.float32(v))), (lambda v: n.const(np.uint8(v)))
    q = n.op("QuantizeLinear", "x", f(0.02), z(127))
    w = n.const(r.integers(-127, 128, (12, 8, 3, 3)).astype(np.int8))
    scale = n.const(r.uniform(0.001, 0.004, 12).astype(np.float32))
    bias = n.const(r.integers(-2000, 2000, 12).astype(np.int32))
    q = n.op("QLinearConv", q, f(0.02), z(127), w, scale, n.const(np.zeros(12, np.int8)), f(0.05),
             z(110), bias, pads=[1] * 4)
    w = n.const(r.integers(-127, 128, (12, 1, 3, 3)).astype(np.int8))
    q = n.op("QLinearConv", q, f(0.05), z(110), w, f(0.003), n.const(np.int8(0)), f(0.07), z(128),
             group=12, strides=[2, 2])
    return n.model(n.op("DequantizeLinear", q, f(0.07), z(128)))


def contested(size, kernel, attributes):
    """Whether rounding up makes a window that versions of ONNX Runtime treat differently.

    Up to 1.19 it keeps windows that begin in the padding at the end, and an average that includes
    padding counts what lies beyond it. Newer versions, PyTorch and the importer do not.
    """
    rank = len(size)
    for d in range(rank):
        reach = (kernel[d] - 1) * attributes.get("dilations", [1] * rank)[d] + 1
        begin, end = attributes["pads"][d], attributes["pads"][rank + d]
        stride = attributes["strides"][d]
        last = -(-(size[d] + begin + end - reach) // stride) * stride
        overhangs = last + reach > size[d] + begin + end
        if last >= size[d] + begin or (overhangs and attributes.get("count_include_pad")):
            return True
    return False


def random_window(seed):
    """A convolution or pool with random geometry."""
    r = np.random.default_rng(seed)
    rank = int(r.integers(1, 4))
    into, groups = int(r.integers(1, 5)) * 2, int(r.choice([1, 2]))
    size = [int(v) for v in r.integers(6, 11, rank)]
    n = Net(f"window_{seed}", 19, [into, *size])
    kernel = [int(v) for v in r.integers(1, 4, rank)]
    strides = [int(v) for v in r.integers(1, 4, rank)]
    dilations = [int(v) for v in r.integers(1, 3, rank)]
    kind = r.choice(["Conv", "MaxPool", "AveragePool", "ConvTranspose"])
    attributes = {"strides": strides}
    if r.random() < 0.5:
        attributes["dilations"] = dilations
    mode = r.choice(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
    # ONNX Runtime has no SAME padding with dilations.
    if mode == "NOTSET" or "dilations" in attributes:
        attributes["pads"] = [int(r.integers(0, k)) for k in kernel * 2]
    else:
        attributes["auto_pad"] = str(mode)
    if kind == "Conv":
        x = n.op("Conv", "x", n.weights(groups * 3, into // groups, *kernel), group=groups,
                 **attributes)
    elif kind == "ConvTranspose":
        x = n.op("ConvTranspose", "x", n.weights(into, 3, *kernel), group=groups, **attributes)
    else:
        if kind == "AveragePool":
            attributes["count_include_pad"] = int(r.integers(0, 2))
        ceil = int(r.integers(0, 2))
        if ceil and "auto_pad" not in attributes and contested(size, kernel, attributes):
            ceil = 0
        x = n.op(kind, "x", kernel_shape=kernel, ceil_mode=ceil, **attributes)
    return n.model(x)


BLOCKS = [resnet_block, mobilenet_block, efficientnet_block, inception_block, preactivation,
          shape_arithmetic, channel_shuffle, upsampler, one_and_three_dimensions, padded,
          quotients, transformer_like, fixed_batch, fixed_shapes]


def all_networks(random_count=60):
    for opset in (11, 12, 13, 15, 17, 18, 19, 21):
        for block in BLOCKS:
            yield f"{block.__name__}_{opset}", block(opset)
        if opset >= 13:
            yield f"qdq_{opset}", qdq(opset)
            yield f"qlinear_conv_{opset}", qlinear_conv(opset)
    for seed in range(random_count):
        yield f"window_{seed}", random_window(seed)
