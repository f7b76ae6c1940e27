"""What the terminal shows."""

import io

import pytest
from rich.console import Console

from fleetpulse.tables import alert_list, budget, device_table, rows_table, share, utc

ALERT = {
    "state": "firing",
    "severity": "page",
    "rule": "drift",
    "since_ns": 1_795_302_000_000_000_000,
    "summary": "The data of digits 1 drifts in tier cam-v2.",
}


@pytest.mark.parametrize(
    ("ratio", "text"), [(None, "-"), (1.0, "100.00 %"), (0.99999, "99.99 %"), (0.5, "50.00 %"), (0.0, "0.00 %")]
)
def test_a_share_is_never_rounded_up_to_everything(ratio, text):
    assert share(ratio) == text


@pytest.mark.parametrize(("left", "text"), [(None, "-"), (0.6, "60 %"), (0.0, "0 %"), (-1.5, "spent 2.5 x")])
def test_an_overspent_budget_says_how_often(left, text):
    assert budget(left) == text


def test_times_are_utc_and_say_so():
    assert utc(0) == "1970-01-01 00:00 UTC"
    assert utc(None) == "-"


def test_an_alert_is_a_headline_and_its_sentence():
    screen = io.StringIO()
    alert_list([ALERT], Console(file=screen, width=100))
    assert screen.getvalue().split("\n")[:2] == [
        "firing page  drift  since 2026-11-21 23:00 UTC",
        "  The data of digits 1 drifts in tier cam-v2." + " " * 55,
    ]


def test_no_alert_is_said_in_words():
    screen = io.StringIO()
    alert_list([], Console(file=screen))
    assert screen.getvalue() == "nothing fires\n"


def test_ids_are_never_cut_off(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    device = "e74debe0-e95c-4f6b-9cb8-03365843c8ce"
    device_table([{"device_id": device, "resource": {}, "last_seen_ns": 10**18, "completeness": 1.0}])
    rows_table("Settings", ["for", "id"], [[f"device={device}", "49ab6169b9803c37"], ["fleet", "x" * 90]])
    printed = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    assert device[-4:] in printed
    assert printed.count("x") == 90
