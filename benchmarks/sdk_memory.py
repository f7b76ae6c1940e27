"""Memory that the SDK adds to a program of onnxruntime and numpy, with its spool and its sender at work.

Fresh processes run the digits model for some seconds: bare, and wrapped by a Monitor that closes a window every 0.2 s
and sends it over HTTP to a server in this process. Figures are resident memory at the end (``VmRSS``), medians; the
wrapped process also says that it never imported OpenTelemetry's SDK.

Run: ``.venv/bin/python benchmarks/sdk_memory.py [--rounds 3] [--seconds 4]``
"""

from __future__ import annotations

import argparse
import http.server
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

MODEL = Path(__file__).resolve().parents[1] / "simulator" / "models" / "digits.onnx"
CHILD = """
import sys, time
import numpy as np
import onnxruntime
model, seconds, url, state = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name, row = session.get_inputs()[0].name, np.random.default_rng(1).random((1, 64), dtype=np.float32)
if url:
    from device_sdk import Feature, Monitor, Signals
    features = (Feature("mean", kind="mean"), Feature("std", kind="std"), Feature("dark", kind="dark_share", low=0.2))
    monitor = Monitor(url, state_dir=state, window_s=0.2, signals=Signals(features=features))
    session = monitor.wrap(session)
until = time.monotonic() + seconds
while time.monotonic() < until:
    for _ in range(500):
        session.run(None, {name: row})
    time.sleep(0.01)
status = open("/proc/self/status").read()
resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
print(resident, int(any(module.startswith("opentelemetry.sdk") for module in sys.modules)))
if url:
    monitor.close(2)
"""


class Sink(http.server.BaseHTTPRequestHandler):
    """Takes every request and counts it."""

    protocol_version = "HTTP/1.1"
    taken = 0

    def do_POST(self) -> None:
        """Answer 200."""
        self.rfile.read(int(self.headers["Content-Length"]))
        Sink.taken += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def resident_mb(seconds: float, url: str, state: str) -> float:
    """Return resident MB of a fresh process; stop when it has imported OpenTelemetry's SDK."""
    command = [sys.executable, "-c", CHILD, str(MODEL), str(seconds), url, state]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    kilobytes, sdk = done.stdout.split()
    if sdk != "0":
        raise SystemExit("OpenTelemetry's SDK was imported: it costs 10 MB and must come only with monitor.meter")
    return int(kilobytes) / 1024


def main() -> int:
    """Measure and print the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    chosen = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, bare, wrapped = f"http://127.0.0.1:{server.server_port}", [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(chosen.rounds):
            bare.append(resident_mb(chosen.seconds, "", ""))
            wrapped.append(resident_mb(chosen.seconds, url, f"{folder}/{number}"))
    server.shutdown()
    base, own = statistics.median(bare), statistics.median(wrapped)
    if not Sink.taken:
        raise SystemExit("no window arrived: the sender was not at work")
    print(f"bare {base:.1f} MB, wrapped {own:.1f} MB, {Sink.taken} requests taken, OpenTelemetry's SDK not imported")
    added = own - base
    print(f"{'memory added, MB':40} {added:8.1f}  target <= 20.0  {'PASS' if added <= 20 else 'FAIL'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
