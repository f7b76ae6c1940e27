"""A device's process is killed at random moments; a real collector proves what arrived and what was counted as lost.

``durable``: every window that was ever closed arrives, and a second copy has the same bytes. Default mode: what is lost
was in memory, and the next start counts it to the unit; the only windows that may be counted as lost and arrive all
the same are those of the one request whose answer the death cut off.
"""

import contextlib
import gzip
import http.server
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

ZYGOTE = r"""
import os, sys, time
import device_sdk, device_sdk.engine, numpy
from device_sdk import Monitor
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
url, state, mode, log = sys.argv[1:]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        told = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        print("started", os.getpid(), flush=True)
        monitor = Monitor(endpoint=url, state_dir=state, spool=mode, window_s=0.05)
        if line.startswith("end"):
            time.sleep(0.2)
            print("sent", monitor.flush(30), monitor.close(30), flush=True)
            os._exit(0)
        session, last = monitor._engine.session, -1
        print("up", flush=True)
        while True:
            with monitor.measure("m"):
                time.sleep(0.001)
            if session.vital.last_sequence > last:
                last = session.vital.last_sequence
                os.write(told, f"{session.stream.instance_id} {last}\n".encode())
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


class Collector:
    """Takes requests, sometimes refuses, sometimes takes one and says nothing."""

    def __init__(self, dice):
        self.dice = dice
        self.lock = threading.Lock()
        self.windows = {}  # (stream, sequence, count) -> bytes
        self.differing = 0
        self.lost = 0
        self.last_sequence = {}  # by stream, of its session.end
        self.last_request = set()
        self.in_doubt = 0
        self.calm = False
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
                mood = 1.0 if collector.calm else collector.dice.random()
                if mood < 0.1:
                    self.answer(503)
                    return
                collector.take(self.path, body)
                if mood < 0.15:
                    self.connection.close()  # taken, and the device does not know
                    return
                self.answer(200)

            def answer(self, status):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if status == 503:
                    self.send_header("Retry-After", "0")
                self.end_headers()

            def handle(self):
                with contextlib.suppress(OSError, ValueError):
                    super().handle()

            def log_message(self, *_arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def take(self, path, body):
        with self.lock:
            if path.endswith("metrics"):
                self.take_metrics(metrics_service_pb2.ExportMetricsServiceRequest.FromString(body))
            else:
                self.take_logs(logs_service_pb2.ExportLogsServiceRequest.FromString(body))

    def take_metrics(self, request):
        self.last_request = set()
        for resource in request.resource_metrics:
            stream = _text(resource.resource.attributes, "service.instance.id")
            sums = {x.name: x for x in resource.scope_metrics[0].metrics}
            if "edge.window.sequence" not in sums:
                continue
            last = sums["edge.window.sequence"].gauge.data_points[0].as_int
            count = sums["edge.window.count"].sum.data_points[0].as_int
            raw = resource.SerializeToString()
            known = self.windows.setdefault((stream, last, count), raw)
            self.differing += known != raw
            self.last_request |= {(stream, n) for n in range(last - count + 1, last + 1)}
            if known is raw and "edge.loss.windows" in sums:
                for point in sums["edge.loss.windows"].sum.data_points:
                    assert _text(point.attributes, "edge.loss.reason") == "shutdown"
                    self.lost += point.as_int

    def take_logs(self, request):
        for resource in request.resource_logs:
            for record in resource.scope_logs[0].log_records:
                if record.event_name == "session.end":
                    stream = _text(resource.resource.attributes, "service.instance.id")
                    for pair in record.attributes:
                        if pair.key == "edge.session.last_sequence":
                            self.last_sequence[stream] = pair.value.int_value

    def covered(self):
        found = {}
        for stream, last, count in self.windows:
            numbers = found.setdefault(stream, set())
            inside = set(range(last - count + 1, last + 1))
            assert not numbers & inside, "one window arrived in two different forms"
            numbers |= inside
        return found

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def _text(pairs, key):
    return next((pair.value.string_value for pair in pairs if pair.key == key), "")


class Device:
    """A process that makes and runs monitored programs, one after the other."""

    def __init__(self, url, folder, mode):
        self.log = folder / "closed"
        self.log.touch()
        environment = {**os.environ, "FLEETPULSE_DEVICE_TIMEOUT_S": "2"}
        command = [sys.executable, "-c", ZYGOTE, url, str(folder / "state"), mode, str(self.log)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self, word):
        for line in self.process.stdout:
            if line.startswith(word):
                return line.split()
        raise AssertionError(f"the device ended before it said {word!r}")

    def die_after(self, seconds, up):
        """Start a program and kill it ``seconds`` after it is ``up``, or after its very start."""
        self.say("run")
        pid = int(self.hear("started")[1])
        if up:
            self.hear("up")
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        self.hear("dead")

    def end(self):
        """Start a last program that sends everything and ends well."""
        self.say("end")
        assert self.hear("sent")[1:] == ["True", "True"]
        self.hear("dead")
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def closed(self):
        found = {}
        for line in self.log.read_text().splitlines():
            stream, last = line.split()
            found[stream] = max(found.get(stream, -1), int(last))
        return found


@pytest.fixture
def kills(request):
    return 1000 if request.config.getoption("--long") else 15


def kill_often(kills, folder: Path, mode: str, seed: int):
    dice = random.Random(seed)
    collector = Collector(random.Random(seed + 1))
    device = Device(collector.url, folder, mode)
    try:
        for _ in range(kills):
            with collector.lock:
                collector.last_request = set()
            device.die_after(dice.uniform(0, 0.3), up=dice.random() < 0.85)
            with collector.lock:
                collector.in_doubt += len(collector.last_request)
        collector.calm = True
        device.end()
        closed = device.closed()
        assert len(closed) > kills // 3
        return collector, closed
    finally:
        device.process.kill()
        device.process.wait()
        collector.close()


@pytest.mark.timeout(3600)
def test_durable_every_closed_window_arrives_exactly_once(kills, tmp_path):
    collector, closed = kill_often(kills, tmp_path, "durable", 1)
    covered = collector.covered()
    missing = {(s, n) for s, last in closed.items() for n in range(last + 1) if n not in covered.get(s, ())}
    windows = sum(len(numbers) for numbers in covered.values())
    print(f"{kills} kills, {windows} windows arrived, {len(missing)} missing, {collector.lost} counted as lost")
    assert not missing
    assert collector.differing == 0
    assert collector.lost == 0


@pytest.mark.timeout(3600)
def test_in_memory_what_is_lost_is_counted_by_the_next_start(kills, tmp_path):
    collector, closed = kill_often(kills, tmp_path, "memory", 2)
    covered = collector.covered()
    ends = {stream: collector.last_sequence.get(stream, last) for stream, last in closed.items()}
    missing = sum(n not in covered.get(s, ()) for s, last in ends.items() for n in range(last + 1))
    windows = sum(len(numbers) for numbers in covered.values())
    print(
        f"{kills} kills, {windows} windows arrived, {missing} missing, {collector.lost} counted,"
        f" {collector.in_doubt} in requests whose answer a death may have cut off"
    )
    assert collector.differing == 0
    assert missing <= collector.lost <= missing + collector.in_doubt
