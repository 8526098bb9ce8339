# SPDX-License-Identifier: Apache-2.0
"""Compares quantised plans with ONNX Runtime.

    quantise_ort_test.py QUANTISE_NETWORK FLOAT.onnx...

- The networks of networks.py and the files given are quantised by us and compared with their float
  outputs: a signal-to-noise ratio.
- The files are also quantised by ONNX Runtime's own tool, as QDQ and as QLinear operators, imported,
  and compared with what ONNX Runtime makes of them. QDQ networks run there as the standard defines
  the operators (no graph optimisation: the fused integer operators round residual additions in their
  own way). Its sums are binary32 and ours are exact, so a code very near a tie may fall on the other
  side, and what follows in that image with it. Therefore images are counted: most must have the same
  codes, and all but one in a hundred the same best class.
Exit code 77 ("skipped" for ctest) if ONNX Runtime is not installed.
"""

import logging
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
    from onnxruntime import quantization as ortq
    import networks

    logging.disable(logging.WARNING)
except ImportError as error:
    print(f"skipped: {error}; run tools/install.sh --venv")
    sys.exit(77)

IMAGES = 6
CODE_IMAGES = 100
LEAST_SAME_IMAGES = 0.6  # measured: 0.79 to 0.96
# What a plan cannot express, by the words of the refusal.
REFUSED = {
    "upsampler": "stride = kernel",
    "one_and_three_dimensions": "only one and two spatial dimensions",
    "transformer_like": "constant second matrix",
}
LEAST_SNR_DB = 22.0


def ort_outputs(path, x, fixed, optimise):
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    step = 1 if fixed else len(x)
    parts = [session.run(None, {name: x[i : i + step]}) for i in range(0, len(x), step)]
    return [np.concatenate(outputs) for outputs in zip(*parts)]


def our_outputs(program, path, x, folder, count):
    with open(f"{folder}/input_0.pb", "wb") as file:
        file.write(numpy_helper.from_array(x, "x").SerializeToString())
    done = subprocess.run([program, path, f"{folder}/input_0.pb"], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        return done.stderr.strip() or f"exit code {done.returncode}", []
    outputs = []
    for i in range(count):
        tensor = onnx.TensorProto()
        with open(f"{folder}/output_{i}.pb", "rb") as file:
            tensor.ParseFromString(file.read())
        outputs.append(numpy_helper.to_array(tensor).astype(np.float64))
    return outputs, done.stdout.split()


def finish(values, function):
    """Applies the function that the plan left out."""
    if function == "none":
        return values
    e = np.exp(values - values.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e if function == "softmax" else np.log(e)


def inputs_of(path, count=IMAGES):
    """Draws inputs that depend on the file's name alone, so that a run can be repeated anywhere."""
    name = os.path.basename(path)
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    shape = [dim.dim_value for dim in dims]
    random = np.random.default_rng(sum(map(ord, name)))
    x = random.standard_normal([count, *shape[1:]]).astype(np.float32)
    return x, shape[0] > 0


def check_float(program, name, path, folder):
    x, fixed = inputs_of(path)
    expected = ort_outputs(path, x, fixed, optimise=False)
    found, functions = our_outputs(program, path, x, folder, len(expected))
    refusal = next((text for key, text in REFUSED.items() if name.startswith(key)), None)
    if isinstance(found, str):
        window = name.startswith("window") and ("spatial" in found or "stride = kernel" in found)
        return None if window or (refusal and refusal in found) else found
    if refusal:
        return "should have been refused"
    if name.startswith("q"):
        return None  # quantised by hand: compared with its codes by ort_test.py and below
    for a, b, function in zip(found, expected, functions):
        a = finish(a, function)
        if a.shape != b.shape:
            return f"the shape {a.shape}, not {b.shape}"
        snr = 10 * np.log10((b.astype(float) ** 2).sum() / max(((a - b) ** 2).sum(), 1e-30))
        if snr < LEAST_SNR_DB:
            return f"a signal-to-noise ratio of {snr:.1f} dB"
    return None


class Reader(ortq.CalibrationDataReader):
    def __init__(self, name, x):
        self.feed = iter([{name: x[i : i + 1]} for i in range(len(x))])

    def get_next(self):
        return next(self.feed, None)


def quantised_by_ort(path, x, folder, form, signed):
    target = f"{folder}/quantised.onnx"
    activation = ortq.QuantType.QInt8 if signed else ortq.QuantType.QUInt8
    ortq.quantize_static(path, target, Reader("x" if "x" in str(inputs(path)) else inputs(path)[0], x),
                         quant_format=form, per_channel=True, activation_type=activation,
                         weight_type=ortq.QuantType.QInt8,
                         op_types_to_quantize=["Conv", "Relu", "MaxPool", "Clip"] if
                         form == ortq.QuantFormat.QOperator else None,
                         extra_options={"ActivationSymmetric": False, "WeightSymmetric": True})
    return target


def inputs(path):
    return [value.name for value in onnx.load(path).graph.input]


def last_step(path):
    """The scale with which the outputs were quantised, or None if they are float."""
    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    node = makers[graph.output[0].name]
    return float(constants[node.input[1]]) if node.op_type == "DequantizeLinear" else None


def check_codes(program, name, path, x, folder):
    """Compares an already quantised network with ONNX Runtime's integers."""
    expected = ort_outputs(path, x, False, optimise=False)[0].astype(np.float64)
    found, functions = our_outputs(program, path, x, folder, 1)
    if isinstance(found, str):
        return found
    a, b = finish(found[0], functions[0]), finish(expected, "none")
    step = last_step(path)
    if step is None:
        snr = 10 * np.log10((b**2).sum() / max(((a - b) ** 2).sum(), 1e-30))
        return None if snr > 25 else f"float outputs of {snr:.1f} dB"
    steps = np.rint(np.abs(a - b) / step)
    same = np.mean(steps.max(axis=1) == 0)
    # Equal scores may be listed in either order.
    best = np.mean(a[np.arange(len(a)), b.argmax(axis=1)] == a.max(axis=1))
    text = (f"{same:.0%} of {len(a)} images with the same codes, {np.mean(steps > 0):.2%} of the codes "
            f"differ, by at most {steps.max():.0f}; {best:.0%} with the same best class")
    print(f"  {name}: {text}")
    return None if same >= LEAST_SAME_IMAGES and best >= 0.99 else text


def main():
    program, files = sys.argv[1], [path for path in sys.argv[2:] if os.path.exists(path)]
    failed, total = [], 0

    def note(name, problem):
        nonlocal total
        total += 1
        if problem:
            failed.append(f"{name}: {problem}")

    with tempfile.TemporaryDirectory() as folder:
        for name, model in networks.all_networks():
            path = f"{folder}/{name}.onnx"
            onnx.save(model, path)
            note(name, check_float(program, name, path, folder))
        for path in files:
            note(os.path.basename(path), check_float(program, os.path.basename(path), path, folder))
        for path in files:
            for form in (ortq.QuantFormat.QDQ, ortq.QuantFormat.QOperator):
                for signed in (False, True):
                    name = f"{os.path.basename(path)} {form.name} {'s8' if signed else 'u8'}"
                    x, _ = inputs_of(path, CODE_IMAGES)
                    target = quantised_by_ort(path, x[:IMAGES], folder, form, signed)
                    note(name, check_codes(program, name, target, x, folder))
    print("\n".join(failed))
    print(f"{total - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or total < 150 else 0


if __name__ == "__main__":
    sys.exit(main())
