"""A keyword spotter: loudness, peaks and zero crossings of the sound. Run: ``python examples/audio.py``."""

from pathlib import Path

import numpy as np
import onnxruntime

from device_sdk import Feature, Monitor, Output, Signals

MODEL = Path(__file__).resolve().parent / "models" / "keywords.onnx"

monitor = Monitor(resource={"edge.device.tier": "example"})
signals = Signals(
    features=(
        Feature("rms", kind="rms", center=0.1, unit=0.05),
        Feature("peak", kind="peak", center=0.3, unit=0.1),
        Feature("zero_crossing_rate", kind="zero_crossing_rate", center=0.1, unit=0.05),
        Feature("clipped", kind="clipped_share", high=0.99, center=0.0, unit=0.01),
    ),
    outputs=(Output("keyword", kind="probabilities", classes=("yes", "no", "stop", "none")),),
)
session = monitor.wrap(onnxruntime.InferenceSession(str(MODEL)), signals=signals)

rng = np.random.default_rng(1)
time = np.arange(16000) / 16000
for _ in range(100):
    tone = np.sin(2 * np.pi * rng.uniform(200, 1200) * time) * rng.uniform(0.05, 0.3)
    sound = tone * (time > rng.uniform(0, 0.8)) + rng.normal(0, 0.01, 16000)
    session.run(None, {"sound": sound.astype(np.float32)[None]})

print("sent" if monitor.flush() else "kept on this device until the collector answers")
monitor.close()
