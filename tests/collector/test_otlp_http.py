"""OTLP/HTTP conformance against a real server on loopback: each line of the specification that servers can break."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_kit import JSON, MINUTE, PROTOBUF, Served, T, serving, stored
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from store_kit import Request

from collector.api.options import IngestOptions

PATHS = ("/v1/metrics", "/v1/logs", "/v1/traces")
GZIP = {"content-encoding": "gzip"}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(IngestOptions(tmp_path_factory.mktemp("ingest"), report_interval_s=0.1)) as served:
        yield served
        assert served.app.counters.internal_errors == 0
        assert served.app.admission.inflight_bytes == 0


def window(name: str, count: int = 1) -> bytes:
    request = Request(**{"service.instance.id": name})
    for n in range(count):
        request.sum(name, T, T + MINUTE + n, 1)
    return request.message.SerializeToString()


def gauge_json(name: str, point: dict[str, Any]) -> bytes:
    metric = {"name": name, "gauge": {"dataPoints": [point]}}
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()


def status_of(response: Any) -> Status:
    if response.headers["content-type"] == PROTOBUF["content-type"]:
        return Status.FromString(response.content)
    document = json.loads(response.content)
    return Status(code=document["code"], message=document["message"])


# --- success ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"", b"\x0a\x00"])
def test_empty_requests_and_envelopes_are_full_success(server: Served, path: str, body: bytes) -> None:
    response = server.post(path, body)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == PROTOBUF["content-type"]


def test_full_success_leaves_partial_success_unset_and_is_durable_when_answered(server: Served) -> None:
    response = server.post(content=window("full.success"))
    assert response.status_code == 200
    assert not ExportMetricsServiceResponse.FromString(response.content).HasField("partial_success")
    assert "full.success" in server.metrics()


@pytest.mark.parametrize("path", PATHS)
def test_json_is_answered_in_json(server: Served, path: str) -> None:
    response = server.post(path, b"{}", **JSON)
    assert (response.status_code, response.headers["content-type"], response.json()) == (200, "application/json", {})


@pytest.mark.parametrize("type_", ["application/json; charset=utf-8", "Application/JSON"])
def test_content_type_parameters_and_case_do_not_matter(server: Served, type_: str) -> None:
    assert server.post(content=b"{}", **{"content-type": type_}).status_code == 200


def test_json_points_are_stored(server: Served) -> None:
    point = {"timeUnixNano": str(T), "asInt": "3", "unknownField": 1}
    body = {
        "resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "as.json", "gauge": {"dataPoints": [point]}}]}]}]
    }
    assert server.post(content=json.dumps(body).encode(), **JSON).json() == {}
    assert "as.json" in server.metrics()


@pytest.mark.parametrize("encoding", ["gzip", "GZIP"])
def test_gzip_is_taken(server: Served, encoding: str) -> None:
    name = f"gzip.{encoding}"
    assert server.post(content=gzip.compress(window(name)), **{"content-encoding": encoding}).status_code == 200
    assert name in server.metrics()


@pytest.mark.parametrize("encoding", ["none", "identity", ""])
def test_no_compression_has_three_names(server: Served, encoding: str) -> None:
    assert server.post(content=window("plain"), **{"content-encoding": encoding}).status_code == 200


def test_concatenated_gzip_members_are_one_body(server: Served) -> None:
    body = gzip.compress(window("member.one")) + gzip.compress(window("member.two")) + b"\0" * 8
    assert server.post(content=body, **GZIP).status_code == 200
    assert {"member.one", "member.two"} <= server.metrics()


def test_a_chunked_body_without_length_is_taken(server: Served) -> None:
    body = window("chunked")
    response = server.post(content=(body[at : at + 7] for at in range(0, len(body), 7)))
    assert response.status_code == 200
    assert "chunked" in server.metrics()


def test_the_answer_is_not_compressed_and_the_connection_stays(server: Served) -> None:
    response = server.post(content=window("keep"), **{"accept-encoding": "gzip"})
    assert "content-encoding" not in response.headers
    assert response.headers.get("connection", "keep-alive") != "close"


# --- partial success --------------------------------------------------------------------------------------------


def test_a_partly_good_batch_is_200_with_exact_counts_and_reasons(server: Served) -> None:
    request = Request().sum("partly.good", T, T + 1, 1).sum("bad", T + 1, T, 1).sum("bad", T + 1, T, 1).gauge("", T, 1)
    body = request.message.SerializeToString()
    response = server.post(content=body)
    partial = ExportMetricsServiceResponse.FromString(response.content).partial_success
    assert (response.status_code, partial.rejected_data_points) == (200, 3)
    assert "2 x start_after_time" in partial.error_message
    assert "1 x name" in partial.error_message
    assert "partly.good" in server.metrics()
    assert "bad" not in server.metrics()


def test_partial_success_in_json_spells_counts_as_json_does(server: Served) -> None:
    body = {
        "resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": [{"asInt": 1}]}}]}]}]
    }
    response = server.post(content=json.dumps(body).encode(), **JSON)
    assert response.status_code == 200
    assert response.json()["partialSuccess"]["rejectedDataPoints"] == "1"


def test_dropped_exemplars_are_a_warning_that_rejects_nothing(server: Served) -> None:
    request = Request().sum("with.exemplar", T, T + 1, 1)
    data = request.message.resource_metrics[0].scope_metrics[0].metrics[0].sum
    data.data_points[0].exemplars.add(as_int=1, time_unix_nano=T)
    partial = ExportMetricsServiceResponse.FromString(
        server.post(content=request.message.SerializeToString()).content
    ).partial_success
    assert partial.rejected_data_points == 0
    assert "1 exemplars dropped" in partial.error_message


def test_refused_log_records_are_counted(server: Served) -> None:
    records = b'[{"timeUnixNano":"18446744073709551615"},{"timeUnixNano":"1"}]'
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":' + records + b"}]}]}"
    assert server.post("/v1/logs", body, **JSON).json()["partialSuccess"]["rejectedLogRecords"] == "1"
    assert not ExportLogsServiceResponse.FromString(server.post("/v1/logs").content).HasField("partial_success")


def test_traces_are_answered_with_every_span_rejected(server: Served) -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="a")
    response = server.post("/v1/traces", request.SerializeToString())
    partial = ExportTraceServiceResponse.FromString(response.content).partial_success
    assert (response.status_code, partial.rejected_spans) == (200, 1)
    assert "spans are not kept" in partial.error_message


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [PROTOBUF, JSON])
def test_an_undecodable_body_is_400_with_status_in_the_request_s_encoding(
    server: Served, path: str, headers: dict[str, str]
) -> None:
    response = server.post(path, b"\xff\xff\xff", **headers)
    assert (response.status_code, response.headers["content-type"]) == (400, headers["content-type"])
    assert status_of(response).code == 3
    assert status_of(response).message
    assert "retry-after" not in response.headers


def test_a_bad_request_carries_its_detail(server: Served) -> None:
    status = Status.FromString(server.post(content=b"\xff").content)
    detail = BadRequest()
    assert status.details[0].Unpack(detail)
    assert detail.field_violations[0].description == status.message
    as_json = server.post(content=b"[]", **JSON).json()
    assert as_json["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"


def test_a_small_body_of_too_many_items_is_413(server: Served) -> None:
    response = server.post(content=gzip.compress(b"\x0a\x00" * 600_000), **GZIP)
    assert (response.status_code, status_of(response).code) == (413, 8)
    assert "send smaller batches" in status_of(response).message


def test_enum_names_in_json_are_400_and_say_where(server: Served) -> None:
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"SEVERITY_NUMBER_INFO"}]}]}]}'
    response = server.post("/v1/logs", body, **JSON)
    assert response.status_code == 400
    assert "logRecords[0].severityNumber" in response.json()["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"not gzip", gzip.compress(b"x")[:-1], gzip.compress(b"")[:-8] + b"\1" * 8, gzip.compress(b"") + b"trailing",
     zlib.compress(b"")],
    ids=["empty", "no gzip", "cut", "wrong checksum", "trailing", "zlib"],
)  # fmt: skip
def test_corrupt_gzip_is_400(server: Served, body: bytes) -> None:
    response = server.post(content=body, **GZIP)
    assert response.status_code == 400
    assert "gzip" in status_of(response).message


@pytest.mark.parametrize("encoding", ["deflate", "zstd", "br", "gzip, gzip"])
def test_other_encodings_are_415(server: Served, encoding: str) -> None:
    assert server.post(content=b"", **{"content-encoding": encoding}).status_code == 415


@pytest.mark.parametrize("type_", ["text/plain", "application/grpc", "", "application/protobuf"])
def test_other_content_types_are_415_with_status(server: Served, type_: str) -> None:
    response = server.post(content=b"", **{"content-type": type_})
    assert (response.status_code, response.headers["content-type"]) == (415, "application/json")
    assert "application/x-protobuf" in response.json()["message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_405(server: Served, method: str, path: str) -> None:
    response = server.client.request(method, server.url + path)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path",
    ["/v1/metric", "/v1/metrics/", "/healthz/", "/v1/settings/", "/", "/api/v1/metrics", "/docs", "/openapi.json"],
)
def test_nothing_else_is_served(server: Served, path: str) -> None:
    response = server.client.get(server.url + path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["title"]) == (404, "Not Found")
    for headers in (PROTOBUF, JSON):
        posted = server.client.post(server.url + path, headers=headers)
        assert (posted.status_code, posted.headers["content-type"]) == (404, headers["content-type"])
        assert status_of(posted).code == 5


def test_health_is_served_and_takes_no_other_method(server: Served) -> None:
    assert server.client.get(server.url + "/healthz").json() == {"status": "ok"}
    assert server.client.get(server.url + "/readyz").json() == {"status": "ready"}
    refused = server.client.post(server.url + "/healthz")
    assert (refused.status_code, refused.json()["title"]) == (405, "Method Not Allowed")


def test_a_page_that_rebinds_its_name_cannot_write(server: Served) -> None:
    for headers in ({"host": "evil.com"}, {"x-forwarded-for": "1.2.3.4"}, {"forwarded": "for=1.2.3.4"}):
        response = server.post(content=window("rebound"), **headers)
        assert (response.status_code, status_of(response).code) == (403, 7)
    assert "rebound" not in server.metrics()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(PATHS), st.sampled_from([PROTOBUF, JSON]), st.sampled_from("nrg"))
def test_random_bytes_never_are_a_server_error(
    server: Served, body: bytes, path: str, headers: dict[str, str], encoding: str
) -> None:
    encoded = gzip.compress(body) if encoding == "g" else body
    response = server.post(path, encoded, **headers, **({} if encoding == "n" else GZIP))
    assert response.status_code in (200, 400)


# --- connections ------------------------------------------------------------------------------------------------


def raw(server: Served, payload: bytes, *, close: bool = False) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(payload)
        if close:
            return b""
        return connection.recv(4096)


def test_a_length_that_is_no_number_is_refused_and_the_server_lives(server: Served) -> None:
    head = b"POST /v1/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    for length in (b"ten", b"-1", b"9" * 30):
        assert raw(server, head + length + b"\r\n\r\n").split(b" ")[1].startswith(b"4")
    assert server.post().status_code == 200


def test_a_client_that_hangs_up_in_its_body_leaves_no_trace(server: Served) -> None:
    head = b"POST /v1/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-protobuf\r\n"
    raw(server, head + b"Content-Length: 1000\r\n\r\n" + window("hung.up"), close=True)
    assert server.post(content=window("after.hang.up")).status_code == 200
    assert "hung.up" not in server.metrics()


# --- interop ----------------------------------------------------------------------------------------------------


EXPORTER = """
import sys
from opentelemetry import metrics
from opentelemetry._logs import SeverityNumber, LogRecord
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

url = sys.argv[1]
resource = Resource({"service.instance.id": "otel-sdk", "edge.device.tier": "gateway"})
exporter = OTLPMetricExporter(url + "/v1/metrics", compression=Compression.Gzip)
views = [View(instrument_name="otel.exp", aggregation=ExponentialBucketHistogramAggregation())]
provider = MeterProvider([PeriodicExportingMetricReader(exporter, 3600_000)], resource, views=views)
meter = provider.get_meter("interop", "1.2")
meter.create_counter("otel.counter", "{run}").add(3, {"k": "v"})
meter.create_up_down_counter("otel.updown").add(-2)
meter.create_histogram("otel.hist", "s").record(0.25)
meter.create_histogram("otel.exp", "s").record(-0.0 + 0.125)
meter.create_gauge("otel.gauge").set(1.5)
assert provider.force_flush()
provider.shutdown()
logs = LoggerProvider(resource)
logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(url + "/v1/logs", compression=Compression.Gzip)))
logs.get_logger("interop").emit(LogRecord(
    timestamp=7, severity_number=SeverityNumber.WARN, body="hello", event_name="otel.event", attributes={"a": 1}))
logs.shutdown()
"""


def test_the_stock_opentelemetry_sdk_is_understood(server: Served) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    done = subprocess.run(
        [sys.executable, "-c", EXPORTER, server.url], capture_output=True, text=True, timeout=60, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    tables = stored(server.data_dir)
    series = {row["series"]: row for row in tables["series"].to_pylist() if row["scope_name"] == "interop"}
    points = {
        series[row["series"]]["metric"]: {**row, "kind": series[row["series"]]["kind"]}
        for row in tables["points"].to_pylist() if row["series"] in series
    }  # fmt: skip
    kinds = {"counter": "sum", "updown": "sum", "hist": "histogram", "exp": "exponential_histogram", "gauge": "gauge"}
    assert {name: point["kind"] for name, point in points.items()} == {
        f"otel.{name}": kind for name, kind in kinds.items()
    }
    assert (points["otel.counter"]["value_int"], points["otel.updown"]["value_int"]) == (3, -2)
    assert points["otel.gauge"]["value_double"] == 1.5
    assert (points["otel.hist"]["count"], points["otel.hist"]["sum"], sum(points["otel.hist"]["counts"])) == (
        1,
        0.25,
        1,
    )
    assert (points["otel.exp"]["min"], sum(points["otel.exp"]["positive_counts"])) == (0.125, 1)
    (event,) = [row for row in tables["logs"].to_pylist() if row["event_name"] == "otel.event"]
    assert (event["time_ns"], event["body"], event["severity_number"]) == (7, "hello", 13)
    assert "otel-sdk" in tables["streams"]["device_id"].to_pylist()
