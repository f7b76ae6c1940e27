"""``contract``: print the wire contract, or hold another program's output against it."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path
from typing import Any, Final

import click

from collector.errors import StackError
from device_sdk.contract.check import Checker, Finding

_FILE_BYTES_MAX: Final = 64 << 20


@click.group(invoke_without_command=True)
@click.option("--output", type=click.Path(path_type=Path), default=None, help="write here instead of printing")
@click.pass_context
def contract(context: click.Context, output: Path | None) -> None:
    """Print the wire contract as Markdown; `contract check` verifies an emitter of your own."""
    from device_sdk.contract.document import contract_document

    if context.invoked_subcommand is not None:
        return
    if output is None:
        click.echo(contract_document())
    else:
        output.write_text(contract_document(), encoding="utf-8")


@contract.command("check")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--listen", is_flag=True, help="be an OTLP/HTTP endpoint and check what arrives")
@click.option("--port", type=click.IntRange(0, 65535), default=4318, show_default=True, help="where to listen")
@click.option("--windows", type=click.IntRange(min=1), default=None, help="with --listen: stop after so many windows")
def check(files: tuple[Path, ...], listen: bool, port: int, windows: int | None) -> int:
    """Check FILES (OTLP requests: protobuf or JSON, gzip or not) or a live emitter against the contract.

    Exit code 0: it conforms; 1: something must be changed, or nothing of the contract was seen.
    """
    if bool(files) == listen:
        raise click.UsageError("name files, or give --listen")
    checker = Checker()
    if listen:
        _listen(checker, port, windows)
    for file in files:
        try:
            found = check_body(checker, _read(file))
        except ValueError as error:
            raise StackError(f"{file}: {error}") from None
        for finding in found:
            click.echo(f"{file.name}  {finding}")
    return _conclude(checker)


def check_body(checker: Checker, body: bytes, path: str = "") -> list[Finding]:
    """Return the findings of one request body; raises ``ValueError`` when it is no OTLP request of metrics or logs.

    ``path`` (``/v1/metrics`` or ``/v1/logs``) says what it is; without it the content does.
    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest as Logs
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest as Metrics

    from collector.api.decode import MalformedRequestError
    from collector.api.decode_json import from_json

    if body[:2] == b"\x1f\x8b":
        body = _gunzip(body)
    try:
        if body.lstrip()[:1] == b"{":
            logs = path.endswith("/v1/logs") or (not path and b'"resourceLogs"' in body)
            return checker.logs(from_json(Logs, body)) if logs else checker.metrics(from_json(Metrics, body))
        if path.endswith("/v1/metrics") or (not path and _are_metrics(Metrics, body)):
            return checker.metrics(Metrics.FromString(body))
        return checker.logs(Logs.FromString(body))
    except (DecodeError, MalformedRequestError) as error:
        raise ValueError(f"not an OTLP request: {error}") from None


def _are_metrics(kind: Any, body: bytes) -> bool:
    """Say whether a protobuf body holds named metrics: log records at the same place parse as something else."""
    from google.protobuf.message import DecodeError

    try:
        request = kind.FromString(body)
    except DecodeError:
        return False
    return any(item.name for r in request.resource_metrics for scope in r.scope_metrics for item in scope.metrics)


def _gunzip(body: bytes) -> bytes:
    from collector.api.http_body import RequestError, gunzip

    try:
        return gunzip(body, _FILE_BYTES_MAX)
    except RequestError as error:
        raise ValueError(error.message) from None


def _read(file: Path) -> bytes:
    size = file.stat().st_size
    if size > _FILE_BYTES_MAX:
        raise StackError(f"{file}: {size} bytes; a request has at most {_FILE_BYTES_MAX}")
    return file.read_bytes()


def _conclude(checker: Checker) -> int:
    seen = f"{checker.windows} windows, {checker.points} points, {checker.events} events"
    if not (checker.windows or checker.events):
        click.echo(f"nothing of the contract was seen ({seen})")
        return 1
    click.echo(f"{checker.errors} errors in {seen}" if checker.errors else f"conforms to the contract: {seen}")
    return 1 if checker.errors else 0


def _listen(checker: Checker, port: int, windows: int | None) -> None:
    """Answer OTLP/HTTP on loopback and print findings as they come, until ``windows`` were seen or Ctrl-C."""
    enough = threading.Event()
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            declared = self.headers.get("Content-Length") or ""
            length = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 18 else -1
            if not 0 <= length <= _FILE_BYTES_MAX:
                status, message = 411, f"error {self.path}: Content-Length {declared[:40]!r}; send the body's length"
                self.close_connection = True  # what follows is a body of unknown length
            else:
                body = self.rfile.read(length)
                with lock:
                    status, message = _heard(checker, body, self.path)
                    if windows is not None and checker.windows >= windows:
                        enough.set()
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            if message:
                click.echo(message)

        def log_message(self, *_arguments: object) -> None:
            """Print findings only."""

    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise StackError(f"port {port}: {error.strerror}; choose another with --port") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    click.echo(f"listening on http://127.0.0.1:{server.server_address[1]} for /v1/metrics and /v1/logs; Ctrl-C ends")
    try:
        enough.wait()
    except KeyboardInterrupt:
        click.echo("")
    finally:
        server.shutdown()
        server.server_close()


def _heard(checker: Checker, body: bytes, path: str) -> tuple[int, str]:
    """Check one request and return the status of its answer and what to print."""
    if not path.endswith(("/v1/metrics", "/v1/logs")):
        return 404, f"{path}: devices post to /v1/metrics and /v1/logs"
    try:
        found = check_body(checker, body, path)
    except ValueError as error:
        checker.errors += 1
        return 400, f"error {path}: {error}"
    return 200, "\n".join(map(str, found))


COMMANDS = (contract,)
