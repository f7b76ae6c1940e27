"""A regression on a table: columns, categories and the value, on pinned grids. Run: ``python examples/tabular.py``."""

from pathlib import Path

import numpy as np
import onnxruntime

from device_sdk import Feature, Monitor, Output, Signals

MODEL = Path(__file__).resolve().parent / "models" / "prices.onnx"

monitor = Monitor(resource={"edge.device.tier": "example"})
signals = Signals(
    features=(
        Feature("area", column=0, center=80, unit=25, range=(10, 400)),
        Feature("rooms", column=1, center=3, unit=1),
        Feature("age", column=2, center=30, unit=15, range=(0, 300)),
        Feature("district", kind="category", column=3, categories=(0, 1, 2, 3)),
    ),
    outputs=(Output("price", kind="value", center=240, unit=60),),
)
session = monitor.wrap(onnxruntime.InferenceSession(str(MODEL)), signals=signals)

rng = np.random.default_rng(1)
homes = np.column_stack(
    [rng.normal(80, 25, 200), rng.integers(1, 6, 200), rng.exponential(30, 200), rng.integers(0, 5, 200)]
)
for home in homes.astype(np.float32):
    session.run(None, {"home": home[None]})

print("sent" if monitor.flush() else "kept on this device until the collector answers")
monitor.close()
