"""LiteRT: wrap the interpreter, invoke as before. Run: ``python examples/litert_interpreter.py``."""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from device_sdk import Monitor

MODEL = Path(__file__).resolve().parent / "models" / "digits.tflite"

monitor = Monitor(resource={"edge.device.tier": "example"})
interpreter = monitor.wrap(Interpreter(str(MODEL)), model="digits", version="1")  # it does not know its file: name it
interpreter.allocate_tensors()
given = interpreter.get_input_details()[0]["index"]
answer = interpreter.get_output_details()[0]["index"]

images = np.random.default_rng(1).random((200, 64), dtype=np.float32)
for image in images:
    interpreter.set_tensor(given, image[None])
    interpreter.invoke()
    interpreter.get_tensor(answer)

print("sent" if monitor.flush() else "kept on this device until the collector answers")
monitor.close()
