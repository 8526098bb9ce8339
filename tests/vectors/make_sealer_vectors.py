#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes sealer.txt: sealed chunks made by an implementation that is not ours (PyPI: cryptography)."""
import pathlib
import random
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

rng = random.Random(20261122)
lines = ["# made by make_sealer_vectors.py"]
for size in (1, 15, 16, 48, 1000):
    epoch_key, digest, plain = rng.randbytes(32), rng.randbytes(32), rng.randbytes(size)
    mode, epoch, inference, node, chunk = 1, rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(32), rng.getrandbits(16)
    address = struct.pack("<B32sQQI", mode, digest, epoch, inference, node)
    key = HKDFExpand(SHA256(), 32, b"slalom unblinding factors v1" + address).derive(epoch_key)
    sealed = AESGCM(key).encrypt(struct.pack("<I8x", chunk), plain, address + struct.pack("<I", chunk))
    lines += ["", f"epoch_key = {epoch_key.hex()}", f"model = {digest.hex()}", f"epoch = {epoch}",
              f"inference = {inference}", f"node = {node}", f"chunk = {chunk}", f"plain = {plain.hex()}",
              f"sealed = {sealed[:-16].hex()}", f"tag = {sealed[-16:].hex()}"]
pathlib.Path(__file__).with_name("sealer.txt").write_text("\n".join(lines) + "\n")
