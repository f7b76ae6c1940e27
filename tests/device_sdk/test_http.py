"""Answers as servers, proxies and broken networks give them: whole, in pieces, chunked, cut off, or no HTTP at all."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_sdk.sending.http import request_bytes
from device_sdk.sending.transport import Answer, HttpTransport

TLS = Path(__file__).parent / "tls"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

CHUNKS = b"3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nT: u\r\n\r\n"


class Server:
    """Answers each request with the next of some bytes, in pieces, and may hang up after it."""

    def __init__(self, *answers: bytes, piece: int = 1 << 20, hang_up: bool = False, tls: bool = False) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answers, self._piece, self._hang_up = list(answers), piece, hang_up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._tls = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(TLS / "server.pem")
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}/v1/metrics"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while self._answers:
                connection, _ = self._listener.accept()
                self.connections += 1
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(ssl.SSLError), connection:
                    if self._tls is None:
                        self._answer(connection)
                        continue
                    with self._tls.wrap_socket(connection, server_side=True) as sealed:
                        self._answer(sealed)

    def _answer(self, connection: socket.socket) -> None:
        while self._answers and (request := connection.recv(65536)):
            self.requests.append(request)
            answer = self._answers.pop(0)
            for at in range(0, len(answer), self._piece):
                connection.sendall(answer[at : at + self._piece])
            if self._hang_up:
                return

    def close(self) -> None:
        self._answers.clear()
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def transport() -> Iterator[HttpTransport]:
    made = HttpTransport()
    yield made
    made.close()


def asked(transport: HttpTransport, *answers: bytes, piece: int = 1 << 20, hang_up: bool = False) -> list[Answer]:
    server = Server(*answers, piece=piece, hang_up=hang_up)
    try:
        return [transport.post(server.url, b"body", {"A": "b"}, 5) for _ in answers]
    finally:
        transport.close()
        server.close()


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (OK + b"Content-Length: 5\r\nContent-Type: Text/Plain\r\n\r\nhello", b"hello"),
        (OK + b"content-length:5\ncontent-type: text/plain\n\nhello", b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\nContent-Type: text/plain\r\n\r\n", b""),
        (OK + b"Content-Type: text/plain\r\n" + CHUNKED[len(OK) :] + CHUNKS, b"hello"),
    ],
)  # fmt: skip
def test_an_answer_is_read_however_it_comes(transport: HttpTransport, sent: bytes, body: bytes, piece: int) -> None:
    one, two = asked(transport, sent, sent, piece=piece)
    assert (one.status, one.body, one.content_type) == (200, body, "text/plain")
    assert two == one


def test_an_answer_without_a_length_ends_with_the_connection(transport: HttpTransport) -> None:
    assert [one.body for one in asked(transport, OK + b"\r\nrest", OK + b"\r\n", hang_up=True)] == [b"rest", b""]


def test_one_connection_carries_many_requests_each_in_one_piece(transport: HttpTransport) -> None:
    server = Server(*[b"HTTP/1.1 204 No Content\r\nRetry-After: 7\r\n\r\n"] * 3)
    answers = [transport.post(server.url, b"body", {"A": "b"}, 5) for _ in range(3)]
    transport.close()
    server.close()
    assert {(one.status, one.retry_after_s) for one in answers} == {(204, 7.0)}
    assert server.connections == 1
    head = f"POST /v1/metrics HTTP/1.1\r\nHost: {server.url[7:-11]}\r\nAccept-Encoding: identity\r\n"
    assert server.requests == [head.encode() + b"Content-Length: 4\r\nA: b\r\n\r\nbody"] * 3


@pytest.mark.parametrize("head", [b"Connection: close\r\n", b""])
def test_a_connection_that_may_not_go_on_is_opened_anew(transport: HttpTransport, head: bytes) -> None:
    first = OK.replace(b"1.1", b"1.1" if head else b"1.0") + head + b"Content-Length: 0\r\n\r\n"
    server = Server(first, first, hang_up=True)
    assert [transport.post(server.url, b"x", {}, 5).status for _ in range(2)] == [200, 200]
    transport.close()
    server.close()
    assert server.connections == 2


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 999 No\r\n\r\n",
        OK + b"Content-Length: 9\r\n\r\nshort",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: many\r\n\r\n",
        OK + b"X: " + b"a" * 70_000,
        OK[:9],
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"5\r\nhel",
        bytes(range(256)) * 4 + b"\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_answer_is_told_and_not_raised(transport: HttpTransport, sent: bytes) -> None:
    (answer,) = asked(transport, sent, hang_up=True)
    assert (answer.status, answer.body) == (0, b"")
    assert answer.error


def test_more_than_is_wanted_is_not_read_and_ends_the_connection(transport: HttpTransport) -> None:
    for sent in (OK + b"Content-Length: 50\r\n\r\n" + b"x" * 50, CHUNKED + b"32\r\n" + b"x" * 50 + b"\r\n0\r\n\r\n"):
        server = Server(sent, sent)
        answers = [transport.get(server.url, {}, 5, 10) for _ in range(2)]
        transport.close()
        server.close()
        assert [one.body for one in answers] == [b"x" * 11] * 2
        assert server.connections == 2


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a b", {}), ("/\xe4", {}), ("/a\r\nX: y", {}), ("/", {"A\r\n": "b"}), ("/", {"": "b"}), ("/", {"A": "b\nC: d"}),
     ("/", {"A": "\u20ac"})],
)  # fmt: skip
def test_a_request_that_would_say_something_else_is_refused(target: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        request_bytes("GET", "host", target, headers, None)
    assert "C: d" not in str(caught.value)


def test_a_name_in_another_script_is_sent_as_its_ascii_form() -> None:
    assert b"\r\nHost: xn--bcher-kva.example:4318\r\n" in request_bytes("GET", "b\xfccher.example:4318", "/", {}, None)


def test_tls_goes_to_whom_the_certificate_names_and_to_nobody_else() -> None:
    body = b"x"
    server = Server(*[OK + b"Content-Length: 2\r\n\r\nok"], tls=True)
    trusting = HttpTransport(certificate=str(TLS / "certificate.pem"))
    wary = HttpTransport()
    try:
        refused = wary.post(server.url, body, {}, 5)
        answer = trusting.post(server.url, body, {}, 5)
    finally:
        wary.close()
        trusting.close()
        server.close()
    assert (answer.status, answer.body) == (200, b"ok")
    assert refused.status == 0
    assert "CERTIFICATE_VERIFY_FAILED" in refused.error
    assert server.connections == 2
