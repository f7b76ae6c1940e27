"""OpenVINO: wrap the compiled model; its requests are measured too. Run: ``python examples/openvino_model.py``."""

from pathlib import Path

import numpy as np
import openvino

from device_sdk import Monitor

MODEL = Path(__file__).resolve().parents[1] / "simulator" / "models" / "digits.onnx"

monitor = Monitor(resource={"edge.device.tier": "example"})
compiled = monitor.wrap(openvino.Core().compile_model(str(MODEL), "CPU"), model="digits", version="1")

images = np.random.default_rng(1).random((100, 64), dtype=np.float32)
for image in images:
    compiled(image[None])

request = compiled.create_infer_request()
for image in images:
    request.start_async({0: image[None]})
    request.wait()

print("sent" if monitor.flush() else "kept on this device until the collector answers")
monitor.close()
