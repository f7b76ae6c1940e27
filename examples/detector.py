"""A detector: boxes and scores become detections a frame and sizes of boxes. Run: ``python examples/detector.py``."""

from pathlib import Path

import numpy as np
import onnxruntime

from device_sdk import Feature, Monitor, Output, Signals

MODEL = Path(__file__).resolve().parent / "models" / "detector.onnx"

monitor = Monitor(resource={"edge.device.tier": "example"})
signals = Signals(
    features=(
        Feature("mean", kind="mean", center=0.1, unit=0.03),
        Feature("sharpness", kind="sharpness", center=0.05, unit=0.03),
        Feature("saturated", kind="saturated_share", high=0.98, center=0.02, unit=0.02),
    ),
    outputs=(Output("boxes", kind="detections", scores="scores", format="xyxy", threshold=0.5),),
)
session = monitor.wrap(onnxruntime.InferenceSession(str(MODEL)), signals=signals)

rng = np.random.default_rng(1)
for _ in range(200):
    frame = rng.random((1, 1, 32, 32), dtype=np.float32) * 0.1
    for _ in range(rng.integers(0, 4)):  # a few bright blobs
        row, column = rng.integers(0, 28, 2)
        frame[0, 0, row : row + 4, column : column + 4] = 1.0
    session.run(None, {"frame": frame})

print("sent" if monitor.flush() else "kept on this device until the collector answers")
monitor.close()
