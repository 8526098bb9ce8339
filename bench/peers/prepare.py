#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes what the peers of one network need, once: prepare.py NETWORK FOLDER [--without-onnx]

FOLDER/NETWORK.pt (weights), .npz (inputs and the float logits that belong to them), .fp32.onnx, and
.u8s8.onnx / .s8s8.onnx: quantised by ONNX Runtime's quantize_static in the QDQ form, int8 weights per
channel, activations unsigned or signed. Files that are there are kept.
"""
import argparse
import os
import pathlib
import warnings

import numpy as np
import torch

import networks

CALIBRATION = 4


def export(net, name, path):
    """One ONNX file with a free batch dimension, weights inside."""
    sample = networks.pictures(name, 2)
    partial = path.with_suffix(".partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (sample,), str(partial), dynamo=False, opset_version=17,
                          input_names=["input"], output_names=["logits"],
                          dynamic_axes={"input": {0: "n"}, "logits": {0: "n"}})
    os.replace(partial, path)


def quantise(source, path, name, signed):
    from onnxruntime.quantization import (CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType,
                                          quantize_static)

    class Pictures(CalibrationDataReader):
        def __init__(self):
            images = networks.pictures(name, CALIBRATION, seed=1).numpy()
            self.batches = iter([{"input": images[i:i + 1]} for i in range(CALIBRATION)])

        def get_next(self):
            return next(self.batches, None)

    partial = path.with_suffix(".partial")
    quantize_static(str(source), str(partial), Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
                    weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax)
    os.replace(partial, path)


def prepare(name, folder, onnx=True):
    folder.mkdir(parents=True, exist_ok=True)
    weights, data = folder / f"{name}.pt", folder / f"{name}.npz"
    if not data.exists():
        net = networks.build(name)
        torch.save(net.state_dict(), weights.with_suffix(".partial"))
        os.replace(weights.with_suffix(".partial"), weights)
        images = networks.pictures(name, CALIBRATION, seed=1)
        with torch.no_grad():
            logits = net(images)
        with open(data.with_suffix(".partial"), "wb") as out:
            np.savez(out, images=images.numpy(), logits=logits.numpy())
        os.replace(data.with_suffix(".partial"), data)
    if not onnx:
        return
    net = networks.skeleton(name)
    net.load_state_dict(torch.load(weights))
    exported = folder / f"{name}.fp32.onnx"
    if not exported.exists():
        export(net, name, exported)
    for kind in ("u8s8", "s8s8"):
        path = folder / f"{name}.{kind}.onnx"
        if not path.exists():
            quantise(exported, path, name, kind == "s8s8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=networks.NAMES)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--without-onnx", action="store_true")
    options = parser.parse_args()
    prepare(options.network, options.folder, onnx=not options.without_onnx)
