# SPDX-License-Identifier: Apache-2.0
"""The rivals, each behind the same small face.

An engine is made with (network, folder, threads): folder holds what prepare.py wrote. engine.calls(batch,
streams) gives `streams` functions without arguments; each runs one batch with threads/streams threads and
returns its logits, and they may run at the same time, each in its own thread after engine.enter(streams).
What cannot be had raises Unavailable with the reason.
"""
import os
import warnings

import numpy as np


class Unavailable(Exception):
    """This engine cannot run here; the text says what is missing."""


class Engine:
    settings = {}

    def __init__(self, network, folder, threads):
        self.network, self.folder, self.threads = network, folder, threads
        with np.load(folder / f"{network}.npz") as data:
            self.images, self.expected = data["images"], data["logits"]

    def batch(self, size):
        return np.ascontiguousarray(np.resize(self.images, (size, *self.images.shape[1:])))

    def enter(self, streams):
        pass


class Torch(Engine):
    """PyTorch on the CPU, traced, frozen and optimised for inference: faster here than eager mode."""

    def __init__(self, network, folder, threads, precision):
        super().__init__(network, folder, threads)
        import torch
        import networks
        self.torch = torch
        torch.set_num_threads(threads)
        self.net = networks.skeleton(network)
        self.net.load_state_dict(torch.load(folder / f"{network}.pt", mmap=True))
        self.settings = {"capability": torch.backends.cpu.get_cpu_capability()}
        self.dtype, self.traced = torch.float32, {}
        self.integer = precision.startswith("int8")
        if precision == "bf16":
            self.dtype = torch.bfloat16
            self.net = self.net.to(torch.bfloat16)
        elif self.integer:
            self.quantise("onednn" if precision == "int8-onednn" else "x86")

    def quantise(self, engine):
        torch = self.torch
        try:
            from torch.ao.quantization import MinMaxObserver, QConfig, QConfigMapping, get_default_qconfig
            from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
        except ImportError as error:
            raise Unavailable(f"this PyTorch has no FX static quantisation: {error}") from None
        if engine not in torch.backends.quantized.supported_engines:
            raise Unavailable(f"this PyTorch has no quantised engine '{engine}'")
        torch.backends.quantized.engine = engine
        self.settings |= {"quantisation": f"FX static, engine {engine}, weights per channel"}
        # A clamp at 6 costs nothing where the largest code stands for 6 or less: fused as ReLU.
        clamps = any(isinstance(m, torch.nn.ReLU6) for m in self.net.modules())
        if clamps:
            for i, m in enumerate(self.net):
                if isinstance(m, torch.nn.ReLU6):
                    self.net[i] = torch.nn.ReLU()
        # reduce_range would spend a bit that VNNI and AMX do not need.
        qconfig = QConfig(activation=MinMaxObserver.with_args(dtype=torch.quint8, reduce_range=False),
                          weight=get_default_qconfig(engine).weight)
        images = torch.from_numpy(self.images)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            net = prepare_fx(self.net, QConfigMapping().set_global(qconfig), (images[:1],))
            for i in range(len(images)):
                net(images[i:i + 1])
            for m in net.modules():
                if clamps and isinstance(m, MinMaxObserver) and m.min_val.numel() == 1 and m.min_val >= 0:
                    m.max_val.clamp_(max=6)
            self.net = convert_fx(net)

    def trace(self, size):
        torch = self.torch
        x = torch.from_numpy(self.batch(size)).to(self.dtype)
        if self.integer:
            x = x.contiguous(memory_format=torch.channels_last)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            traced = torch.jit.freeze(torch.jit.trace(self.net, x, check_trace=False))
            if not self.integer:
                traced = torch.jit.optimize_for_inference(traced)
        return traced, x

    def calls(self, size, streams):
        torch = self.torch
        torch.set_num_threads(self.threads)
        if size not in self.traced:
            self.traced[size] = self.trace(size)
        net, x = self.traced[size]

        def call():
            with torch.inference_mode():
                return net(x).float().numpy()
        return [call] * streams

    def enter(self, streams):
        self.torch.set_num_threads(self.threads // streams)  # of OpenMP: for the calling thread


class OnnxRuntime(Engine):
    def __init__(self, network, folder, threads, kind):
        super().__init__(network, folder, threads)
        try:
            import onnxruntime
        except ImportError as error:
            raise Unavailable(f"no ONNX Runtime: {error}") from None
        self.ort, self.path, self.sessions = onnxruntime, folder / f"{network}.{kind}.onnx", {}

    def calls(self, size, streams):
        threads = self.threads // streams
        if threads not in self.sessions:
            options = self.ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3  # errors
            options.execution_mode = self.ort.ExecutionMode.ORT_SEQUENTIAL
            options.graph_optimization_level = self.ort.GraphOptimizationLevel.ORT_ENABLE_ALL
            # Threads of several streams have one session each: a pool belongs to a session.
            count = streams if threads > 1 else 1
            self.sessions[threads] = [
                self.ort.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
                for _ in range(count)]
        sessions = self.sessions[threads]
        feed = {"input": self.batch(size)}
        return [lambda s=sessions[i % len(sessions)]: s.run(None, feed)[0] for i in range(streams)]


class OpenVino(Engine):
    def __init__(self, network, folder, threads, kind, precision):
        super().__init__(network, folder, threads)
        try:
            import openvino
        except Exception as error:  # a missing library is no ImportError everywhere
            raise Unavailable(f"no OpenVINO: {type(error).__name__}: {error}") from None
        self.ov, self.precision = openvino, precision
        self.core = openvino.Core()
        self.settings = {"inference_precision": precision,
                         "capabilities": list(self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))}
        if precision == "bf16" and "BF16" not in self.settings["capabilities"]:
            raise Unavailable("OpenVINO computes no bf16 on this processor")
        self.path = folder / f"{network}.{kind}.onnx"

    def calls(self, size, streams):
        model = self.core.read_model(self.path)
        x = self.batch(size)
        model.reshape({"input": list(x.shape)})
        compiled = self.core.compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT"})

        def stream():
            request = compiled.create_infer_request()
            tensor = self.ov.Tensor(x, shared_memory=True)
            request.set_input_tensor(tensor)

            def call(_memory=(x, tensor)):  # a shared tensor does not keep its memory alive
                request.infer()
                return request.get_output_tensor().data
            return call
        return [stream() for _ in range(streams)]


class Gpu(Engine):
    """PyTorch on one GPU: no protection, the ceiling. Bytes of images lie in pinned host memory and the
    logits return there; the whole way is one CUDA graph."""

    settings = {"memory_format": "channels_last", "input": "uint8 in pinned host memory", "cuda_graph": True}

    def __init__(self, network, folder, threads, precision):
        super().__init__(network, folder, threads)
        import torch
        if not torch.cuda.is_available():
            raise Unavailable("PyTorch sees no GPU on this machine (torch.cuda.is_available() is false)")
        if precision == "int8":
            raise Unavailable("PyTorch has no int8 convolution for CUDA (only matrix products, torch._int_mm)")
        self.torch, self.tf32 = torch, precision == "tf32"
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32
        self.dtype = torch.float16 if precision == "fp16" else torch.float32
        import networks
        net = networks.skeleton(network)
        net.load_state_dict(torch.load(folder / f"{network}.pt", mmap=True))
        self.net = net.cuda().to(self.dtype).to(memory_format=torch.channels_last)
        # What the code 0 stands for and what one step is worth, for inputs of about -4..4.
        self.codes = np.clip(np.rint(self.images * 32) + 128, 0, 255).astype(np.uint8)
        self.settings = {**self.settings, "gpu": torch.cuda.get_device_name(), "tf32": self.tf32}

    def stream(self, size):
        """One graph with buffers and a stream of its own: copies of one overlap with the work of another."""
        torch = self.torch
        codes = torch.from_numpy(np.ascontiguousarray(np.resize(self.codes, (size, *self.codes.shape[1:]))))
        codes = codes.contiguous(memory_format=torch.channels_last).pin_memory()
        logits = torch.empty(size, 1000, dtype=self.dtype).pin_memory()

        def once():
            x = codes.cuda(non_blocking=True).to(self.dtype)
            logits.copy_(self.net((x - 128) / 32), non_blocking=True)
        stream = torch.cuda.Stream()
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(3):
                once()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph, stream=stream):
            once()

        def call(_memory=(codes, logits)):
            with torch.cuda.stream(stream):
                graph.replay()
                stream.synchronize()
            return logits.float().numpy()
        return call

    def calls(self, size, streams):
        return [self.stream(size) for _ in range(streams)]


# name: (library, precision, needs the ONNX files, how it is made)
PEERS = {
    "torch-fp32": ("PyTorch", "fp32", False, lambda *a: Torch(*a, "fp32")),
    "torch-bf16": ("PyTorch", "bf16", False, lambda *a: Torch(*a, "bf16")),
    "torch-int8-x86": ("PyTorch", "int8", False, lambda *a: Torch(*a, "int8-x86")),
    "torch-int8-onednn": ("PyTorch", "int8", False, lambda *a: Torch(*a, "int8-onednn")),
    "ort-fp32": ("ONNX Runtime", "fp32", True, lambda *a: OnnxRuntime(*a, "fp32")),
    "ort-int8-u8s8": ("ONNX Runtime", "int8", True, lambda *a: OnnxRuntime(*a, "u8s8")),
    "ort-int8-s8s8": ("ONNX Runtime", "int8", True, lambda *a: OnnxRuntime(*a, "s8s8")),
    "openvino-fp32": ("OpenVINO", "fp32", True, lambda *a: OpenVino(*a, "fp32", "f32")),
    "openvino-bf16": ("OpenVINO", "bf16", True, lambda *a: OpenVino(*a, "fp32", "bf16")),
    "openvino-int8": ("OpenVINO", "int8", True, lambda *a: OpenVino(*a, "u8s8", "f32")),
    "gpu-fp32": ("PyTorch, GPU", "fp32", False, lambda *a: Gpu(*a, "fp32")),
    "gpu-tf32": ("PyTorch, GPU", "tf32", False, lambda *a: Gpu(*a, "tf32")),
    "gpu-fp16": ("PyTorch, GPU", "fp16", False, lambda *a: Gpu(*a, "fp16")),
    "gpu-int8": ("PyTorch, GPU", "int8", False, lambda *a: Gpu(*a, "int8")),
}


def make(peer, network, folder, threads):
    return PEERS[peer][3](network, folder, threads)


def cosine(a, b):
    """The smallest cosine between rows of two arrays of logits."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.min((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))))


def pin(cores):
    """Binds every thread that this process has, and so those it will start, to these cores."""
    for task in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(task), cores)
