# SPDX-License-Identifier: Apache-2.0
"""The networks of `slalom model` (src/importer/zoo) in PyTorch: the same layers, strides, padding and
classifiers, batch normalisation already folded into convolutions with a bias, seeded synthetic weights.

What the last layer gives are logits. Nothing is downloaded.
"""
import torch
from torch import nn

NAMES = ("vgg16", "resnet18", "resnet50", "resnet101", "resnet152", "mobilenet", "mobilenet_sep",
         "inception_v3")


def input_size(name):
    return 299 if name == "inception_v3" else 224


def conv(i, o, kernel, stride=1, padding=0, groups=1):
    return nn.Conv2d(i, o, kernel, stride, padding, groups=groups)


def unit(i, o, kernel, stride=1, padding=0):
    return nn.Sequential(conv(i, o, kernel, stride, padding), nn.ReLU())


def classifier(channels):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)]


def vgg16():
    layers, channels = [], 3
    for count, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [conv(channels, width, 3, 1, 1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(25088, 4096), nn.ReLU(), nn.Linear(4096, 4096),
                         nn.ReLU(), nn.Linear(4096, 1000))


def mobilenet(separable=False):
    layers, channels = [conv(3, 32, 3, 2, 1), nn.ReLU6()], 32
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
                          (1024, 2), (1024, 1)):
        layers.append(conv(channels, channels, 3, stride, 1, groups=channels))
        if not separable:
            layers.append(nn.ReLU6())
        layers += [conv(channels, width, 1), nn.ReLU6()]
        channels = width
    return nn.Sequential(*layers, *classifier(channels))


class Residual(nn.Module):
    """A basic block, or a bottleneck with the stride in its first convolution (He et al. 2015)."""

    def __init__(self, i, width, stride, bottleneck):
        super().__init__()
        o = 4 * width if bottleneck else width
        if bottleneck:
            self.body = nn.Sequential(*unit(i, width, 1, stride), *unit(width, width, 3, 1, 1),
                                      conv(width, o, 1))
        else:
            self.body = nn.Sequential(*unit(i, width, 3, stride, 1), conv(width, width, 3, 1, 1))
        self.shortcut = conv(i, o, 1, stride) if stride != 1 or i != o else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.body(x) + self.shortcut(x))


def resnet(depth):
    blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    bottleneck = depth >= 50
    layers, channels, width = [*unit(3, 64, 7, 2, 3), nn.MaxPool2d(3, 2, 1)], 64, 64
    for stage, count in enumerate(blocks):
        for i in range(count):
            layers.append(Residual(channels, width, 2 if stage and not i else 1, bottleneck))
            channels = 4 * width if bottleneck else width
        width *= 2
    return nn.Sequential(*layers, *classifier(channels))


class Branches(nn.Module):
    """Runs its parts on one input and joins their channels; a part may itself be Branches."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        return torch.cat([part(x) for part in self.parts], 1)


def inception_v3():
    def row(i, o, k):
        return unit(i, o, (1, k), 1, (0, k // 2))

    def column(i, o, k):
        return unit(i, o, (k, 1), 1, (k // 2, 0))

    def pooled(i, o):
        return nn.Sequential(nn.AvgPool2d(3, 1, 1), *unit(i, o, 1))

    def wide(i, pool):  # 35x35, figure 5
        return Branches(unit(i, 64, 1), nn.Sequential(*unit(i, 48, 1), *unit(48, 64, 5, 1, 2)),
                        nn.Sequential(*unit(i, 64, 1), *unit(64, 96, 3, 1, 1), *unit(96, 96, 3, 1, 1)),
                        pooled(i, pool))

    def factored(n):  # 17x17, figure 6
        return Branches(unit(768, 192, 1),
                        nn.Sequential(*unit(768, n, 1), *row(n, n, 7), *column(n, 192, 7)),
                        nn.Sequential(*unit(768, n, 1), *column(n, n, 7), *row(n, n, 7),
                                      *column(n, n, 7), *row(n, 192, 7)),
                        pooled(768, 192))

    def expanded(i):  # 8x8, figure 7
        return Branches(unit(i, 320, 1),
                        nn.Sequential(*unit(i, 384, 1), Branches(row(384, 384, 3), column(384, 384, 3))),
                        nn.Sequential(*unit(i, 448, 1), *unit(448, 384, 3, 1, 1),
                                      Branches(row(384, 384, 3), column(384, 384, 3))),
                        pooled(i, 192))

    to_17 = Branches(unit(288, 384, 3, 2),
                     nn.Sequential(*unit(288, 64, 1), *unit(64, 96, 3, 1, 1), *unit(96, 96, 3, 2)),
                     nn.MaxPool2d(3, 2))
    to_8 = Branches(nn.Sequential(*unit(768, 192, 1), *unit(192, 320, 3, 2)),
                    nn.Sequential(*unit(768, 192, 1), *row(192, 192, 7), *column(192, 192, 7),
                                  *unit(192, 192, 3, 2)),
                    nn.MaxPool2d(3, 2))
    return nn.Sequential(
        *unit(3, 32, 3, 2), *unit(32, 32, 3), *unit(32, 64, 3, 1, 1), nn.MaxPool2d(3, 2),
        *unit(64, 80, 1), *unit(80, 192, 3), nn.MaxPool2d(3, 2),
        wide(192, 32), wide(256, 64), wide(288, 64), to_17,
        factored(128), factored(160), factored(160), factored(192), to_8,
        expanded(1280), expanded(2048), *classifier(2048))


def skeleton(name):
    """The network with whatever weights PyTorch gives it."""
    if name not in NAMES:
        raise ValueError(f"there is no network '{name}'; there are {', '.join(NAMES)}")
    if name.startswith("resnet"):
        return resnet(int(name[6:])).eval()
    if name.startswith("mobilenet"):
        return mobilenet(name == "mobilenet_sep").eval()
    return {"vgg16": vgg16, "inception_v3": inception_v3}[name]().eval()


def pictures(name, count, seed=0):
    """Seeded smooth shapes and noise, values about -2..2, NCHW."""
    random = torch.Generator().manual_seed(seed)
    size = input_size(name)
    coarse = torch.randn(count, 3, 8, 8, generator=random)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return smooth + 0.3 * torch.randn(count, 3, size, size, generator=random)


def normalise(net, sample, random):
    """Rescales layer after layer so that every channel has a mean near 0 and a deviation near 1, with
    the variety that trained batch normalisation has: nothing saturates, nothing dies."""

    def rescale(layer, _, out):
        axes = [0, 2, 3] if out.dim() == 4 else [0, 1]
        few = out.dim() == 2 or out.shape[0] * out.shape[2] * out.shape[3] < 32
        whole = list(range(out.dim()))
        deviation, mean = torch.std_mean(out, whole if few else axes)
        channels = layer.weight.shape[0]
        factor = (0.75 + 0.5 * torch.rand(channels, generator=random)) / deviation.clamp(min=1e-6)
        shift = 0.25 * torch.randn(channels, generator=random) - mean * factor
        layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.mul_(factor).add_(shift)
        shape = (1, -1, *[1] * (out.dim() - 2))
        return out * factor.view(shape) + shift.view(shape)

    hooks = [m.register_forward_hook(rescale) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    net(sample)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def build(name, seed=0):
    """The network with its seeded weights (He et al. 2015, then normalise)."""
    net = skeleton(name)
    random = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            fan_in = m.weight[0].numel()
            m.weight.copy_(torch.randn(m.weight.shape, generator=random) * (2 / fan_in) ** 0.5)
            m.bias.zero_()
    normalise(net, pictures(name, 2, seed), random)
    return net
