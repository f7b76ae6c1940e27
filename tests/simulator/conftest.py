import gzip
import io
import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


class Capture:
    """A collector that acknowledges everything and remembers it; ``bodies`` holds (path, decompressed bytes)."""

    def __init__(self):
        self.bodies = []
        capture = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                capture.bodies.append((self.path, body))
                answer = b"" if self.path.startswith("/v1/") else b"{}"
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf" if not answer else "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_GET(self):
                kind, body = capture.get(self.path)
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def get(self, path):
        raise NotImplementedError(path)

    def points(self):
        """Yield (resource attributes, metric name, point) of every window; the envelopes of attempts are left out."""
        for path, body in self.bodies:
            if path != "/v1/metrics":
                continue
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                attributes = {pair.key: value_of(pair.value) for pair in resource.resource.attributes}
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        data = getattr(metric, metric.WhichOneof("data"))
                        for point in data.data_points:
                            yield attributes, metric.name, point

    def logs(self):
        """Yield (resource attributes, log record) of every event."""
        for path, body in self.bodies:
            if path != "/v1/logs":
                continue
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                attributes = {pair.key: value_of(pair.value) for pair in resource.resource.attributes}
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        yield attributes, record

    def sums(self):
        """Return {device: {metric: sum of values, or of a histogram's counts}}."""
        sums = defaultdict(lambda: defaultdict(float))
        for attributes, name, point in self.points():
            sums[attributes["device.id"]][name] += amount(point)
        return sums


def value_of(value):
    return getattr(value, value.WhichOneof("value"))


def amount(point):
    if hasattr(point, "count"):
        return point.count
    return point.as_int if point.WhichOneof("value") == "as_int" else point.as_double


class Stack(Capture):
    """Stands for a stack: takes telemetry in and answers the query API from it, in pages of 500 points."""

    def __init__(self, alerts=()):
        super().__init__()
        self.alerts = list(alerts)
        self.lost = 0
        self._known = (0, {})

    def amounts(self, metric):
        """Return [(device, amount)] of a metric's points; decoded once, as long as nothing more arrives."""
        arrived = len(self.bodies)
        if self._known[0] != arrived:
            found = defaultdict(list)
            for attributes, name, point in super().points():
                found[name].append((attributes["device.id"], amount(point)))
            self._known = (arrived, found)
        return self._known[1][metric]

    def get(self, path):
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        words = parts.path.removeprefix("/api/v1/").split("/")
        if words[0] == "metrics" and len(words) == 3:
            return getattr(self, words[2])(words[1], query)
        items = {"alerts": self.alerts if len(words) == 1 else [], "metrics": [{"points": 7}, {"points": 5}]}
        return self.json(items.get(words[0], []))

    def json(self, items):
        return "application/json", json.dumps({"items": items, "next": None, "as_of_ns": 0}).encode()

    def quantiles(self, metric, query):
        assert query["by"] == "device.id"
        counts = defaultdict(int)
        for device, n in self.amounts(metric):
            counts[device] += n
        return self.json([{"by": {"device.id": device}, "count": n} for device, n in counts.items()])

    def points(self, metric=None, query=None):
        if metric is None:
            return super().points()
        rows = self.amounts(metric)[self.lost if metric == "edge.window.count" else 0 :]
        start = int(query.get("cursor", 0))
        page = rows[start : start + 500]
        table = pa.table(
            {
                "device_id": pa.array([device for device, _ in page], pa.string()),
                "value_int": pa.array([n if isinstance(n, int) else None for _, n in page], pa.int64()),
                "value_double": pa.array([n if isinstance(n, float) else None for _, n in page], pa.float64()),
            }
        ).replace_schema_metadata({"next": str(start + 500) if start + 500 < len(rows) else ""})
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return "application/vnd.apache.arrow.stream", sink.getvalue()


@pytest.fixture
def capture():
    server = Capture()
    yield server
    server.close()


@pytest.fixture
def stack_server():
    server = Stack()
    yield server
    server.close()
