"""Real receivers: a signed webhook and an Apprise URL, both against a real HTTP server on loopback."""

import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from alerts.message import Message
from alerts.notify.apprise import AppriseReceiver
from alerts.notify.base import Failed, Notice, Retry, Sent
from alerts.notify.webhook import Webhook
from alerts.options import AlertOptions, WebhookOptions
from collector.errors import ConfigError

SECRET = "correct horse"
NOW_NS = 1_794_448_800_123_456_789


def notice(state: str = "firing", severity: str = "page") -> Notice:
    message = Message("subject – é", "A sentence.", (("Value", "98.54 %"),), "A sentence.\nMore.\n", "short")
    return Notice("ab" * 16, state, NOW_NS, {"id": "a1", "severity": severity, "devices": 3}, message)


def webhook(url: str) -> Webhook:
    return Webhook(WebhookOptions(url, SECRET), timeout_s=2.0, clock_ns=lambda: NOW_NS)


def test_a_webhook_is_signed_over_its_time_and_body(receivers: Callable[[], Any]) -> None:
    receiver = receivers()
    sender = webhook(receiver.url)
    assert sender.send(notice()) == Sent()
    path, headers, body = receiver.requests[0]
    timestamp = NOW_NS // 1_000_000_000
    mac = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["FleetPulse-Signature"] == f"t={timestamp},v1={mac}"
    assert headers["FleetPulse-Id"] == "ab" * 16
    assert headers["Content-Type"] == "application/json"
    assert path == "/hook"
    assert json.loads(body) == {
        "version": 1,
        "id": "ab" * 16,
        "state": "firing",
        "at_ns": NOW_NS,
        "subject": "subject – é",
        "short": "short",
        "text": "A sentence.\nMore.\n",
        "facts": [{"label": "Value", "text": "98.54 %"}],
        "alert": {"id": "a1", "severity": "page", "devices": 3},
    }
    sender.close()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (204, Sent()),
        (500, Retry("answered 500")),
        (503, Retry("answered 503", 7.0)),
        (429, Retry("answered 429", 7.0)),
        (400, Failed("answered 400; check the address and what it accepts")),
        (301, Failed("answered 301; check the address and what it accepts")),
    ],
)
def test_an_answer_says_whether_trying_again_makes_sense(
    receivers: Callable[[], Any], status: int, outcome: object
) -> None:
    receiver = receivers()
    headers = {"Retry-After": "7"} if status in {503, 429} else {}
    receiver.answers = [(status, headers)]
    sender = webhook(receiver.url)
    assert sender.send(notice()) == outcome
    sender.close()


def test_a_same_origin_redirect_carries_body_and_signature_along(receivers: Callable[[], Any]) -> None:
    receiver = receivers()
    receiver.answers = [(307, {"Location": "/moved"})]
    sender = webhook(receiver.url)
    assert sender.send(notice()) == Sent()
    (first, _, body), (second, headers, again) = receiver.requests
    assert (first, second) == ("/hook", "/moved")
    assert body == again
    assert headers["FleetPulse-Signature"].startswith("t=")
    sender.close()


def test_a_redirect_to_another_origin_fails_and_nothing_goes_there(receivers: Callable[[], Any]) -> None:
    receiver, other = receivers(), receivers()
    receiver.answers = [(307, {"Location": other.url})]
    sender = webhook(receiver.url)
    outcome = sender.send(notice())
    assert isinstance(outcome, Failed)
    assert "another origin" in outcome.reason
    assert other.requests == []
    sender.close()


def test_a_circle_of_redirects_ends(receivers: Callable[[], Any]) -> None:
    receiver = receivers()
    receiver.answers = [(307, {"Location": "/hook"})] * 9
    sender = webhook(receiver.url)
    assert sender.send(notice()) == Failed("more than 3 redirects")
    sender.close()


def test_a_receiver_that_is_down_may_be_tried_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sender = webhook(f"http://127.0.0.1:{port}/hook")
    outcome = sender.send(notice())
    assert isinstance(outcome, Retry)
    assert "ConnectError" in outcome.reason
    sender.close()


def test_a_receiver_that_never_answers_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/hook"
        sender = Webhook(WebhookOptions(url, SECRET), timeout_s=0.1, clock_ns=lambda: NOW_NS)
        outcome = sender.send(notice())
        sender.close()
    assert isinstance(outcome, Retry)
    assert "Timeout" in outcome.reason


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "hooks.example/x", ""])
def test_only_http_addresses_are_webhooks(url: str) -> None:
    with pytest.raises(ConfigError, match="is not an http"):
        WebhookOptions(url, SECRET)


def test_a_webhook_without_a_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="FLEETPULSE_WEBHOOK_SECRET"):
        WebhookOptions("https://hooks.example/x", "")


def test_secrets_show_neither_in_labels_nor_reprs() -> None:
    options = AlertOptions(
        webhooks=(WebhookOptions("https://user:pw@hooks.example/T0K3N?key=K3Y", SECRET),),
        apprise_urls=("tgram://B0T/1",),
    )
    sender = Webhook(options.webhooks[0], timeout_s=1.0, clock_ns=lambda: NOW_NS)
    shown = f"{options!r} {sender.label} {AppriseReceiver('json://user:B0T@127.0.0.1/T0K3N').label}"
    for secret in ("pw", "T0K3N", "K3Y", SECRET, "B0T"):
        assert secret not in shown
    assert sender.label.startswith("webhook+https://hooks.example#")
    sender.close()


@pytest.mark.parametrize(
    ("state", "severity", "kind"),
    [("firing", "page", "failure"), ("firing", "ticket", "warning"), ("resolved", "page", "success")],
)
def test_apprise_delivers_to_a_real_receiver(
    receivers: Callable[[], Any], state: str, severity: str, kind: str
) -> None:
    receiver = receivers()
    sender = AppriseReceiver(f"json://{urlsplit(receiver.url).netloc}/hook")
    assert sender.send(notice(state, severity)) == Sent()
    body = receiver.bodies()[0]
    assert body["title"] == "subject – é"
    assert body["message"] == "A sentence.\nMore."
    assert body["type"] == kind
    sender.close()


def test_what_apprise_cannot_deliver_may_be_tried_again(receivers: Callable[[], Any]) -> None:
    receiver = receivers()
    receiver.answers = [(500, {})]
    sender = AppriseReceiver(f"json://{urlsplit(receiver.url).netloc}/hook")
    assert sender.send(notice()) == Retry("Apprise could not deliver it")


@pytest.mark.parametrize("url", ["nonsense", "nosuchservice://S3CR3T/x", "tgram://S3CR3T"])
def test_a_url_apprise_does_not_understand_is_refused_without_being_shown(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError) as caught:
        AppriseReceiver(url)
    assert "S3CR3T" not in str(caught.value) + caplog.text
