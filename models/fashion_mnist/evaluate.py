#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Top-1 of float ONNX files on the 10,000 Fashion-MNIST test images, by ONNX Runtime.

    python3 evaluate.py vgg.onnx resnet20.onnx mobilenet.onnx [--data /usr/share/datasets/fashion-mnist]
"""
import argparse
import gzip
import pathlib

import numpy as np
import onnxruntime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    args = parser.parse_args()
    images = np.frombuffer(gzip.open(args.data / "t10k-images-idx3-ubyte.gz").read(), np.uint8, offset=16)
    labels = np.frombuffer(gzip.open(args.data / "t10k-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    x = ((images.reshape(-1, 1, 28, 28).astype(np.float32) / 255 - 0.2860) / 0.3530).astype(np.float32)
    for path in args.models:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        right = sum(int((session.run(None, {"image": x[i:i + 500]})[0].argmax(1) == labels[i:i + 500]).sum())
                    for i in range(0, len(x), 500))
        print(f"{pathlib.Path(path).name}: top-1 {100 * right / len(x):.2f} of {len(x)} images")


if __name__ == "__main__":
    main()
