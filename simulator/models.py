"""The real models that simulated devices run, the real data they run on, and the session that stands for hardware.

Every inference calls onnxruntime for real. What a laptop cannot show is how long a camera's chip would take, so
``SimulatedSession`` advances the device's manual clock by a drawn latency after each real run: latencies are simulated,
everything else the SDK sees (tensors, outputs, exceptions) is real.
"""

from __future__ import annotations

import importlib.util
import json
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from device_sdk.signals import Feature, Signals, load_signals

MODELS_DIR: Final = Path(__file__).parent / "models"
DATA_DIR: Final = Path(__file__).parent / "data"

FULL_SCALE: Final = 16.0
"""Largest pixel value of the digits data; images are scaled to 0..1 by it."""
DARK_LOW: Final = 0.19
"""A pixel at or below this counts as dark; at usual exposure it divides the pixels of value 3 of 16."""

DIGITS_FILES: Final[Mapping[str, str]] = {"1": "digits.onnx", "2": "digits-2.onnx"}
MAGIKA_VERSION: Final = "standard_v3_3"
MAGIKA_BLOCK: Final = 1024
MAGIKA_PADDING: Final = 256
FILE_SUFFIXES: Final = (".py", ".txt", ".so", ".pyc", ".json", ".html", ".css", ".cfg", ".toml", ".h")


class SimulatorError(Exception):
    """Something the simulator needs is missing or wrong; the message says what to do."""


class Advancing(Protocol):
    """The part of a manual clock that a simulated session needs."""

    def advance(self, ns: int) -> None:
        """Move the clock forward by ``ns`` nanoseconds."""


@lru_cache(maxsize=2)
def digits_signals(version: str) -> Signals:
    """Return what the digits model declares to watch: three image statistics on grids from the training images."""
    return load_signals((MODELS_DIR / DIGITS_FILES[version]).with_suffix(".signals.toml"))


@lru_cache(maxsize=1)
def magika_signals() -> Signals:
    """Return what is watched of magika: mean and spread of a file's bytes, on fixed grids, and its content types."""
    features = (
        Feature("byte_mean", kind="mean", center=70.0, unit=35.0),
        Feature("byte_std", kind="std", center=45.0, unit=15.0),
    )
    return Signals(features=features, classes=magika_labels())


@lru_cache(maxsize=1)
def digits_images() -> npt.NDArray[np.float32]:
    """Return the held-out images as (n, 64) float32 rows in 0..1, read-only."""
    with np.load(DATA_DIR / "digits.npz") as archive:
        images = (archive["images"] / FULL_SCALE).astype(np.float32)
    images.flags.writeable = False
    return np.asarray(images, dtype=np.float32)


@lru_cache(maxsize=1)
def digits_labels() -> npt.NDArray[np.uint8]:
    """Return the labels of ``digits_images``."""
    with np.load(DATA_DIR / "digits.npz") as archive:
        return np.asarray(archive["labels"], dtype=np.uint8)


def magika_path() -> Path:
    """Return the ONNX file inside the installed magika package; the package itself is not imported."""
    spec = importlib.util.find_spec("magika")
    if spec is None or spec.origin is None:
        raise SimulatorError("the package magika is not installed; install fleetpulse[demo] or pass magika off")
    path = Path(spec.origin).parent / "models" / MAGIKA_VERSION / "model.onnx"
    if not path.is_file():
        raise SimulatorError(f"magika has no model at {path.name} ({MAGIKA_VERSION}); install magika 1.0")
    return path


@lru_cache(maxsize=1)
def magika_labels() -> tuple[str, ...]:
    """Return the content types magika tells apart, in output order."""
    config = json.loads(magika_path().with_name("config.min.json").read_text(encoding="utf-8"))
    return tuple(str(label) for label in config["target_labels_space"])


def file_features(content: bytes) -> npt.NDArray[np.int32]:
    """Return magika's 2048 byte features of a file: its first and last 1024 bytes, stripped, padded with 256."""
    row = np.full(2 * MAGIKA_BLOCK, MAGIKA_PADDING, dtype=np.int32)
    head = content[: 4 * MAGIKA_BLOCK].lstrip()[:MAGIKA_BLOCK]
    tail = content[-4 * MAGIKA_BLOCK :].rstrip()[-MAGIKA_BLOCK:]
    row[: len(head)] = np.frombuffer(head, dtype=np.uint8)
    if tail:
        row[-len(tail) :] = np.frombuffer(tail, dtype=np.uint8)
    return row


def _library_files(limit: int) -> Iterator[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    per_suffix = max(1, limit // len(FILE_SUFFIXES))
    taken = dict.fromkeys(FILE_SUFFIXES, 0)
    for folder in (root, root / "__pycache__", root / "lib-dynload", root / "email", root / "json", root / "idlelib"):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            if path.suffix in taken and taken[path.suffix] < per_suffix * (3 if path.suffix == ".py" else 1):
                taken[path.suffix] += 1
                yield path


@lru_cache(maxsize=1)
def magika_inputs(limit: int = 160) -> npt.NDArray[np.int32]:
    """Return the features (n, 2048) of up to ``limit`` real files of the running Python's standard library."""
    rows = []
    for path in _library_files(limit):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if len(content) >= 64:
            rows.append(file_features(content))
    if not rows:
        raise SimulatorError("no readable file in Python's standard library; magika has nothing to look at")
    matrix = np.stack(rows)
    matrix.flags.writeable = False
    return matrix


class InferenceSession(Protocol):
    """The part of ``onnxruntime.InferenceSession`` in use."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        """Run the model."""


@lru_cache(maxsize=8)
def open_session(path: Path) -> Any:
    """Return a one-thread CPU session of the ONNX file; one a process, shared by its simulated devices."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # a malformed frame raises; nothing needs to be printed as well
    return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])


def digits_session(version: str) -> Any:
    """Return the shared session of one version of the digits model."""
    if version not in DIGITS_FILES:
        raise SimulatorError(f"digits has no version {version!r}; there are {', '.join(DIGITS_FILES)}")
    return open_session(MODELS_DIR / DIGITS_FILES[version])


class SimulatedSession:
    """A real session on simulated hardware: each run is real, then the device's clock moves by a drawn latency.

    ``load(latencies_ns)`` hands over the latencies of the runs to come, in order; a run beyond them reuses the last.
    Everything but ``run`` is the real session's.
    """

    def __init__(self, inner: Any, clock: Advancing) -> None:
        self._inner = inner
        self._run = inner.run
        self._advance = clock.advance
        self._latencies: Iterator[int] = iter(())
        self.calls = 0

    def load(self, latencies_ns: Sequence[int]) -> None:
        """Set the latencies (ns) of the coming runs."""
        self._latencies = iter(latencies_ns)

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        """Run the real model, then let the simulated hardware's time pass (also when the run raised)."""
        self.calls += 1
        try:
            return self._run(output_names, input_feed, run_options)
        finally:
            self._advance(next(self._latencies, 1_000_000))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
