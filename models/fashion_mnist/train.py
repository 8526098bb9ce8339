#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the three small networks of the accuracy tests on Fashion-MNIST and writes them as float ONNX.

    python3 train.py vgg|resnet20|mobilenet --out DIR [--data /usr/share/datasets/fashion-mnist] [--epochs 60]

Needs PyTorch and onnx; runs on a GPU if there is one (about a minute), else on the CPU (hours).
Input of each network: N x 1 x 28 x 28, (pixel / 255 - 0.2860) / 0.3530. Output: 10 logits.
"""
import argparse
import gzip
import inspect
import json
import pathlib
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

MEAN, STD = 0.2860, 0.3530  # of the training images, pixels in 0..1


def read_idx(path):
    data = gzip.open(path).read()
    rank = data[3]
    shape = [int.from_bytes(data[4 + 4 * i:8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def conv_bn(cin, cout, kernel=3, stride=1, groups=1, act=nn.ReLU):
    layers = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(cout)]
    return nn.Sequential(*layers, *([act()] if act else []))


class Vgg(nn.Module):
    def __init__(self):
        super().__init__()
        layers, cin = [], 1
        for cout in (32, 64, 128):
            layers += [conv_bn(cin, cout), conv_bn(cout, cout), nn.MaxPool2d(2)]
            cin = cout
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(128 * 9, 256), nn.ReLU(), nn.Dropout(0.4), nn.Linear(256, 10))

    def forward(self, x):
        return self.head(torch.flatten(self.features(x), 1))


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.a, self.b = conv_bn(cin, cout, stride=stride), conv_bn(cout, cout, act=None)
        self.skip = conv_bn(cin, cout, 1, stride, act=None) if stride != 1 or cin != cout else nn.Identity()

    def forward(self, x):
        return F.relu(self.b(self.a(x)) + self.skip(x))


class ResNet20(nn.Module):
    """K. He et al., CVPR 2016, section 4.2 with n = 3 (projection shortcuts)."""

    def __init__(self):
        super().__init__()
        layers, cin = [conv_bn(1, 16)], 16
        for cout, stride in ((16, 1), (32, 2), (64, 2)):
            for i in range(3):
                layers.append(Block(cin, cout, stride if i == 0 else 1))
                cin = cout
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(torch.flatten(self.features(x), 1))


class MobileNet(nn.Module):
    """A. Howard et al., 2017: depthwise separable blocks with ReLU6, small."""

    def __init__(self):
        super().__init__()
        layers, cin = [conv_bn(1, 32, act=nn.ReLU6)], 32
        for cout, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1)):
            layers += [conv_bn(cin, cin, stride=stride, groups=cin, act=nn.ReLU6), conv_bn(cin, cout, 1, act=nn.ReLU6)]
            cin = cout
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        return self.head(torch.flatten(self.features(x), 1))


NETWORKS = {"vgg": Vgg, "resnet20": ResNet20, "mobilenet": MobileNet}


def augment(x, generator):
    """Shifts by up to two pixels and mirrors, for a whole batch on its device."""
    n = x.shape[0]
    padded = F.pad(x, (2, 2, 2, 2), value=-MEAN / STD)
    dy, dx = (torch.randint(0, 5, (n,), generator=generator, device=x.device) for _ in range(2))
    rows = (torch.arange(28, device=x.device)[None, :] + dy[:, None])[:, :, None]
    cols = (torch.arange(28, device=x.device)[None, :] + dx[:, None])[:, None, :]
    out = padded[torch.arange(n, device=x.device)[:, None, None], 0, rows, cols][:, None]
    flip = torch.rand(n, generator=generator, device=x.device) < 0.5
    return torch.where(flip[:, None, None, None], out.flip(3), out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NETWORKS)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=60000, help="training images to use (for a quick trial)")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(args.seed)

    def load(kind, count):
        x = torch.tensor(read_idx(args.data / f"{kind}-images-idx3-ubyte.gz")[:count], dtype=torch.float32)
        y = torch.tensor(read_idx(args.data / f"{kind}-labels-idx1-ubyte.gz")[:count].astype(np.int64))
        return ((x / 255 - MEAN) / STD)[:, None].to(device), y.to(device)

    x, y = load("train", args.images)
    test_x, test_y = load("t10k", 10000)
    net = NETWORKS[args.name]().to(device)
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD([{"params": decay, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}],
                                lr=args.rate, momentum=0.9, nesterov=True)
    steps = args.epochs * (len(x) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.rate, steps, pct_start=0.1)

    def top1():
        net.eval()
        with torch.no_grad():
            right = sum((net(test_x[i:i + 1000]).argmax(1) == test_y[i:i + 1000]).sum().item() for i in range(0, 10000, 1000))
        net.train()
        return right / 100

    began = time.time()
    for epoch in range(args.epochs):
        order = torch.randperm(len(x), generator=generator, device=device)
        for i in range(0, len(x) - args.batch + 1, args.batch):
            pick = order[i:i + args.batch]
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = F.cross_entropy(net(augment(x[pick], generator)), y[pick], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 10 == 9 or epoch + 1 == args.epochs:
            print(f"{args.name} epoch {epoch + 1} loss {loss.item():.3f} top-1 {top1():.2f} {time.time() - began:.0f} s", flush=True)

    net = net.eval().cpu()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{args.name}.onnx"
    torch.onnx.export(net, torch.zeros(1, 1, 28, 28), str(path), input_names=["image"], output_names=["logits"],
                      dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}}, opset_version=13,
                      **({"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}))
    net, test_x = net.to(device), test_x
    facts = {"network": args.name, "float_top1": top1(), "parameters": sum(p.numel() for p in net.parameters()),
             "mean": MEAN * 255, "std": STD * 255, "epochs": args.epochs, "batch": args.batch, "rate": args.rate,
             "seed": args.seed, "torch": torch.__version__, "data": "Fashion-MNIST (H. Xiao et al., 2017, MIT licence)"}
    (args.out / f"{args.name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
