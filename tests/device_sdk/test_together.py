"""Everything at once in one real process: what arrives is exact, as the contract says, and holds no secret."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from sdk_kit import classifier, points

from device_sdk.contract import settings as wire
from device_sdk.contract.check import Checker

SECRET = "S3cretWord"
PROGRAM = f"""
import asyncio, logging, os, sys, threading, time
logging.disable(logging.CRITICAL)
import numpy as np, onnxruntime
from device_sdk import Feature, Monitor, Signals
from device_sdk.selftest import Golden

url, model, state = sys.argv[1:]
secret = {SECRET!r}
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
labels = {{"edge.device.tier": "t", "edge.label.line": "7", secret: secret}}
signals = Signals(features=(Feature("first", column=0),))
common = dict(endpoint=url, token=secret, window_s=0.2, resource=labels, signals=signals)
rotating = Monitor(state_dir=state + "a", identity_rotation_s=3600, privacy_min_count=5, **common)
asking = Monitor(state_dir=state + "b", consent=True, privacy_clip=10, spool="durable", **common)
ones = np.ones((4, 64), np.float32)
golden = Golden(inputs={{"x": ones}}, outputs={{"p": session.run(None, {{"x": ones}})[0]}})

def work(monitor, times, seed):
    rows = np.random.default_rng(seed).normal(size=(4, 64)).astype(np.float32)
    wrapped = monitor.wrap(session)
    for at in range(times):
        wrapped.run(None, {{"x": rows[: 1 + at % 4]}})
        with monitor.pipeline("digits") as answer, answer.run, monitor.measure(f"callable-{{at % 3}}", samples=at % 2):
            pass
        monitor.flag(f"flag-{{at % 30}}", f"variant-{{at % 2}}")
        monitor.outcome("digits", correct=bool(at % 2))
        try:
            with monitor.measure("broken"):
                raise RuntimeError("the text " + secret + " of /home/" + secret)
        except RuntimeError:
            pass
        if at % 20 == 0:
            time.sleep(0.02)

def child(seed):
    work(rotating, 10, seed)
    rotating.update("app", "1", "2").succeeded()
    rotating.selftest(golden, rotating.wrap(session))
    rotating.close(5)
    os._exit(0)

async def cancelled():
    @rotating.measure("cancelled")
    async def long():
        await asyncio.sleep(60)
    tasks = [asyncio.create_task(long()) for _ in range(20)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

if not rotating.selftest(golden, rotating.wrap(session), every_s=60).passed:
    sys.exit(2)
threads = [threading.Thread(target=work, args=(monitor, 100, at)) for at, monitor in enumerate([rotating, asking] * 8)]
for thread in threads:
    thread.start()
children = []
for seed in range(3):
    children.append(os.fork() or child(seed))
    update = rotating.update("model", str(seed), str(seed + 1), name="digits")
    update.succeeded() if seed % 2 else update.failed("checksum", "verify")
    time.sleep(0.1)
for thread in threads:
    thread.join()
codes = [os.waitpid(pid, 0)[1] for pid in children]
asyncio.run(cancelled())
for monitor in (rotating, asking):
    if not (monitor.flush(10) and monitor.close(10)):
        sys.exit(3)
    work(monitor, 5, 0)  # nothing is seen after close, and nothing breaks
    monitor.update("app", "1", "2").failed("x")
    monitor.session_end("exit")
    monitor.step()
    if not (monitor.flush(1) and monitor.close(1)):
        sys.exit(4)
sys.exit(5 if any(codes) else 0)
"""


def test_all_features_at_once_are_exact_within_the_contract_and_tell_no_secret(collector: Any, tmp_path: Path) -> None:
    folder = tmp_path / SECRET
    folder.mkdir()
    text = wire.canonical({"window_s": 0.4, "sample_every": 4, "signal_level": "outputs"})
    document = text if isinstance(text, bytes) else text.encode()
    collector.settings = wire.document_id(document)
    collector.documents[collector.settings] = (200, document)
    collector.answers = [(503, {"Retry-After": "0"}, b""), (429, {"Retry-After": "0"}, b""), (500, {}, b"")]
    script = folder / "program.py"
    script.write_text(PROGRAM)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "FLEETPULSE_", "PYTHON"))}
    model = classifier(folder / "digits.onnx")
    done = subprocess.run(
        [sys.executable, str(script), collector.url, str(model), str(folder / "state")],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    runs: Counter[str] = Counter()
    for name, at, point in points(collector.metrics()):
        if name == "edge.inference.duration":
            runs[at["edge.model.name"]] += point.count
    each = 16 * 100 + 3 * 10
    assert runs.pop("digits") == runs.pop("broken") == each
    assert runs.pop("cancelled") == 20
    assert sum(runs.values()) == each
    checker = Checker()
    findings = [finding for request in collector.metrics() for finding in checker.metrics(request)]
    findings += [finding for request in collector.logs() for finding in checker.logs(request)]
    assert [str(finding) for finding in findings if finding.level == "error"] == []
    sent = b"".join(body for _, _, body in collector.requests)
    for word in (SECRET, str(tmp_path), socket.gethostname(), "the text", "/home", "RuntimeError('"):
        assert word.encode() not in sent, word
