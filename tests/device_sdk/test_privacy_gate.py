"""Nothing passes the gate that the contract does not name, and no input value can be read from what passes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from privacy_kit import Account
from sdk_kit import START_NS

from device_sdk import Feature, ModelNameError, Signals, SignalsError
from device_sdk.contract import BY_NAME, INSTRUMENTS, Kind
from device_sdk.contract import attributes as a
from device_sdk.contract import events as e
from device_sdk.contract.buckets import downscaled
from device_sdk.contract.events import Event, Severity
from device_sdk.points import ExplicitHistogram, ExponentialHistogram, Points, Side, Value
from device_sdk.privacy import Gate
from device_sdk.privacy.aggregate import merged, observations
from device_sdk.sending.otlp import Encoder
from device_sdk.signals.adapter import Adapter
from device_sdk.signals.grids import feature_edges
from device_sdk.signals.models import ModelInputs, ModelRuns
from device_sdk.signals.recorder import Recorder

MODEL = ((a.MODEL_NAME, "m"), (a.MODEL_VERSION, "1"))
RUN = (*MODEL, (a.RUNTIME_NAME, "callable"))


def through(metric: str, value: Value, attributes: Any = (), gate: Gate | None = None) -> tuple[Points, Account]:
    points, account = Points(), Account()
    points.add(metric, value, tuple(attributes))
    return (gate or Gate()).window(points, account), account


def latency(count: int = 1, *, offset: int = -100, scale: int = 4) -> ExponentialHistogram:
    return ExponentialHistogram(count, scale, 0, 0.0, Side(offset, [count]), Side(), 0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("metric", "value", "attributes", "reason"),
    [
        ("app.debug.user", 1, (), "unknown_name"),
        ("edge.session.time", 1.0, (("user.name", "Ada"),), "unknown_attribute"),
        ("edge.inference.samples", 1, (*RUN, (a.ERROR_TYPE, "cannot open /home/ada/x.png")), "free_text"),
        ("edge.inference.samples", 1, ((a.MODEL_NAME, "x" * 129), (a.MODEL_VERSION, "1")), "free_text"),
        ("edge.inference.samples", 1, ((a.MODEL_NAME, 7), (a.MODEL_VERSION, "1")), "wrong_type"),
        ("edge.session.ends", 1, ((a.SESSION_END_REASON, "exit"), (a.SESSION_END_EXPECTED, "yes")), "wrong_type"),
        ("edge.inference.samples", -1, RUN, "wrong_type"),
        ("edge.inference.samples", True, RUN, "wrong_type"),
        ("edge.session.time", float("nan"), (), "wrong_type"),
        ("edge.session.time", latency(), (), "wrong_type"),
        ("edge.inference.duration", 0.25, RUN, "wrong_type"),
        ("edge.input.value", latency(), (*MODEL, (a.FEATURE_NAME, "f"), (a.FEATURE_GRID, "c=0;u=1")), "wrong_type"),
        ("edge.output.confidence", ExplicitHistogram(1, (0.123456,), [1, 0]), RUN, "wrong_type"),
    ],
)
def test_what_the_contract_does_not_name_is_dropped_and_counted(
    metric: str, value: Any, attributes: Any, reason: str
) -> None:
    admitted, account = through(metric, value, attributes)
    assert admitted.count == 0
    assert account.refusals == {reason: 1}


def test_what_the_contract_names_passes_unchanged_and_costs_nothing() -> None:
    admitted, account = through("edge.inference.duration", latency(3), (*RUN, (a.INFERENCE_PHASE, "steady")))
    assert admitted.by_metric == {
        "edge.inference.duration": [((*RUN, (a.INFERENCE_PHASE, "steady")), latency(3))],
    }
    assert not account.refusals
    assert not account.losses
    _, account = through("edge.export.size", 10, ((a.EXPORT_KIND, "metrics"), (a.ERROR_TYPE, "503")))
    assert not account.refusals  # an HTTP status is no inference error, and is no free text either


def test_events_lose_what_is_not_theirs_and_unknown_events_do_not_leave() -> None:
    account = Account()
    kept = Gate().event(
        e.SESSION_END,
        [(a.SESSION_END_REASON, "exit"), ("host.name", "ada-laptop"), (a.SESSION_DURATION, float("inf"))],
        account,
    )
    assert kept == [(a.SESSION_END_REASON, "exit")]
    assert account.refusals == {"unknown_attribute": 1, "wrong_type": 1}
    long = Gate().event(e.UPDATE_STARTED, [(a.UPDATE_FROM, "y" * 200), (a.UPDATE_TARGET, "toaster")], account)
    assert long == []
    assert account.refusals["free_text"] == 2
    assert Gate().event(Event("app.secret", Severity.INFO, (), "Made up."), [], account) is None
    assert account.refusals["unknown_name"] == 1


def test_an_event_that_is_refused_leaves_no_gap_in_the_sequence(bench: Any) -> None:
    world = bench()
    engine = world.monitor._engine
    engine.emit_event(Event("app.secret", Severity.INFO, (), "Made up."), [("a", 1)])
    engine.emit_event(e.MODEL_LOADED, [*RUN, ("user.name", "Ada")])
    numbers = [attributes[a.EVENT_SEQUENCE] for _, attributes, _ in world.events()]
    assert numbers == [0, 1]
    world.window()
    refused = {at[a.PRIVACY_REASON]: point.as_int for at, point in world.named("edge.privacy.refused")}
    assert refused == {"unknown_name": 1, "unknown_attribute": 1}


def free_key(instrument: Any) -> str | None:
    """Return an attribute of a metric that can take any number of values, None when all are closed vocabularies."""
    return next((key for key in instrument.attributes if key in (a.MODEL_VERSION, a.HW_ID)), None)


@pytest.mark.parametrize("instrument", [row for row in INSTRUMENTS if free_key(row)], ids=lambda row: str(row.name))
def test_series_beyond_a_metrics_bound_become_one_point_that_says_so(instrument: Any) -> None:
    """However many series a fault makes, at most ``series_max`` and one overflow point a model leave."""
    free = free_key(instrument)
    value: Value = {
        Kind.EXPONENTIAL: latency() if instrument.summed else ExponentialHistogram(1, 3, 1, 0.02, Side(), Side()),
        Kind.EXPLICIT: ExplicitHistogram(1, instrument.bounds, [1] + [0] * len(instrument.bounds)),
    }.get(instrument.kind, 1)
    gate, account = Gate(), Account()
    extra = 7
    sent = 0
    for _ in range(2):  # in the second window the same series are known, and the same ones are too many
        points = Points()
        for number in range(instrument.series_max + extra):
            points.add(instrument.name, value, ((free, str(number)),))
        admitted = gate.window(points, account).by_metric[instrument.name]
        sent += sum(observations(member) for _, member in admitted)
        plain = [attributes for attributes, _ in admitted if (a.OVERFLOW, True) not in attributes]
        assert len(plain) == instrument.series_max
        assert len(admitted) > len(plain)
    assert account.losses == {"cardinality": 2 * extra}
    if instrument.kind in (Kind.COUNTER, Kind.EXPONENTIAL, Kind.EXPLICIT):
        assert sent == 2 * (instrument.series_max + extra)  # the counts are all there, only the names are not


def test_the_process_has_at_most_1500_series_and_the_overflow_names_the_model() -> None:
    gate, account, total = Gate(), Account(), 0
    for version in range(16):
        points = Points()
        for feature in range(64):
            named = ((a.MODEL_NAME, "m"), (a.MODEL_VERSION, str(version)), (a.FEATURE_NAME, f"f{feature}"))
            for state in a.FeatureState:
                points.add("edge.input.observations", 1, (*named, (a.FEATURE_STATE, str(state))))
            for category in range(33):
                points.add("edge.input.categories", 1, (*named, (a.FEATURE_CATEGORY, str(category))))
        for kind in range(130):
            points.add(
                "edge.output.predictions", 1, (*RUN[:1], (a.MODEL_VERSION, str(version)), (a.CLASS_NAME, f"{kind}"))
            )
        admitted = gate.window(points, account)
        for members in admitted.by_metric.values():
            for attributes, _ in members:
                if (a.OVERFLOW, True) in attributes:
                    assert dict(attributes) == {a.MODEL_NAME: "m", a.MODEL_VERSION: str(version), a.OVERFLOW: True}
                else:
                    total += 1
    assert gate._series_count <= a.SERIES_MAX
    bounds = sum(BY_NAME[name].series_max for name in ("edge.input.observations", "edge.input.categories"))
    assert gate._series_count == bounds + BY_NAME["edge.output.predictions"].series_max


def test_the_bound_of_the_process_holds_whatever_the_metrics_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a, "SERIES_MAX", 10)
    gate, account, points = Gate(), Account(), Points()
    for number in range(30):
        points.add("edge.inference.duration", latency(), ((a.MODEL_NAME, "m"), (a.MODEL_VERSION, str(number))))
    assert gate.window(points, account).count == 30  # ten, and an overflow point for each of twenty models
    assert account.losses == {"cardinality": 20}


def test_refusals_are_remembered_within_bounds() -> None:
    gate, account = Gate(), Account()
    for number in range(10_000):
        through("edge.session.time", 1.0, ((f"k{number}", "v"),), gate)
    assert len(gate._outside) <= 4096
    assert account.losses == {}


side = st.builds(Side, st.integers(-40, 40), st.lists(st.integers(0, 9), min_size=1, max_size=170))


@st.composite
def histograms(draw: Any) -> ExponentialHistogram:
    positive, negative, zero = draw(side), draw(side), draw(st.integers(0, 5))
    count = zero + sum(positive.counts) + sum(negative.counts)
    return ExponentialHistogram(count, draw(st.integers(0, 4)), zero, 0.02, positive, negative)


def mass(histogram: ExponentialHistogram, scale: int) -> tuple[dict[int, int], dict[int, int], int]:
    sides = []
    for part in (histogram.positive, histogram.negative):
        offset, counts = downscaled(part.offset, part.counts, histogram.scale - scale)
        sides.append({offset + i: n for i, n in enumerate(counts) if n})
    return sides[0], sides[1], histogram.zero_count


@given(histograms(), histograms(), histograms())
def test_merging_loses_no_count_and_does_not_depend_on_the_order(x: Any, y: Any, z: Any) -> None:
    kind = Kind.EXPONENTIAL
    left, right, turned = merged(kind, merged(kind, x, y), z), merged(kind, x, merged(kind, y, z)), merged(kind, y, x)
    assert observations(left) == observations(right) == x.count + y.count + z.count
    coarsest = min(left.scale, right.scale)  # type: ignore[union-attr]
    assert mass(left, coarsest) == mass(right, coarsest)  # type: ignore[arg-type]
    assert mass(merged(kind, x, y), turned.scale) == mass(turned, turned.scale)  # type: ignore[arg-type,union-attr]
    assert max(len(left.positive.counts), len(left.negative.counts)) <= 160  # type: ignore[union-attr]


# --- no input value can be read from a payload ------------------------------------------------------------------------

FEATURES = (
    Feature("column", column=0, center=10.0, unit=4.0),
    Feature("other", column=1, center=-3.0, unit=0.5, range=(-4.0, 4.0)),
)


def payload_of(rows: Any, answers: Any) -> bytes:
    """Run rows through the real recorder, fold, gate and encoder; time stands still, so only they differ."""
    runs = ModelRuns(RUN, ModelInputs("m", "1"))
    recorder = Recorder(runs, Signals(features=FEATURES), perf_ns=lambda: 0)
    replies = iter(answers)
    adapter = Adapter(("x",), ("p",), lambda error: a.ErrorType.OTHER, lambda feed, result: 1)
    run = recorder.bind(lambda names, feed, options: [next(replies)], adapter)
    for row in rows:
        run(None, {"x": row[None]})
    recorder.fold()
    points = Points()
    runs.inputs.emit(points)
    runs.emit(points)
    admitted = Gate().window(points, Account())
    assert admitted.count == points.count
    return Encoder({a.SERVICE_INSTANCE_ID: "i"}).window(admitted, START_NS, START_NS + 1)


def encodings(value: float) -> list[bytes]:
    forms = [struct.pack(code, value) for code in ("<d", ">d", "<f", ">f")]
    return [*forms, *(format(value, style).encode() for style in (".17g", ".9g", ".6f"))]


within = st.floats(0.02, 0.98)
"""Where in its bucket a value stands."""


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(1, 60), within, within), min_size=1, max_size=6))
def test_values_of_the_same_buckets_give_the_same_bytes(places: list[tuple[int, float, float]]) -> None:
    """Whatever stands where in its bucket cannot be told from the payload: two such runs give one payload."""
    edges = feature_edges()

    def inside(feature: Feature, place: int, share: float) -> float:
        low, high = edges[place], edges[place + 1]
        return float(feature.center + feature.unit * (low + share * (high - low)))

    def rows(which: int) -> Any:
        cells = [(place, shares[which]) for place, *shares in places]
        made = [[inside(FEATURES[0], place + 150, share), inside(FEATURES[1], place, share)] for place, share in cells]
        return np.array(made, dtype=np.float64)

    def answers(which: int) -> list[Any]:
        """Two-class answers whose confidence, margin and entropy each stay in one bucket."""
        tops = [0.908 + 0.01 * shares[which] for _, *shares in places]
        return [np.array([[top, 1 - top]]) for top in tops]

    first, second = rows(0), rows(1)
    binned = [np.searchsorted(edges, (x - [10.0, -3.0]) / [4.0, 0.5]) for x in (first, second)]
    assume((binned[0] == binned[1]).all())  # floating point may put a value near an edge next door
    assert payload_of(first, answers(0)) == payload_of(second, answers(1))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_planted_input_values_are_nowhere_in_the_bytes(seed: int, count: int) -> None:
    """Values with all their digits set: bytes that are equal by chance are out of the question."""
    rows = np.random.default_rng(seed).normal(300, 200, size=(count, 2))
    payload = payload_of(rows, [np.array([[0.7, 0.3]])] * count)
    for value in rows.ravel().tolist():
        assert not [form for form in encodings(value) if form in payload]


def test_a_planted_marker_in_an_input_name_or_error_message_does_not_travel(bench: Any, digits: Any) -> None:
    world = bench()
    marker = "Ada-Lovelace-1815"

    def fails() -> None:
        raise ValueError(f"cannot read {marker}.png")

    with pytest.raises(ValueError, match=marker):
        world.monitor.measure("m")(fails)()
    world.window()
    world.sent()
    assert world.sink.requests
    assert all(marker.encode() not in body for _, body in world.sink.requests)


@pytest.mark.parametrize(("model", "version"), [("m" * 129, "1"), ("m", "v" * 129), ("", "1")])
def test_names_that_cannot_be_sent_are_refused_where_they_are_given(bench: Any, model: str, version: str) -> None:
    with pytest.raises(ModelNameError, match="1 to 128"):
        bench().monitor.measure(model, version)


def test_class_names_that_cannot_be_sent_are_refused_where_they_are_declared() -> None:
    with pytest.raises(SignalsError, match="1 to 128"):
        Signals(classes=("a", "b" * 129))
