#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/cli/vectors/ with Pillow and NumPy: pictures in many encodings, and what Pillow makes
of them. Run with the versions of tools/requirements.txt: .venv/bin/python tests/cli/make_vectors.py
"""
import pathlib

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent / "vectors"
HERE.mkdir(exist_ok=True)
FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def picture(height, width, seed):
    """Smooth gradients, hard edges and noise: all that a resize can get wrong."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    out = np.stack([255 * x / width, 255 * y / height, 128 + 127 * np.sin(x * y / 90)], axis=2)
    out[height // 4 : height // 2, width // 3 : width // 2] = [250, 5, 0]
    out[(x + y) % 11 == 0] = 255
    out += rng.normal(0, 12, out.shape)
    return Image.fromarray(out.clip(0, 255).astype(np.uint8), "RGB")


def write_pictures():
    base = picture(53, 71, 1)
    base.save(HERE / "rgb.png")
    base.convert("L").save(HERE / "grey.png")
    base.convert("P").save(HERE / "palette.png")
    base.convert("1").save(HERE / "bits.png")
    alpha = base.copy()
    alpha.putalpha(base.convert("L"))
    alpha.save(HERE / "rgba.png")
    base.save(HERE / "rgb.jpg", quality=90)
    base.save(HERE / "progressive.jpg", quality=70, progressive=True)
    base.convert("L").save(HERE / "grey.jpg", quality=90)
    base.convert("CMYK").save(HERE / "cmyk.jpg", quality=95)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        base.resize((9, 7)).save(HERE / f"turned{orientation}.jpg", quality=95, exif=exif)
    data = (HERE / "rgb.jpg").read_bytes()
    (HERE / "cut.jpg").write_bytes(data[: len(data) * 2 // 3])
    data = (HERE / "rgb.png").read_bytes()
    (HERE / "cut.png").write_bytes(data[: len(data) // 2])
    (HERE / "text.jpg").write_text("this is no picture\n")


def decoded():
    """Every readable picture as Pillow sees it, upright."""
    out = {}
    for file in sorted(HERE.iterdir()):
        if file.suffix in (".png", ".jpg") and file.stem not in ("cut", "text"):
            with Image.open(file) as image:
                out[file.name] = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return out


def resized():
    """rgb.png at sizes that shrink, grow and do both, by every filter."""
    base = Image.open(HERE / "rgb.png")
    out = {}
    for name, resample in FILTERS.items():
        for height, width in [(17, 23), (53, 20), (97, 130), (20, 130), (1, 1), (53, 71), (5, 71)]:
            out[f"{name}_{height}x{width}"] = np.asarray(base.resize((width, height), resample))
    return out


def centre_crop(image, height, width):
    top = int(round((image.height - height) / 2.0))
    left = int(round((image.width - width) / 2.0))
    return image.crop((left, top, left + width, top + height))


def codes():
    """rgb.png through a whole preparation: resize, crop, normalise, quantise, in binary32."""
    base = Image.open(HERE / "rgb.png")
    shorter = 40
    scaled = base.resize((int(shorter * base.width / base.height), shorter), Image.BICUBIC)
    pixels = np.asarray(centre_crop(scaled, 32, 37)).astype(np.float32)
    mean = np.array([123.675, 116.28, 103.53], np.float32)
    std = np.array([58.395, 57.12, 57.375], np.float32)
    real = (pixels - mean) / std
    scale = np.float32(4.7 / 255)
    quantised = np.clip(np.rint(real / scale).astype(np.int64) + 114, 0, 255).astype(np.uint8)
    grey = np.asarray(base.convert("L").resize((28, 28), Image.BILINEAR)).astype(np.float32)
    bgr = (pixels[:, :, ::-1] - np.array([104, 117, 124], np.float32)) / np.float32(1)
    return {
        "rgb_real": real, "rgb_codes": quantised, "bgr_real": bgr,
        "grey_real": (grey[:, :, None] - np.float32(127.5)) / np.float32(127.5),
    }


def arrays():
    """The element types, orders and versions of .npy, and an .npz of them."""
    rng = np.random.default_rng(2)
    cube = rng.normal(0, 1, (2, 3, 4))
    all_arrays = {
        "f8": cube, "f4": cube.astype(np.float32), "f2": cube.astype(np.float16),
        "u1": rng.integers(0, 256, (2, 3, 4)).astype(np.uint8), "scalar": np.float32(1.5),
        "vector": np.arange(5, dtype=np.float32), "fortran": np.asfortranarray(cube.astype(np.float32)),
    }
    for name, array in all_arrays.items():
        np.save(HERE / f"{name}.npy", array)
    np.save(HERE / "i8.npy", np.arange(4))
    with open(HERE / "version2.npy", "wb") as out:
        np.lib.format.write_array(out, all_arrays["f4"], version=(2, 0))
    np.savez(HERE / "stored.npz", **all_arrays)
    np.savez_compressed(HERE / "deflated.npz", **all_arrays)


write_pictures()
np.savez_compressed(HERE / "decoded.npz", **decoded())
np.savez_compressed(HERE / "resized.npz", **resized())
np.savez_compressed(HERE / "codes.npz", **codes())
arrays()
