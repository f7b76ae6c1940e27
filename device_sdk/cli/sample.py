"""One window and its events as this device would send them: the real Monitor, encoder and sender, synthetic values.

Everything is taken from this device but the numbers: settings, resource, identity (read, never made), host figures.
Nothing goes to the network and nothing is written outside a temporary directory.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from device_sdk.cli.synthetic import WIDTH, Synthetic
from device_sdk.config import Config
from device_sdk.errors import ConfigError
from device_sdk.monitor import Monitor
from device_sdk.signals import Signals, load_signals
from device_sdk.testing import MemorySink, connect

_IDENTITY_FILES: Final = ("installation.json", "boot.json")
_RUNS_MIN: Final = 30
_RUNS_MAX: Final = 2000


@dataclass(frozen=True, slots=True)
class Sample:
    """Request bodies before compression, and whether the identity in them is this device's own."""

    window: bytes
    events: tuple[bytes, ...]
    own_identity: bool


def take_sample(config: Config, signals_file: Path | None, model_file: Path | None) -> Sample:
    """Return what one window of synthetic inferences becomes; raise ``DeviceSdkError`` for a file that cannot be used.

    ``config`` says where the state directory is and how large a minimum count must be met.
    """
    signals = load_signals(signals_file) if signals_file is not None else None
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        known = [config.state_dir / name for name in _IDENTITY_FILES if (config.state_dir / name).is_file()]
        for file in known:
            shutil.copy(file, state)
        # an endpoint that nobody listens at, for the moment until the transport is exchanged
        monitor = Monitor(
            endpoint="http://127.0.0.1:9",
            state_dir=state,
            signals=signals,
            enabled=True,
            consent=True,
            overhead_budget=1.0,
        )
        try:
            sink = MemorySink()
            connect(monitor, sink)
            _infer(monitor, signals or _declared(config), model_file, max(_RUNS_MIN, config.privacy.min_count))
            if monitor._engine is not None:  # noqa: SLF001 - the host's figures belong to a window, at once and not in a second
                monitor._engine.sample_host()  # noqa: SLF001
            monitor.flush(10.0)
        finally:
            monitor.close(5.0)
    windows = [body for url, body in sink.requests if url.endswith("/v1/metrics")]
    events = tuple(body for url, body in sink.requests if url.endswith("/v1/logs"))
    return Sample(windows[0], events, own_identity=bool(known))


def _declared(config: Config) -> Signals:
    return load_signals(config.signals_path) if config.signals_path else Signals()


def _infer(monitor: Monitor, signals: Signals, model_file: Path | None, runs: int) -> None:
    random = np.random.default_rng(1)
    if model_file is not None:
        session = _session(model_file)
        feed = {item.name: _tensor(item.type, item.shape, random) for item in session.get_inputs()}
        wrapped: Any = monitor.wrap(session)
    else:
        synthetic = Synthetic(signals, random)
        feed = synthetic.feed
        wrapped = monitor.wrap(synthetic, model="example", version="1", signals=signals)
    for _ in range(min(runs, _RUNS_MAX)):
        for tensor in feed.values():
            if tensor.dtype.kind == "f":
                tensor[...] = random.random(tensor.shape)
        wrapped.run(None, feed)


def _session(model_file: Path) -> Any:
    import importlib

    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        raise ConfigError("--model needs onnxruntime on this device; leave it out for a synthetic model") from None
    try:
        return runtime.InferenceSession(str(model_file), providers=runtime.get_available_providers())
    except Exception as error:  # noqa: BLE001 - whatever a model file can do to a runtime is told as its fault
        raise ConfigError(f"--model {model_file}: {type(error).__name__}: {error}") from None


def _tensor(kind: str, shape: Sequence[object], random: np.random.Generator) -> Any:
    """Return a synthetic tensor of an ONNX type and shape; a dimension without a size is 1 first, else 64."""
    sizes = [extent if isinstance(extent, int) else (1 if at == 0 else WIDTH) for at, extent in enumerate(shape)]
    if "string" in kind:
        return np.full(sizes, "synthetic", dtype=object)
    types = {"float": "f4", "double": "f8", "float16": "f2", "bool": "?"}
    name = kind.removeprefix("tensor(").removesuffix(")")
    return random.random(sizes).astype(types[name]) if name in types else np.zeros(sizes, dtype=name)
