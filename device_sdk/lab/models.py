"""Open a model file under its runtime, with inputs to run it with.

The runtimes are imported here and nowhere else in the SDK: the verbs that need this are programs, not guests in one.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.errors import LabError, nearest

Array = NDArray[Any]

RUNTIME_OF_SUFFIX: Final = {".onnx": "onnxruntime", ".ort": "onnxruntime", ".tflite": "litert", ".xml": "openvino"}
RUNTIMES: Final = ("onnxruntime", "litert", "openvino")
_FREE_EXTENT: Final = 1
_REMOTE: Final = "AzureExecutionProvider"  # calls a service; it is no part of this device
_ONNX_TYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input: its name, numpy type, and extents (free ones are 1)."""

    name: str
    dtype: Any
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that is ready. ``call(session, feed)`` runs it once; ``load_s`` is what making it ready took."""

    session: Any
    inputs: tuple[Tensor, ...]
    call: Callable[[Any, Mapping[str, Array]], object]
    load_s: float


def open_model(path: Path, *, runtime: str | None = None, provider: str | None = None, threads: int = 0) -> Opened:
    """Open a model file; ``threads`` 0 leaves their number to the runtime. Raise ``LabError`` that says what to do."""
    chosen = runtime or RUNTIME_OF_SUFFIX.get(path.suffix.lower())
    if runtime and chosen not in RUNTIMES:
        raise LabError(f"--runtime {runtime!r}: {nearest(runtime, RUNTIMES)}")
    if chosen is None:
        raise LabError(f"{path}: no runtime for {path.suffix!r}; known files are {', '.join(RUNTIME_OF_SUFFIX)}")
    if not path.is_file():
        raise LabError(f"{path}: no such file")
    opener = {"onnxruntime": _open_onnxruntime, "litert": _open_litert, "openvino": _open_openvino}[chosen]
    try:
        return opener(path, provider, threads)
    except ImportError as error:
        raise LabError(f"{path} needs {chosen}: {error}; install it in this environment") from None
    except LabError:
        raise
    except Exception as error:  # noqa: BLE001 - every runtime raises types of its own for a model it cannot load
        raise LabError(f"{path}: {chosen} cannot load it: {str(error).strip().splitlines()[0]}") from None


def random_feed(inputs: Sequence[Tensor], seed: int = 1) -> dict[str, Array]:
    """Return one feed of random values, the same for the same seed: floats in 0..1, integers 0 or 1."""
    rng = np.random.default_rng(seed)
    feed: dict[str, Array] = {}
    for tensor in inputs:
        kind = np.dtype(tensor.dtype).kind
        drawn = rng.random(tensor.shape) if kind == "f" else rng.integers(0, 2, tensor.shape)
        feed[tensor.name] = drawn.astype(tensor.dtype)
    return feed


def _open_onnxruntime(path: Path, provider: str | None, threads: int) -> Opened:
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    known = [name for name in ort.get_available_providers() if name != _REMOTE]
    if provider is not None and provider not in known:
        raise LabError(f"--provider {provider!r}: {nearest(provider, known)}")
    started = time.perf_counter()
    session = ort.InferenceSession(str(path), options, providers=[provider] if provider else known)
    took = time.perf_counter() - started
    inputs = []
    for item in session.get_inputs():
        if item.type not in _ONNX_TYPES:
            raise LabError(f"{path}: input {item.name!r} is {item.type}; give a golden set with values for it")
        shape = tuple(extent if isinstance(extent, int) and extent > 0 else _FREE_EXTENT for extent in item.shape)
        inputs.append(Tensor(item.name, _ONNX_TYPES[item.type], shape))
    return Opened(session, tuple(inputs), lambda ready, feed: ready.run(None, feed), took)


def _open_litert(path: Path, provider: str | None, threads: int) -> Opened:
    if provider not in (None, "CPU"):
        raise LabError(f"--provider {provider!r}: an interpreter opened here runs on CPU")
    interpreters = importlib.import_module("ai_edge_litert.interpreter")
    started = time.perf_counter()
    session = interpreters.Interpreter(str(path), num_threads=threads or None)
    session.allocate_tensors()
    took = time.perf_counter() - started
    details = session.get_input_details()
    inputs = tuple(Tensor(str(d["name"]), d["dtype"], tuple(int(n) for n in d["shape"])) for d in details)
    index = {str(item["name"]): item["index"] for item in details}

    def call(ready: Any, feed: Mapping[str, Array]) -> object:
        for name, value in feed.items():
            ready.set_tensor(index[name], value)
        return ready.invoke()

    return Opened(session, inputs, call, took)


def _open_openvino(path: Path, provider: str | None, threads: int) -> Opened:
    core = importlib.import_module("openvino").Core()
    known = core.available_devices
    if provider is not None and provider not in known:
        raise LabError(f"--provider {provider!r}: {nearest(provider, known)}")
    settings = {"INFERENCE_NUM_THREADS": threads} if threads else {}
    started = time.perf_counter()
    session = core.compile_model(str(path), provider or "CPU", settings)
    took = time.perf_counter() - started
    inputs = []
    for port in session.inputs:
        extents = port.get_partial_shape()
        shape = tuple(_FREE_EXTENT if extent.is_dynamic else extent.get_length() for extent in extents)
        inputs.append(Tensor(port.get_any_name(), port.get_element_type().to_dtype(), shape))
    return Opened(session, tuple(inputs), lambda ready, feed: ready(feed), took)
