#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes pad_stream.txt: vectors for src/trusted/field/pad_stream.h, made with the Python package
`cryptography` from the text of that header alone.

    python3 tests/vectors/pad_stream.py > tests/vectors/pad_stream.txt
"""

import hashlib
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

FIELDS = {"p24": ((1 << 24) - 3, 3), "p31": ((1 << 31) - 1, 4)}


def candidates(key, stream, first, count, field):
    _, width = FIELDS[field]
    start = first * width
    block, skip = divmod(start, 16)
    counter = struct.pack(">QQ", stream, block)
    cipher = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    raw = cipher.update(bytes(skip + count * width))[skip:]
    words = (int.from_bytes(raw[i : i + width], "little") for i in range(0, len(raw), width))
    return [w & 0x7FFFFFFF for w in words] if field == "p31" else list(words)


def pad(key, first, count, field):
    p, _ = FIELDS[field]
    out = candidates(key, 0, first, count, field)
    for i, word in enumerate(out):
        stream = 0
        while word >= p:
            stream += 1
            word = candidates(key, stream, first + i, 1, field)[0]
        out[i] = word
    return out


def seed(text):
    return hashlib.sha256(text.encode()).digest()


def key_with_rejection(limit):
    """A key whose p24 pad rejects a candidate among its first `limit` words."""
    n = 0
    while True:
        key = seed(f"search {n}")
        words = candidates(key, 0, 0, limit, "p24")
        at = next((i for i, w in enumerate(words) if w >= FIELDS["p24"][0]), None)
        if at is not None:
            return key, at
        n += 1


def show(name, value):
    if isinstance(value, bytes):
        value = value.hex()
    elif isinstance(value, list):
        value = " ".join(str(v) for v in value)
    print(f"{name} = {value}")


def stream_case(key, field, first, count):
    print()
    show("Kind", "stream")
    show("Key", key)
    show("Field", field)
    show("First", first)
    show("Words", pad(key, first, count, field))


def address_case(epoch_key, mode, model, epoch, inference, tensor):
    info = b"slalom pad stream 1" + struct.pack("<B", mode) + model
    info += struct.pack("<QQI", epoch, inference, tensor)
    print()
    show("Kind", "key")
    show("EpochKey", epoch_key)
    show("Mode", mode)
    show("Model", model)
    show("Epoch", epoch)
    show("Inference", inference)
    show("Tensor", tensor)
    show("StreamKey", HKDFExpand(hashes.SHA256(), 32, info).derive(epoch_key))


def main():
    print("# Made by tests/vectors/pad_stream.py. Do not edit.")
    for field in FIELDS:
        key = seed(f"stream {field}")
        for first, count in ((0, 16), (1, 5), (127, 3), (1000, 20), (12345678901, 9)):
            stream_case(key, field, first, count)
    key, at = key_with_rejection(2000)
    stream_case(key, "p24", max(0, at - 2), 5)
    stream_case(key, "p24", at, 1)
    model = seed("model")
    address_case(seed("epoch key"), 1, model, 0, 0, 0)
    address_case(seed("epoch key"), 2, model, 1, 2, 3)
    address_case(seed("epoch key"), 1, model, 2**64 - 1, 2**64 - 2, 2**32 - 1)
    address_case(seed("another"), 1, seed("another model"), 7, 1 << 33, 12)


if __name__ == "__main__":
    main()
