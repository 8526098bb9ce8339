# SPDX-License-Identifier: Apache-2.0
"""Compares the float interpreter, before and after folding, with ONNX Runtime.

    ort_test.py RUN_NETWORK [MODEL.onnx...]

Runs the networks of networks.py, and the files given (those that exist), on seeded inputs of three
images. Exit code 77 ("skipped" for ctest) if ONNX Runtime is not installed.
"""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
try:
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import numpy_helper
    import networks
except ImportError as error:
    print(f"skipped: {error}; run tools/install.sh --venv")
    sys.exit(77)

IMAGES = 3
# Relative to the largest element of an output: both sides sum in float32 in different orders.
FLOAT_BOUND = 2e-5
# Outputs that were quantised may fall on the other side of a tie: at most one step, and rarely.
QUANTISED_STEPS = 0.01


def ort_outputs(model, x, fixed):
    options = onnxruntime.SessionOptions()
    # No rewriting: the network as it is written is the reference.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    if not fixed:
        return session.run(None, {name: x})
    parts = [session.run(None, {name: x[i : i + 1]}) for i in range(len(x))]
    return [np.concatenate(outputs) for outputs in zip(*parts)]


def our_outputs(program, mode, path, x, folder, count):
    with open(f"{folder}/input_0.pb", "wb") as file:
        file.write(numpy_helper.from_array(x, "x").SerializeToString())
    done = subprocess.run([program, mode, path, f"{folder}/input_0.pb"], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        return done.stderr.strip()
    outputs = []
    for i in range(count):
        tensor = onnx.TensorProto()
        with open(f"{folder}/output_{i}.pb", "rb") as file:
            tensor.ParseFromString(file.read())
        outputs.append(numpy_helper.to_array(tensor))
    return outputs


def disagreement(name, found, expected):
    """What is wrong, or None."""
    if isinstance(found, str):
        return found
    for i, (a, b) in enumerate(zip(found, expected)):
        if a.shape != b.shape:
            return f"output {i} has the shape {a.shape}, not {b.shape}"
        error = np.abs(a.astype(np.float64) - b)
        largest = max(np.abs(b).max(), 1e-3)
        if name.startswith(("qdq", "qlinear")):
            wrong = error > 1e-6 * largest
            step = 0.0701  # the largest output scale in networks.py
            if error.max() > step or wrong.mean() > QUANTISED_STEPS:
                return f"output {i}: {wrong.mean():.2%} of the codes differ, by up to {error.max()}"
        elif error.max() > FLOAT_BOUND * largest:
            return f"output {i} differs by {error.max():.3g}, the largest element is {largest:.3g}"
    return None


def check(program, name, path, folder):
    model = onnx.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [dim.dim_value for dim in dims]
    fixed = shape[0] > 0
    seed = sum(map(ord, name))
    x = np.random.default_rng(seed).standard_normal([IMAGES, *shape[1:]]).astype(np.float32)
    expected = ort_outputs(path, x, fixed)
    problems = []
    for mode in ("raw", "folded"):
        if mode == "raw" and fixed:
            continue  # the file takes one image only; folding lifts that
        found = our_outputs(program, mode, path, x, folder, len(expected))
        problem = disagreement(name, found, expected)
        if problem:
            problems.append(f"{name} ({mode}): {problem}")
    return problems


def main():
    program, files = sys.argv[1], sys.argv[2:]
    failed, total = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name, model in networks.all_networks():
            path = f"{folder}/{name}.onnx"
            onnx.save(model, path)
            failed += check(program, name, path, folder)
            total += 1
        for path in files:
            if os.path.exists(path):
                failed += check(program, os.path.basename(path), path, folder)
                total += 1
    print("\n".join(failed))
    print(f"{total - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or total < 150 else 0


if __name__ == "__main__":
    sys.exit(main())
