#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes plan_ops.txt: small cases of every operator of a plan, computed by NumPy from the text of
src/trusted/model/plan.h alone.

    python3 plan_ops.py > plan_ops.txt

Each case is a block of "key = values"; real numbers are hexadecimal, so that no bit is lost.
"""
import numpy as np

F = np.float32
rng = np.random.default_rng(20)


def requantise(v, zp, lo, hi):
    assert v.dtype == np.float32
    v = np.clip(v, F(-2.0**30), F(2.0**30))
    return np.clip(np.rint(v).astype(np.int64) + zp, lo, hi)


def show(key, values):
    values = np.atleast_1d(np.asarray(values)).ravel()
    if values.dtype.kind == "f":
        text = " ".join(float(v).hex() for v in values)
    else:
        text = " ".join(str(int(v)) for v in values)
    print(f"{key} = {text}")


def tensor(shape, zp=None, scale=None):
    return {"shape": shape, "zp": int(rng.integers(0, 256)) if zp is None else zp,
            "scale": F(rng.uniform(0.01, 0.2)) if scale is None else F(scale), "i32": 0,
            "codes": rng.integers(0, 256, shape)}


def out_like(shape, zp=None, scale=None, i32=False):
    t = tensor(shape, zp, scale)
    if i32:
        t["i32"], t["zp"] = 1, 0
    return t


def emit(op, inputs, out, codes, **attributes):
    print(f"case = {op}")
    for i, t in enumerate(inputs):
        show(f"in{i}.shape", t["shape"])
        show(f"in{i}.zp", t["zp"])
        show(f"in{i}.scale", t["scale"])
        show(f"in{i}.codes", t["codes"])
    assert codes.shape == tuple(out["shape"]), (op, codes.shape, out["shape"])
    show("out.shape", out["shape"])
    show("out.zp", out["zp"])
    show("out.scale", out["scale"])
    show("out.i32", out["i32"])
    for key, value in attributes.items():
        show(key, value)
    show("out.codes", codes)
    print()


def pad_image(x, pads, value):
    top, left, bottom, right = pads
    return np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=value)


def conv(codes, weights, w, groups, padding):
    """codes and weights are integers; weights [o][kh][kw][i]; w = kernel, stride, dilation, pads."""
    (kh, kw), (sh, sw), (dh, dw), pads = w
    x = pad_image(codes.astype(object), pads, padding)
    o, _, _, gi = weights.shape
    oh = (x.shape[0] - (kh - 1) * dh - 1) // sh + 1
    ow = (x.shape[1] - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((oh, ow, o), dtype=object)
    for oc in range(o):
        base = oc // (o // groups) * gi
        for ky in range(kh):
            for kx in range(kw):
                part = x[ky * dh:ky * dh + (oh - 1) * sh + 1:sh, kx * dw:kx * dw + (ow - 1) * sw + 1:sw,
                         base:base + gi]
                y[:, :, oc] += (part * weights[oc, ky, kx].astype(object)).sum(axis=2)
    return y


def window_attributes(w, groups=1):
    (kh, kw), (sh, sw), (dh, dw), pads = w
    return [kh, kw, sh, sw, dh, dw, *pads, groups]


def linear(shape, w, out_c, groups=1, i32=False, table=False, second=None, one_multiplier=False):
    x = tensor(shape)
    (kh, kw), *_ = w
    first = rng.integers(-127, 128, (out_c, kh, kw, shape[2] // groups))
    codes = x["codes"] - 128
    y = conv(codes, first, w, groups, x["zp"] - 128)
    attributes = {"stage0": window_attributes(w, groups), "weights0": first}
    if second is not None:
        point = rng.integers(-127, 128, (second, 1, 1, out_c))
        y = conv(y, point, ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0)), 1, 0)
        attributes |= {"weights1": point}
    out = out_like(y.shape, i32=i32)
    channels = y.shape[2]
    bias = rng.integers(-20000, 20000, channels)
    acc = (y + bias).astype(np.int64)
    spread = float(np.abs(acc).max()) or 1.0
    m = (rng.uniform(0.5, 2.0, 1 if one_multiplier else channels) * (30000 if i32 else 150) / spread)
    m = m.astype(np.float32)
    v = (acc.astype(np.float32) * m).astype(np.float32)
    zp = 0 if i32 else int(rng.integers(0, 256))
    lo, hi = (-(2**30), 2**30) if i32 else sorted(rng.integers(0, 256, 2).tolist())
    t = rng.integers(0, 256, 256) if table else np.zeros(0, int)
    if not table:
        out["zp"] = zp
    q = requantise(v, zp, lo, hi)
    if table:
        q = t[q]
    emit("linear", [x], out, q, bias=bias, multiplier=m, zp=zp, lo=lo, hi=hi, table=t, **attributes)


def add(a_shape, b_shape, i32=False):
    a, b = tensor(a_shape), tensor(b_shape)
    shape = np.broadcast_shapes(a_shape, b_shape)
    out = out_like(shape, i32=i32)
    ma, mb = F(rng.uniform(0.2, 1.5)), F(rng.uniform(-1.5, 1.5))
    lo, hi = (-1000, 1000) if i32 else (int(rng.integers(0, 60)), int(rng.integers(180, 256)))
    pa = (a["codes"] - a["zp"]).astype(np.float32) * ma
    pb = (b["codes"] - b["zp"]).astype(np.float32) * mb
    emit("add", [a, b], out, requantise(pa + pb, out["zp"], lo, hi), ma=ma, mb=mb, lo=lo, hi=hi)


def mul(a_shape, b_shape):
    a, b = tensor(a_shape), tensor(b_shape)
    out = out_like(np.broadcast_shapes(a_shape, b_shape))
    m = F(rng.uniform(0.002, 0.01))
    v = ((a["codes"] - a["zp"]) * (b["codes"] - b["zp"])).astype(np.float32) * m
    emit("mul", [a, b], out, requantise(v, out["zp"], 3, 250), m=m, lo=3, hi=250)


def prelu(shape):
    a, out = tensor(shape), out_like(shape)
    pos, neg = F(rng.uniform(0.5, 2)), rng.uniform(-1, 1, shape[2]).astype(np.float32)
    d = a["codes"] - a["zp"]
    v = d.astype(np.float32) * np.where(d >= 0, pos, neg[None, None, :])
    emit("prelu", [a], out, requantise(v.astype(np.float32), out["zp"], 0, 255), positive=pos, negative=neg, lo=0, hi=255)


def taps(o, k, s, d, before, after, n):
    at = [o * s + i * d - before for i in range(k)]
    return [i for i in at if 0 <= i < n], len([i for i in at if -before <= i < n + after])


def pool(shape, w, average, count_padding=False, i32=False):
    (kh, kw), (sh, sw), (dh, dw), (top, left, bottom, right) = w
    a = tensor(shape)
    oh = (shape[0] + top + bottom - (kh - 1) * dh - 1) // sh + 1
    ow = (shape[1] + left + right - (kw - 1) * dw - 1) // sw + 1
    out = out_like((oh, ow, shape[2]), i32=i32)
    m = F(rng.uniform(0.5, 3))
    lo, hi = (-5000, 5000) if i32 else (0, 255)
    q = np.zeros((oh, ow, shape[2]), np.int64)
    for y in range(oh):
        rows, all_rows = taps(y, kh, sh, dh, top, bottom, shape[0])
        for x in range(ow):
            cols, all_cols = taps(x, kw, sw, dw, left, right, shape[1])
            part = a["codes"][np.ix_(rows, cols)]
            if average:
                n = all_rows * all_cols if count_padding else len(rows) * len(cols)
                total = (part - a["zp"]).sum(axis=(0, 1)).astype(np.float32)
                q[y, x] = requantise(total * (m / F(n)), out["zp"], lo, hi)
            else:
                q[y, x] = part.max(axis=(0, 1))
    if average:
        emit("average", [a], out, q, window=window_attributes(w), m=m, count=int(count_padding), lo=lo, hi=hi)
    else:
        out["zp"], out["scale"] = a["zp"], a["scale"]
        emit("max", [a], out, q, window=window_attributes(w))


def concat(shapes, axis):
    parts = [tensor(s) for s in shapes]
    shape = list(shapes[0])
    shape[axis] = sum(s[axis] for s in shapes)
    out = out_like(tuple(shape))
    m = rng.uniform(0.3, 1.6, len(parts)).astype(np.float32)
    q = [requantise((p["codes"] - p["zp"]).astype(np.float32) * k, out["zp"], 0, 255) for p, k in zip(parts, m)]
    emit("concat", parts, out, np.concatenate(q, axis=axis), axis=axis, multiplier=m)


def moves():
    a = tensor((4, 5, 3))
    same = dict(zp=a["zp"], scale=a["scale"])
    q = np.pad(a["codes"], ((1, 0), (2, 3), (0, 1)), constant_values=77)
    emit("pad", [a], out_like(q.shape, **same), q, before=[1, 2, 0], after=[0, 3, 1], code=77)
    q = a["codes"][1::2, 0:5:3, 1:3]
    emit("slice", [a], out_like(q.shape, **same), q, begin=[1, 0, 1], step=[2, 3, 1])
    for perm in ((2, 0, 1), (1, 2, 0), (0, 2, 1)):
        q = a["codes"].transpose(perm)
        emit("transpose", [a], out_like(q.shape, **same), q, perm=perm)
    q = a["codes"].reshape(2, 3, 10)
    emit("reshape", [a], out_like(q.shape, **same), q)
    t = rng.integers(0, 256, 256)
    emit("table", [a], out_like(a["shape"]), t[a["codes"]], table=t)
    emit("constant", [], out_like(a["shape"]), a["codes"], values=a["codes"])


def softmax(shape, scale):
    a = tensor(shape, scale=scale)
    table = np.rint(2.0**24 * np.exp(-np.float64(a["scale"]) * np.arange(256))).astype(np.int64)
    e = table[a["codes"].max(axis=2, keepdims=True) - a["codes"]]
    q = np.minimum(255, np.rint(e.astype(np.float64) * 256.0 / e.sum(axis=2, keepdims=True).astype(np.float64)))
    emit("softmax", [a], out_like(shape, zp=0, scale=1 / 256), q.astype(np.int64), table=table)


def lrn(shape, size, quarters):
    a, out = tensor(shape), out_like(shape)
    alpha, bias, m = F(rng.uniform(1e-5, 1e-3)), F(rng.uniform(0.5, 2)), F(rng.uniform(0.5, 2))
    d = a["codes"] - a["zp"]
    half = (size - 1) // 2
    squares = np.stack([(d[:, :, max(0, c - half):c + half + 1]**2).sum(axis=2) for c in range(shape[2])], axis=2)
    t = bias + squares.astype(np.float32) * alpha
    root = np.sqrt(t)
    n = {2: root, 3: root * np.sqrt(root), 4: t}[quarters]
    emit("lrn", [a], out, requantise((d.astype(np.float32) / n) * m, out["zp"], 0, 255),
         size=size, quarters=quarters, alpha=alpha, bias=bias, m=m, lo=0, hi=255)


plain = ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0))
linear((1, 1, 40), plain, 7)
linear((1, 1, 40), plain, 7, i32=True)
linear((3, 4, 6), plain, 5, one_multiplier=True)
linear((6, 7, 3), ((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), 8)
linear((6, 7, 4), ((3, 2), (2, 1), (1, 1), (0, 1, 2, 0)), 5, table=True)
linear((9, 9, 2), ((3, 3), (1, 2), (2, 2), (2, 2, 1, 2)), 3)
linear((5, 5, 6), ((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)), 4, groups=2)
linear((6, 6, 5), ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)), 5, groups=5)
linear((6, 6, 5), ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)), 10, groups=5)
linear((6, 6, 5), ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)), 5, groups=5, second=7)
linear((4, 6, 3), ((5, 1), (1, 1), (1, 1), (2, 0, 2, 0)), 3, groups=3, second=2, i32=True)
add((3, 4, 5), (3, 4, 5))
add((3, 4, 5), (1, 1, 5))
add((1, 4, 1), (3, 4, 5), i32=True)
mul((3, 4, 5), (1, 1, 5))
mul((3, 4, 1), (3, 1, 5))
prelu((3, 3, 4))
pool((7, 6, 3), ((3, 3), (2, 2), (1, 1), (1, 0, 1, 2)), False)
pool((7, 6, 3), ((2, 2), (1, 1), (2, 3), (1, 1, 0, 1)), False)
pool((7, 6, 3), ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)), True)
pool((7, 6, 3), ((3, 3), (2, 2), (1, 1), (1, 1, 2, 1)), True, count_padding=True)
pool((7, 6, 3), ((7, 6), (1, 1), (1, 1), (0, 0, 0, 0)), True, i32=True)
concat([(2, 3, 4), (2, 3, 1), (2, 3, 2)], 2)
concat([(2, 3, 4), (1, 3, 4)], 0)
concat([(2, 3, 4), (2, 5, 4)], 1)
moves()
softmax((2, 3, 6), 0.02)
softmax((1, 1, 40), 0.2)
for quarters in (2, 3, 4):
    lrn((2, 2, 7), 3 if quarters == 2 else 5, quarters)
