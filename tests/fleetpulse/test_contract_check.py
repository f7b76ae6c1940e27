"""``fleetpulse contract check``: the SDK's own output conforms; each way to get it wrong is named."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from device_sdk import Feature, Monitor, Signals
from device_sdk.contract.check import Checker
from device_sdk.contract.document import contract_document
from device_sdk.testing import ManualClock, MemorySink, connect
from fleetpulse.cli import cli
from fleetpulse.commands.contract import check_body

MODEL = Path(__file__).resolve().parents[2] / "simulator" / "models" / "digits.onnx"
Mangle = Callable[[Any], None]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[bytes], list[bytes]]:
    """Return what a real Monitor sends in three windows: (metrics requests, logs requests)."""
    clock = ManualClock(1_700_000_000_000_000_000)
    monitor = Monitor(state_dir=tmp_path_factory.mktemp("device"), clock=clock, resource={"edge.device.tier": "a"})
    sink = MemorySink()
    connect(monitor, sink)
    features = (Feature("mean", kind="mean", center=0.3, unit=0.03),)
    session = monitor.wrap(onnxruntime.InferenceSession(str(MODEL)), signals=Signals(features=features))
    name = session.get_inputs()[0].name
    shape = [extent if isinstance(extent, int) else 1 for extent in session.get_inputs()[0].shape]
    for _ in range(3):
        session.run(None, {name: np.random.default_rng(1).random(shape, dtype=np.float32)})
        clock.advance(60_000_000_000)
        monitor.step()
        monitor.flush()
    monitor.close()
    return (
        [body for url, body in sink.requests if url.endswith("metrics")],
        [body for url, body in sink.requests if url.endswith("logs")],
    )


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["contract", "check", *arguments], standalone_mode=False)
    if result.exception is not None:
        return 1, str(result.exception)
    return int(result.return_value or 0), result.output


def test_the_sdks_own_output_conforms(sent: tuple[list[bytes], list[bytes]], tmp_path: Path) -> None:
    files = []
    for kind, bodies in zip(("metrics", "logs"), sent, strict=True):
        for number, body in enumerate(bodies):
            file = tmp_path / f"{kind}-{number}.binpb"
            file.write_bytes(gzip.compress(body) if number % 2 else body)
            files.append(str(file))
    code, output = run(*files)
    assert code == 0, output
    assert output.startswith("conforms to the contract: 3 windows, ")


def test_overflow_and_randomised_points_of_the_sdk_conform(tmp_path: Path) -> None:
    """Ten models, two more than confidence may have series, and all that is sent of inputs and outputs randomised."""
    clock, sink = ManualClock(1_700_000_000_000_000_000), MemorySink()
    monitor = Monitor(
        state_dir=tmp_path / "device",
        clock=clock,
        privacy_epsilon=1.0,
        privacy_epsilon_day=1e6,
        identity_rotation_s=3600,
    )
    connect(monitor, sink)
    inner = onnxruntime.InferenceSession(str(MODEL))
    name = inner.get_inputs()[0].name
    shape = [extent if isinstance(extent, int) else 1 for extent in inner.get_inputs()[0].shape]
    for number in range(10):
        signals = Signals(classes=tuple("0123456789"), features=(Feature("mean", kind="mean"),))
        session = monitor.wrap(inner, model=f"m{number}", version="1", signals=signals)
        session.run(None, {name: np.zeros(shape, dtype=np.float32)})
    clock.advance(60_000_000_000)
    monitor.step()
    monitor.close()
    files = []
    for number, (_, body) in enumerate(sink.requests):
        (tmp_path / f"{number}.binpb").write_bytes(body)
        files.append(str(tmp_path / f"{number}.binpb"))
    assert any(b"otel.metric.overflow" in body and b"edge.privacy.categories" in body for _, body in sink.requests)
    code, output = run(*files)
    assert code == 0, output


def test_json_is_checked_alike(sent: tuple[list[bytes], list[bytes]], tmp_path: Path) -> None:
    body = sent[0][0]
    document = MessageToDict(ExportMetricsServiceRequest.FromString(body), use_integers_for_enums=True)
    file = tmp_path / "window.json"
    file.write_text(json.dumps(document))
    assert run(str(file))[0] == 0
    file.write_text(json.dumps(document).replace("edge.session.time", "edge.session.tine"))
    code, output = run(str(file))
    assert code == 1
    assert "edge.session.tine: no such metric in the contract" in output


def metric(request: Any, name: str) -> Any:
    scope = request.resource_metrics[0].scope_metrics[0]
    return next(item for item in scope.metrics if item.name == name)


def _unit(request: Any) -> None:
    metric(request, "edge.inference.duration").unit = "ms"


def _cumulative(request: Any) -> None:
    metric(request, "edge.inference.duration").exponential_histogram.aggregation_temporality = 2


def _sum_of_input(request: Any) -> None:
    metric(request, "edge.input.value").exponential_histogram.data_points[0].sum = 3.0


def _missing_point(request: Any) -> None:
    scope = request.resource_metrics[0].scope_metrics[0]
    del scope.metrics[0]


def _odd_attribute(request: Any) -> None:
    point = metric(request, "edge.inference.duration").exponential_histogram.data_points[0]
    point.attributes.add(key="user.name").value.string_value = "eve"


def _odd_word(request: Any) -> None:
    point = metric(request, "edge.inference.duration").exponential_histogram.data_points[0]
    point.attributes.add(key="error.type").value.string_value = "boom"


def _two_times(request: Any) -> None:
    metric(request, "edge.session.time").sum.data_points[0].time_unix_nano += 1


def _no_instance(request: Any) -> None:
    for pair in request.resource_metrics[0].resource.attributes:
        if pair.key == "service.instance.id":
            pair.value.string_value = ""


def _host_name(request: Any) -> None:
    request.resource_metrics[0].resource.attributes.add(key="host.name").value.string_value = "cam-7.local"


def _bounds(request: Any) -> None:
    metric(request, "edge.output.confidence").histogram.data_points[0].explicit_bounds[0] = 0.5


def _wrong_count(request: Any) -> None:
    metric(request, "edge.inference.duration").exponential_histogram.data_points[0].count += 1


def _twice(request: Any) -> None:
    points = metric(request, "edge.session.time").sum.data_points
    points.append(points[0])


def _kind(request: Any) -> None:
    item = metric(request, "edge.session.time")
    item.gauge.data_points.add(as_double=1.0)


@pytest.mark.parametrize(
    ("mangle", "message"),
    [
        (_unit, "unit 'ms'; the contract says 's'"),
        (_cumulative, "everything else is delta"),
        (_sum_of_input, "sum must not be sent"),
        (_missing_point, "the window has"),
        (_odd_attribute, "attribute user.name is not allowed here"),
        (_odd_word, "error.type='boom': known are"),
        (_two_times, "all points of a window share one"),
        (_no_instance, "service.instance.id is missing"),
        (_host_name, "host.name is not in the contract"),
        (_bounds, "not the frozen ones"),
        (_wrong_count, "count says"),
        (_twice, "two points of one series"),
        (_kind, "is a gauge; the contract says sum"),
    ],
)
def test_each_mistake_is_named(sent: tuple[list[bytes], list[bytes]], mangle: Mangle, message: str) -> None:
    request = ExportMetricsServiceRequest.FromString(sent[0][0])
    mangle(request)
    checker = Checker()
    found = [str(finding) for finding in checker.metrics(request)]
    assert any(message in finding for finding in found), found
    assert checker.errors


def test_a_gap_in_the_sequence_and_in_time_is_found(sent: tuple[list[bytes], list[bytes]]) -> None:
    checker = Checker()
    for number in (0, 2):
        found = checker.metrics(ExportMetricsServiceRequest.FromString(sent[0][number]))
    assert any("a gap: 2 follows 0" in str(finding) for finding in found)
    late = ExportMetricsServiceRequest.FromString(sent[0][1])
    for item in late.resource_metrics[0].scope_metrics[0].metrics:
        for point in getattr(item, item.WhichOneof("data")).data_points:
            point.start_time_unix_nano += 5
    other = Checker()
    other.metrics(ExportMetricsServiceRequest.FromString(sent[0][0]))
    assert any("5 ns after the end" in str(finding) for finding in other.metrics(late))


def test_events_are_checked(sent: tuple[list[bytes], list[bytes]]) -> None:
    request = ExportLogsServiceRequest.FromString(sent[1][0])
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    record.body.string_value = "hello"
    record.attributes.add(key="who").value.string_value = "eve"
    for pair in record.attributes:
        if pair.key == "edge.event.sequence":
            pair.value.int_value = 77
    found = " ".join(str(finding) for finding in Checker().logs(request))
    assert "has a body" in found
    assert "attribute who is not allowed" in found
    assert "log.record.uid must be" in found


def test_another_scope_is_a_note_and_not_an_error() -> None:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    for key in ("service.name", "service.instance.id", "device.id", "edge.boot.id"):
        resource.resource.attributes.add(key=key).value.string_value = "x"
    scope = resource.scope_metrics.add()
    scope.scope.name = "mine"
    scope.metrics.add(name="queue.depth").gauge.data_points.add(as_int=1)
    checker = Checker()
    assert [finding.level for finding in checker.metrics(request)] == ["note"]
    assert checker.errors == 0


@pytest.mark.parametrize("body", [b"\xff\xff\xff\xff", b"{not json", b"\x1f\x8bbroken"])
def test_rubbish_is_an_error_that_names_the_file(tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "rubbish.bin"
    file.write_bytes(body)
    code, message = run(str(file))
    assert code == 1
    assert "rubbish.bin" in message


def test_nothing_is_not_conformance(tmp_path: Path) -> None:
    file = tmp_path / "empty.binpb"
    file.write_bytes(b"")
    code, output = run(str(file))
    assert code == 1
    assert "nothing of the contract was seen" in output


def test_wrong_usage_is_refused() -> None:
    assert "name files, or give --listen" in run()[1]


def test_a_live_emitter_is_checked_over_http(sent: tuple[list[bytes], list[bytes]], capsys: Any) -> None:
    lines: list[str] = []
    listening = threading.Event()

    def note(text: str = "", **_rest: Any) -> None:
        lines.append(text)
        listening.set()

    result: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fleetpulse.commands.contract.click.echo", note)

        def serve() -> None:
            arguments = ["contract", "check", "--listen", "--port", "0", "--windows", "2"]
            result.append(cli.main(arguments, standalone_mode=False))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert listening.wait(20)
        url = lines[0].split()[2]
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\nbody")
            assert raw.makefile("rb").readline().split()[1] == b"411"
        answers = [httpx.post(url + "/v1/metrics", content=body) for body in (sent[0][0], b"\xff\xff", sent[0][1])]
        assert [answer.status_code for answer in answers] == [200, 400, 200]
        thread.join(20)
    assert not thread.is_alive()
    assert result == [1]
    assert any("not an OTLP request" in line for line in lines)
    assert lines[-1].startswith("1 errors in 2 windows")


def test_check_body_tells_logs_from_metrics_by_their_content(sent: tuple[list[bytes], list[bytes]]) -> None:
    checker = Checker()
    assert not check_body(checker, sent[1][0])
    assert checker.events
    assert not checker.windows


def test_the_example_of_the_document_conforms() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", contract_document(), re.DOTALL)
    checker = Checker()
    assert not [str(finding) for finding in check_body(checker, example.encode())]
    assert (checker.windows, checker.points) == (1, 5)
