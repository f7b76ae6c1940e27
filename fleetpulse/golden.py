"""A golden data set run through the SDK itself, into the reference that serving is compared with.

Nothing here re-implements a fold: the rows go through a real ``Monitor`` around a real session, its windows through the
collector's decoder, and what they hold is the reference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analytics.baseline import Reference, to_tables
from analytics.golden import golden_reference, grids
from collector.api.decode import decode_metrics
from collector.errors import ConfigError, StackError
from collector.ingest.batch import to_tables as segment_tables
from device_sdk import Feature, Monitor, Signals
from device_sdk.testing import ManualClock, MemorySink, connect

COLUMNS_MAX: Final = 16
"""A 2-D input with at most this many columns gets a feature a column; anything larger gets statistics."""

WINDOW_NS: Final = 60_000_000_000
OUTPUT_VALUE: Final = "output:value"
ROWS_A_STEP: Final = 256


@dataclass(frozen=True, slots=True)
class Built:
    """A golden reference, its rows for the store, and the signals file that belongs beside the model."""

    reference: Reference
    tables: Mapping[str, pa.Table]
    signals: Signals | None
    signals_file: Path


def read_golden(path: Path, inputs: list[str]) -> dict[str, NDArray[Any]]:
    """Return the data set's arrays by input name; raises ``ConfigError`` when names or lengths do not fit."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not an .npz archive of arrays: {error}") from None
    if len(inputs) == 1 and inputs[0] not in arrays and len(arrays) == 1:
        arrays = {inputs[0]: next(iter(arrays.values()))}
    missing = [name for name in inputs if name not in arrays]
    if missing:
        raise ConfigError(f"{path}: no array for input {missing[0]!r}; it has: {', '.join(sorted(arrays)) or 'none'}")
    lengths = {len(arrays[name]) for name in inputs}
    if len(lengths) != 1 or lengths == {0}:
        raise ConfigError(f"{path}: the inputs' arrays have {sorted(lengths)} rows; all need the same number, above 0")
    return {name: arrays[name] for name in inputs}


def pinned_features(rows: NDArray[Any]) -> tuple[Feature, ...]:
    """Return features of one input with grids pinned at the data set's own mean and standard deviation."""
    flat = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    if rows.ndim == 2 and flat.shape[1] <= COLUMNS_MAX:
        columns = enumerate(flat.T)
        return tuple(_feature(f"column_{index}", column, kind="column", column=index) for index, column in columns)
    return (_feature("mean", flat.mean(axis=1), kind="mean"), _feature("std", flat.std(axis=1), kind="std"))


def _feature(name: str, values: NDArray[np.float64], **kind: Any) -> Feature:
    finite = values[np.isfinite(values)]
    center = float(np.mean(finite)) if finite.size else 0.0
    spread = float(np.std(finite)) if finite.size else 0.0
    return Feature(name=name, center=_rounded(center), unit=_rounded(spread) if spread > 0 else 1.0, **kind)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def signals_toml(signals: Signals) -> str:
    """Return the declaration as the TOML that the SDK reads from beside the model."""
    lines = [
        "# Written by `fleetpulse baseline build`: the grids of this model's signals, pinned at its golden data set."
    ]
    if (signals.output_center, signals.output_unit) != (0.0, 1.0):
        lines += [f"output_center = {signals.output_center!r}", f"output_unit = {signals.output_unit!r}"]
    for feature in signals.features:
        lines += ["", "[[feature]]", f'name = "{feature.name}"', f'kind = "{feature.kind}"']
        if feature.column is not None:
            lines.append(f"column = {feature.column}")
        lines += [f"center = {feature.center!r}", f"unit = {feature.unit!r}"]
    return "\n".join(lines) + "\n"


def build(model_file: Path, data_file: Path, *, model: str | None, version: str | None, now_ns: int) -> Built:
    """Run the data set through the SDK and return the reference with its tables.

    Raises ``ConfigError`` for a data set that does not fit, ``StackError`` when onnxruntime is missing or refuses.
    """
    session = _session(model_file)
    arrays = read_golden(data_file, [item.name for item in session.get_inputs()])
    beside = model_file.with_suffix(".signals.toml")
    signals = None if beside.is_file() else Signals(features=pinned_features(next(iter(arrays.values()))))
    with tempfile.TemporaryDirectory(prefix="fleetpulse-golden-") as folder:
        requests = _through_the_sdk(session, arrays, Path(folder), signals, model, version, now_ns)
    reference = _reference(requests, now_ns)
    if signals is not None and OUTPUT_VALUE in reference.signals:
        center, unit = grids(reference)[OUTPUT_VALUE]
        signals = replace(signals, output_center=center, output_unit=unit)
    return Built(reference, to_tables(reference, {"rows": len(next(iter(arrays.values())))}, now_ns), signals, beside)


def _session(model_file: Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise StackError("`baseline build` runs the model; install onnxruntime: pip install '.[baseline]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # what the optimiser says about spare initialisers is no concern of the reference
    try:
        return onnxruntime.InferenceSession(model_file, options)
    except Exception as error:  # noqa: BLE001  # the runtime raises types of its own for every bad model
        raise StackError(f"{model_file}: onnxruntime cannot load it: {error}") from None


def _through_the_sdk(
    session: Any,
    arrays: Mapping[str, NDArray[Any]],
    folder: Path,
    signals: Signals | None,
    model: str | None,
    version: str | None,
    now_ns: int,
) -> list[bytes]:
    """Return the SDK's own metrics requests for the data set."""
    clock = ManualClock(now_ns)
    monitor = Monitor(state_dir=folder / "device", clock=clock, signals=signals, window_s=60)
    sink = MemorySink()
    connect(monitor, sink)
    wrapped = monitor.wrap(session, model=model, version=version)
    rows = len(next(iter(arrays.values())))
    for row in range(rows):
        wrapped.run(None, {name: array[row : row + 1] for name, array in arrays.items()})
        if row % ROWS_A_STEP == ROWS_A_STEP - 1:
            monitor.step()
    clock.advance(WINDOW_NS)
    monitor.step()
    monitor.flush(10)
    monitor.close()
    return [body for url, body in sink.requests if url.endswith("/v1/metrics")]


def _reference(requests: list[bytes], now_ns: int) -> Reference:
    """Return the reference of the one model version whose windows these are."""
    segment = segment_tables([decode_metrics(body, now_ns) for body in requests])
    models = {(row["model"], row["version"]) for row in segment["series"].to_pylist() if row["model"]}
    if len(models) != 1:
        raise StackError("the run recorded no model: the data set has no rows that the runtime accepts")
    try:
        return golden_reference(segment, *models.pop())
    except ValueError as error:
        raise StackError(str(error)) from None
