"""ONNX Runtime: wrap the session, run as before. Run: ``python examples/onnxruntime_session.py``."""

from pathlib import Path

import numpy as np
import onnxruntime

from device_sdk import Feature, Monitor, Signals

MODEL = Path(__file__).resolve().parents[1] / "simulator" / "models" / "digits.onnx"

# sends to http://localhost:4318 or $FLEETPULSE_DEVICE_ENDPOINT
monitor = Monitor(resource={"edge.device.tier": "example"})
signals = Signals(
    features=(
        Feature("mean", kind="mean", center=0.305, unit=0.034),
        Feature("dark", kind="dark_share", low=0.19, center=0.58, unit=0.05),
    ),
    classes=tuple("0123456789"),
)
session = monitor.wrap(onnxruntime.InferenceSession(str(MODEL)), signals=signals)

images = np.random.default_rng(1).random((200, 64), dtype=np.float32)
for image in images:
    session.run(None, {"image": image[None]})

print("sent" if monitor.flush() else "kept on this device until the collector answers")
monitor.close()
