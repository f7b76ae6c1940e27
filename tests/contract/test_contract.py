"""The contract's tables agree with themselves, with their document, and with OpenTelemetry's bucket definition."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from device_sdk._version import __version__
from device_sdk.contract import BY_NAME, EVENTS, INSTRUMENTS, Kind
from device_sdk.contract import attributes as a
from device_sdk.contract.buckets import N1_BOUNDS, U1_BOUNDS, base_of, downscaled, lower_bound
from device_sdk.contract.document import contract_document
from device_sdk.points import ExplicitHistogram, ExponentialHistogram, Points, Side
from device_sdk.privacy import AttributeValue
from device_sdk.sending.otlp import Encoder

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$")


def test_the_document_is_generated_from_the_tables() -> None:
    assert (ROOT / "docs" / "contract.md").read_text(encoding="utf-8") == contract_document()


def test_names_are_unique_dotted_and_under_our_root_unless_they_are_opentelemetrys() -> None:
    assert len(BY_NAME) == len(INSTRUMENTS)
    for instrument in INSTRUMENTS:
        assert NAME.match(instrument.name)
        assert instrument.name.startswith(a.ROOT) or instrument.name in _opentelemetrys_names()
    assert len({event.name for event in EVENTS}) == len(EVENTS)


def _opentelemetrys_names() -> set[str]:
    import importlib

    modules = [
        importlib.import_module(f"opentelemetry.semconv._incubating.metrics.{group}_metrics")
        for group in ("hw", "process", "system")
    ]
    return {value for module in modules for value in vars(module).values() if isinstance(value, str)}


def test_no_metric_name_is_another_name_plus_a_part() -> None:
    names = [instrument.name for instrument in INSTRUMENTS if instrument.name.startswith(a.ROOT)]
    assert not [(x, y) for x in names for y in names if y.startswith(x + ".")]


def test_prometheus_names_do_not_collide() -> None:
    flat = [re.sub(r"[^a-z0-9]", "_", name) for name in BY_NAME]
    assert len(set(flat)) == len(flat)


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.name)
def test_every_row_says_all_its_kind_needs(instrument: object) -> None:
    row = BY_NAME[instrument.name]  # type: ignore[attr-defined]
    assert row.meaning.endswith(".")
    assert row.unit
    assert (row.max_scale is not None) == (row.kind is Kind.EXPONENTIAL)
    assert bool(row.bounds) == (row.kind is Kind.EXPLICIT)
    assert list(row.bounds) == sorted(set(row.bounds))
    assert 1 <= row.series_max <= 500
    if row.name in ("edge.input.value", "edge.output.value"):
        assert not row.summed


def test_no_ratio_percentile_or_mean_travels() -> None:
    for name in BY_NAME:
        assert not re.search(r"[._](ratio|percent|percentile|mean|average|p9\d|rate)([._]|$)", name)


def test_frozen_bounds_are_frozen() -> None:
    assert len(U1_BOUNDS) == 33
    assert hash(U1_BOUNDS) == hash(tuple(sorted(U1_BOUNDS)))
    assert (U1_BOUNDS[0], U1_BOUNDS[-1], sum(U1_BOUNDS)) == (0.001, 0.9999, pytest.approx(18.3944))
    assert N1_BOUNDS == (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)


def sample_window() -> bytes:
    """Encode one window with every kind of point, from fixed values."""
    points = Points()
    model = ((a.MODEL_NAME, "digits"), (a.MODEL_VERSION, "3"))
    duration = ExponentialHistogram(
        count=3, scale=4, zero_count=0, zero_threshold=0.0, positive=Side(-100, [1, 0, 2]), negative=Side(),
        total=0.04, minimum=0.013, maximum=0.0145,
    )  # fmt: skip
    feature = ExponentialHistogram(
        count=6, scale=3, zero_count=1, zero_threshold=0.02, positive=Side(-2, [3]), negative=Side(5, [1, 1])
    )
    share = ExplicitHistogram(2, U1_BOUNDS, [0] * 32 + [1, 1])
    points.add("edge.inference.duration", duration, (*model, (a.INFERENCE_PHASE, "steady")))
    points.add("edge.input.value", feature, (*model, (a.FEATURE_NAME, "mean"), (a.FEATURE_GRID, "c=0.5;u=0.1")))
    points.add("edge.output.confidence", share, (*model, (a.OUTPUT_NAME, "p")))
    points.add("edge.session.ends", 1, ((a.SESSION_END_REASON, "exit"), (a.SESSION_END_EXPECTED, True)))
    points.add("edge.session.time", 60.0)
    points.add("edge.spool.usage", 1234, ((a.SPOOL_MEDIUM, "memory"),))
    points.add("edge.window.sequence", 7)
    points.add("edge.window.count", 1)
    points.add("edge.window.points", points.count + 1)
    return Encoder(RESOURCE).window(points, 1_700_000_000_000_000_000, 1_700_000_060_000_000_000)


def sample_event() -> bytes:
    """Encode one event from fixed values."""
    attributes: list[tuple[str, str | bool | int | float]] = [
        (a.LOG_RECORD_UID, "5b0e7d1c-0000-4000-8000-000000000001:1"),
        (a.EVENT_SEQUENCE, 1),
        (a.SESSION_END_REASON, "power_loss"),
        (a.SESSION_END_EXPECTED, False),
        (a.SESSION_DURATION, 60.5),
    ]
    encoder, at = Encoder(RESOURCE), 1_700_000_060_000_000_000
    return encoder.event("session.end", 13, attributes, time_ns=at, observed_ns=at + 5)


RESOURCE: dict[str, AttributeValue] = {
    a.SERVICE_INSTANCE_ID: "5b0e7d1c-0000-4000-8000-000000000001",
    a.INSTALLATION_ID: "9f3c2b1a-0000-4000-8000-000000000002",
    a.SERVICE_NAME: "edge-app",
    a.TIER: "cam-v2",
    a.FLAGS: ("a=1", "b=0"),
}
FROZEN = Path(__file__).parent / "v1"


@pytest.mark.parametrize(("name", "make"), [("window", sample_window), ("event", sample_event)])
def test_version_1_bytes_are_frozen(name: str, make: Callable[[], bytes]) -> None:
    """The files are never rewritten: when this fails the wire has changed, and that is a new contract version."""
    assert make().replace(__version__.encode(), b"0.1.0") == (FROZEN / f"{name}.binpb").read_bytes()
    assert make() == make()


def test_expected_ends_are_what_somebody_asked_for() -> None:
    assert {str(reason) for reason in a.EXPECTED_ENDS} == {"exit", "sigterm", "update", "reboot", "low_power"}


@pytest.mark.parametrize("scale", range(-4, 9))
def test_bounds_of_neighbouring_buckets_differ_by_the_base_and_meet_when_downscaled(scale: int) -> None:
    for index in (-7, -1, 0, 1, 12):
        assert lower_bound(index + 1, scale) == pytest.approx(lower_bound(index, scale) * base_of(scale))
        coarse, counts = downscaled(index, [1], 1)
        assert counts == [1]
        assert lower_bound(coarse, scale - 1) <= lower_bound(index, scale) * (1 + 1e-12)
        assert lower_bound(index + 1, scale) <= lower_bound(coarse + 1, scale - 1) * (1 + 1e-12)


def test_a_histogram_can_only_become_coarser() -> None:
    with pytest.raises(ValueError, match="coarser"):
        downscaled(0, [1], -1)
    assert math.isinf(lower_bound(1 << 20, 0))
