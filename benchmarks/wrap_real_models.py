"""What the wrapper adds to models of a millisecond and more, as a share of their median ``run()``.

Two models: a convolutional network made here (about 1 to 3 ms), and the one that the package ``magika`` brings. The
difference of two runs of some milliseconds cannot show a hundredth, so the added CPU is measured on a session that does
nothing but hand out the same tensors: wrapped less bare, every run copied and folded (on a manual clock, which leaves
nothing out and folds on the same thread). ``run()`` itself is the median wall time of the real session. For
information, the wrapped real session is timed beside the bare one in alternating blocks.

Run: ``.venv/bin/python benchmarks/wrap_real_models.py [--calls 4000]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from device_sdk import Feature, Monitor, Signals
from device_sdk.testing import ManualClock, MemorySink, connect

START_NS = 1_700_000_000_000_000_000
STATISTICS = (
    Feature("mean", kind="mean", center=0.5, unit=0.1),
    Feature("std", kind="std", center=0.3, unit=0.1),
    Feature("dark_share", kind="dark_share", low=0.2, center=0.2, unit=0.05),
)


def convolutional() -> bytes:
    """Return a classifier of 192 x 192 images: four convolutions, a global mean, a matrix product and a softmax."""
    rng, nodes, weights, channels, last = np.random.default_rng(5), [], [], 3, "x"
    for number, width in enumerate((16, 24, 32, 48)):
        kernel = (rng.normal(size=(width, channels, 3, 3)) / (3 * channels**0.5)).astype(np.float32)
        weights.append(helper.make_tensor(f"k{number}", TensorProto.FLOAT, kernel.shape, kernel.ravel()))
        step = 1 if number == 0 else 2
        nodes.append(
            helper.make_node("Conv", [last, f"k{number}"], [f"c{number}"], pads=[1, 1, 1, 1], strides=[step, step])
        )
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        channels, last = width, f"r{number}"
    head = rng.normal(size=(channels, 10)).astype(np.float32)
    weights.append(helper.make_tensor("head", TensorProto.FLOAT, head.shape, head.ravel()))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 192, 192])
    answer = helper.make_tensor_value_info("p", TensorProto.FLOAT, [1, 10])
    graph = helper.make_graph(nodes, "images", [image], [answer], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    return bytes(model.SerializeToString())


def magika_model() -> bytes | None:
    """Return magika's model file, None where the package is missing."""
    try:
        import magika
    except ImportError:
        return None
    found = sorted(Path(magika.__file__).parent.rglob("*.onnx"))
    return found[-1].read_bytes() if found else None


class Replay:
    """A session of the same names and tensors that needs no time."""

    def __init__(self, session: Any, result: Any) -> None:
        self._session = session
        self._result = result

    def run(self, _names: Any, _feed: Any, _options: Any = None) -> Any:
        """Hand out the recorded result."""
        return self._result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def feed_of(session: Any) -> dict[str, Any]:
    """Return one plausible sample for every input."""
    rng, feed = np.random.default_rng(3), {}
    for item in session.get_inputs():
        shape = [extent if isinstance(extent, int) else 1 for extent in item.shape]
        if "int" in item.type:
            feed[item.name] = rng.integers(0, 256, shape).astype(np.int64 if "64" in item.type else np.int32)
        else:
            feed[item.name] = rng.random(shape, dtype=np.float32)
    return feed


def wall_us(run: Callable[..., Any], feed: dict[str, Any], calls: int) -> list[float]:
    """Return wall microseconds of each call."""
    took = []
    for _ in range(calls):
        started = time.perf_counter_ns()
        run(None, feed)
        took.append((time.perf_counter_ns() - started) / 1000)
    return took


def cpu_us(run: Callable[..., Any], feed: dict[str, Any], calls: int) -> float:
    """Return CPU microseconds a call."""
    started = time.process_time_ns()
    for _ in range(calls):
        run(None, feed)
    return (time.process_time_ns() - started) / calls / 1000


def measure(name: str, model: bytes, calls: int) -> None:
    """Print the figures of one model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = feed_of(session)
    replay = Replay(session, session.run(None, feed))
    with tempfile.TemporaryDirectory() as folder:
        manual = Monitor("http://127.0.0.1:9", state_dir=f"{folder}/a", clock=ManualClock(START_NS))
        threaded = Monitor("http://127.0.0.1:9", state_dir=f"{folder}/b")
        connect(manual, MemorySink())
        connect(threaded, MemorySink())
        signals = Signals(features=STATISTICS)
        wrapped = manual.wrap(replay, model=name, version="1", signals=signals)
        real = threaded.wrap(session, model=name, version="1", signals=signals)
        for run in (wrapped.run, replay.run):
            cpu_us(run, feed, 300)
        pairs = [(cpu_us(wrapped.run, feed, calls // 5), cpu_us(replay.run, feed, calls // 5)) for _ in range(9)]
        added = statistics.median(mine - bare for mine, bare in pairs)
        bare, mine = [], []
        for _ in range(6):
            bare += wall_us(session.run, feed, 60)
            mine += wall_us(real.run, feed, 60)
        manual.close(0)
        threaded.close(0)
    typical = statistics.median(bare)
    print(f"{name}: run() {typical:.0f} us, added {added:.2f} us CPU; wrapped {statistics.median(mine):.0f} us wall")
    if typical < 1000:
        print(f"  {name} takes less than 1 ms here: the figure is not for it")
    ratio = added / typical
    print(f"{'  added CPU / median run()':40} {ratio:8.4f}  target <= 0.0100  {'PASS' if ratio <= 0.01 else 'FAIL'}")


def main() -> int:
    """Measure every model there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=4000)
    chosen = parser.parse_args()
    measure("convolutional", convolutional(), chosen.calls)
    bundled = magika_model()
    if bundled is None:
        print("magika is not installed (it comes with the extra 'demo'): its model is left out")
    else:
        measure("magika", bundled, chosen.calls)
    return 0


if __name__ == "__main__":
    sys.exit(main())
