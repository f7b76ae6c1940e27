import json

import numpy as np
import pyarrow as pa
import pytest

from analytics.baseline import (
    DAY_NS,
    GOLDEN,
    StoredBaseline,
    baseline_id,
    build_field,
    build_golden,
    from_tables,
    to_tables,
)
from analytics.bins import BINS, fill, pin
from analytics.signals import HOUR_NS, SIGNAL_METRICS, parse_grid, signal_rows
from collector.storage.rows import BASELINE_BINS, BASELINE_DEVICES, BASELINES
from device_sdk.contract import attributes as a
from device_sdk.contract import metrics as m
from device_sdk.contract.buckets import U1_BOUNDS, downscaled

START = 20_000 * DAY_NS


def exponential(values, scale):
    """Return the exponential histogram of values as (offset, counts) of each side and the zero count."""
    zero = int(np.sum(np.abs(values) <= 0.02))
    sides = []
    for sign in (1.0, -1.0):
        side = values[sign * values > 0.02] * sign
        index = np.ceil(np.log2(side) * 2.0**scale).astype(int) - 1
        low = int(index.min()) if index.size else 0
        sides.append((low, np.bincount(index - low).tolist() if index.size else []))
    return sides[0], sides[1], zero


def row(device="d1", hour=0, tier="cam", attributes=None, model="digits", version="3", **values):
    return {
        "hour_ns": START + hour * HOUR_NS, "device_id": device, "cohort": "{}", "tier": tier, "region": "", "ring": "",
        "firmware": "", "model": model, "version": version, "attributes": json.dumps(attributes or {}), "value": 0.0,
        "count": 0, "scale": 0, "zero_count": 0, "positive_offset": 0, "positive_counts": [], "negative_offset": 0,
        "negative_counts": [], "counts": [], "bounds": [], **values,
    }  # fmt: skip


def feature_row(values, scale=3, grid="c=0;u=1", name="mean", coarser=0, **rest):
    (po, pc), (no, nc), zero = exponential(np.asarray(values), scale)
    po, pc = downscaled(po, pc, coarser)
    no, nc = downscaled(no, nc, coarser)
    return row(
        attributes={a.FEATURE_NAME: name, a.FEATURE_GRID: grid}, scale=scale - coarser, zero_count=zero,
        positive_offset=po, positive_counts=pc, negative_offset=no, negative_counts=nc, count=len(values), **rest,
    )  # fmt: skip


def only(metric, rows):
    (one,) = signal_rows(metric, table(rows))
    return one


def table(rows):
    schema = pa.schema([
        ("hour_ns", pa.int64()), *((name, pa.string()) for name in ("device_id", "cohort", "tier", "region", "ring",
        "firmware", "model", "version", "attributes")), ("value", pa.float64()), ("count", pa.int64()),
        ("scale", pa.int16()), ("zero_count", pa.int64()), ("positive_offset", pa.int32()),
        ("positive_counts", pa.list_(pa.int64())), ("negative_offset", pa.int32()),
        ("negative_counts", pa.list_(pa.int64())), ("counts", pa.list_(pa.int64())), ("bounds", pa.list_(pa.float64())),
    ])  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema)


# --- signals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "grid"),
    [("c=300;u=0.5", (300.0, 0.5)), ("", (0.0, 1.0)), ("u=2", (0.0, 2.0)), ("c=x;u=0", (0.0, 1.0)),
     ("c=inf;u=-1", (0.0, 1.0)), ("nonsense", (0.0, 1.0))],
)  # fmt: skip
def test_a_grid_is_read_and_a_broken_one_is_the_plain_axis(text, grid):
    assert parse_grid(text) == grid


def test_every_value_lies_inside_the_bucket_its_row_fills():
    rng = np.random.default_rng(1)
    for value in np.concatenate([rng.normal(0, 2, 40), [0.0, 0.5, 1.0, 4.0, -2.0]]):
        one = only(m.INPUT_VALUE.name, [feature_row([value], grid="c=7;u=3")])
        (filled,) = np.flatnonzero(one.mass)
        assert one.buckets.lo[filled] - 1e-9 <= 7 + 3 * value <= one.buckets.hi[filled] + 1e-9
        assert one.buckets.atom[filled] == (abs(value) <= 0.02)


def test_rows_are_split_by_model_version_and_feature_and_keep_their_counts():
    rows = [
        feature_row([1.0, 2.0], name="mean"),
        feature_row([1.0], name="contrast"),
        feature_row([3.0, 3.0, 3.0], name="mean", version="4", device="d2"),
    ]
    found = {(one.signal, one.version): one for one in signal_rows(m.INPUT_VALUE.name, table(rows))}
    assert set(found) == {("input:mean", "3"), ("input:contrast", "3"), ("input:mean", "4")}
    assert {name: one.mass.sum() for name, one in found.items()} == {
        ("input:mean", "3"): 2, ("input:contrast", "3"): 1, ("input:mean", "4"): 3,
    }  # fmt: skip


def test_no_rows_are_no_signals():
    for metric in SIGNAL_METRICS:
        assert list(signal_rows(metric, table([]))) == []


def test_an_empty_histogram_is_a_row_without_counts():
    one = only(m.INPUT_VALUE.name, [feature_row([])])
    assert one.mass.sum() == 0
    bins = pin(one.signal, one.kind, [(one.buckets, one.mass)])
    assert (bins.size, bins.resolved) == (1, False)


def test_classes_are_labels_and_unseen_ones_fall_into_other():
    rows = [row(attributes={a.CLASS_NAME: c}, value=float(n)) for c, n in (("cat", 60), ("dog", 40))]
    one = only(m.OUTPUT_PREDICTIONS.name, rows)
    bins = pin(one.signal, one.kind, [(one.buckets, one.mass)])
    assert bins.labels == ("cat", "dog", a.OTHER)
    later = only(m.OUTPUT_PREDICTIONS.name, [row(attributes={a.CLASS_NAME: c}, value=5.0) for c in ("dog", "emu")])
    assert fill(later, bins, {"d1": 0}, START, 1, HOUR_NS)[0, 0].tolist() == [0.0, 5.0, 5.0]


def test_shares_use_the_frozen_bounds_between_zero_and_one():
    counts = np.ones(len(U1_BOUNDS) + 1, dtype=int).tolist()
    one = only(m.OUTPUT_CONFIDENCE.name, [row(counts=counts, bounds=list(U1_BOUNDS))])
    assert (one.signal, one.buckets.lo[0], one.buckets.hi[-1]) == ("output:confidence", 0.0, 1.0)
    assert one.buckets.hi[:-1].tolist() == list(U1_BOUNDS)
    assert one.mass.sum() == len(counts)


def test_rows_with_other_bounds_are_filed_by_their_own():
    rows = [
        row(counts=[1, 2], bounds=[0.5]),
        row(counts=[3, 4, 5], bounds=[0.2, 0.6], device="d2"),
        row(counts=[], bounds=[0.5], device="d3"),
    ]
    one = only(m.OUTPUT_MARGIN.name, rows)
    mass = {(round(lo, 6), round(hi, 6)): n for lo, hi, n in zip(one.buckets.lo, one.buckets.hi, one.mass, strict=True)}
    assert mass == {(-0.5, 0.5): 1, (0.5, 1.5): 2, (-0.2, 0.2): 3, (0.2, 0.6): 4, (0.6, 1.0): 5}


# --- bins ------------------------------------------------------------------------------------------------------


def test_bins_are_reference_quantiles_at_bucket_bounds_and_counts_stay_whole():
    values = np.random.default_rng(2).normal(0, 1, 20_000)
    one = only(m.INPUT_VALUE.name, [feature_row(values)])
    bins = pin(one.signal, one.kind, [(one.buckets, one.mass)])
    assert 15 <= bins.size <= BINS
    assert bins.counts == pytest.approx(np.rint(bins.counts), abs=1e-6)
    assert bins.counts.max() / 20_000 < 0.12
    bounds = np.concatenate([one.buckets.lo, one.buckets.hi])
    assert all(np.isclose(bounds, edge, rtol=1e-12, atol=0).any() for edge in bins.edges)
    wanted = np.histogram(values, np.concatenate([[-np.inf], bins.edges, [np.inf]]))[0]
    assert np.abs(bins.counts - wanted).max() <= 3
    assert bins.center == pytest.approx(0.0, abs=0.02)
    assert bins.spread == pytest.approx(1.0, abs=0.03)


def test_a_coarser_sender_lands_in_the_same_bins_when_the_reference_knew_it():
    rng = np.random.default_rng(3)
    fine, coarse = rng.normal(0, 1, 5000), rng.normal(0, 1, 2000)
    mixed = only(m.INPUT_VALUE.name, [feature_row(fine), feature_row(coarse, coarser=2, device="d2")])
    bins = pin(mixed.signal, mixed.kind, [(mixed.buckets, mixed.mass)])
    direct = only(m.INPUT_VALUE.name, [feature_row(coarse)])
    a_ = fill(mixed, bins, {"d2": 0}, START, 1, HOUR_NS)
    b_ = fill(direct, bins, {"d1": 0}, START, 1, HOUR_NS)
    assert a_[0, 0] == pytest.approx(b_[0, 0], abs=1e-6)


def test_another_grid_is_shared_out_and_loses_nothing():
    values = np.random.default_rng(4).normal(300, 1, 10_000)
    reference = only(m.INPUT_VALUE.name, [feature_row(values - 300, grid="c=300;u=1")])
    bins = pin(reference.signal, reference.kind, [(reference.buckets, reference.mass)])
    other = only(m.INPUT_VALUE.name, [feature_row((values - 299) / 2, grid="c=299;u=2")])
    filled = fill(other, bins, {"d1": 0}, START, 1, HOUR_NS)[0, 0]
    assert filled.sum() == pytest.approx(10_000)
    assert np.abs(filled / 1e4 - bins.counts / 1e4).max() < 0.02


def test_a_signal_lost_in_one_bucket_is_not_resolved_but_an_atom_is():
    kelvin = only(m.INPUT_VALUE.name, [feature_row(np.random.default_rng(5).normal(300, 1, 1000))])
    assert not pin(kelvin.signal, kelvin.kind, [(kelvin.buckets, kelvin.mass)]).resolved
    values = np.concatenate([np.zeros(600), np.random.default_rng(6).normal(5, 1, 400)])
    atom = only(m.INPUT_VALUE.name, [feature_row(values)])
    assert pin(atom.signal, atom.kind, [(atom.buckets, atom.mass)]).resolved


def test_a_constant_keeps_bins_on_both_sides_so_that_leaving_it_shows():
    one = only(m.INPUT_VALUE.name, [feature_row(np.zeros(100))])
    bins = pin(one.signal, one.kind, [(one.buckets, one.mass)])
    assert bins.size == 3
    moved = only(m.INPUT_VALUE.name, [feature_row(np.full(10, 2.0))])
    assert fill(moved, bins, {"d1": 0}, START, 1, HOUR_NS)[0, 0].tolist() == [0.0, 0.0, 10.0]
    assert np.isfinite(bins.scores).all()


def test_one_stray_value_owns_neither_the_spread_nor_a_score():
    values = np.append(np.random.default_rng(7).normal(0, 1, 5000), 1e9)
    one = only(m.INPUT_VALUE.name, [feature_row(values, scale=2)])
    bins = pin(one.signal, one.kind, [(one.buckets, one.mass)])
    assert bins.spread == pytest.approx(1.0, abs=0.05)
    assert bins.scores.max() < 4


def test_hours_outside_the_block_and_unknown_devices_are_left_out():
    rows = [feature_row([1.0], hour=h, device=d) for h, d in ((0, "d1"), (5, "d1"), (1, "ghost"), (1, "d2"))]
    one = only(m.INPUT_VALUE.name, rows)
    bins = pin(one.signal, one.kind, [(one.buckets, one.mass)])
    filled = fill(one, bins, {"d1": 0, "d2": 1}, START, 3, HOUR_NS)
    assert filled.sum(axis=2).tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    assert fill(one, bins, {}, START, 3, HOUR_NS).shape == (3, 0, bins.size)


# --- references ------------------------------------------------------------------------------------------------


def field_rows(days=14, devices=8, seed=8, shock=0.0):
    rng = np.random.default_rng(seed)
    rows, classes = [], []
    for hour in range(24 * days):
        level = 0.5 * np.sin(2 * np.pi * hour / 24) + rng.normal(0, shock)
        for d in range(devices):
            name, tier = f"d{d}", "cam" if d < devices - 1 else "gateway"
            if rng.random() < 0.7:
                rows.append(feature_row(rng.normal(level, 1, 15), hour=hour, device=name, tier=tier))
                classes += [
                    row(attributes={a.CLASS_NAME: c}, value=float(v), hour=hour, device=name, tier=tier)
                    for c, v in (("cat", rng.integers(5, 10)), ("dog", 3))
                ]
    return [*signal_rows(m.INPUT_VALUE.name, table(rows)), *signal_rows(m.OUTPUT_PREDICTIONS.name, table(classes))]


def field_reference(rows, days=14, **more):
    return build_field(
        lambda: [(START, 24 * days, rows)], model="digits", version="3", start_ns=START, end_ns=START + days * DAY_NS,
        **more,
    )  # fmt: skip


def test_a_field_reference_counts_each_device_by_hour_of_day_and_survives_the_store():
    rows = field_rows()
    reference = field_reference(rows)
    signal = reference.signals["input:mean"]
    assert signal.counts.sum() == pytest.approx(rows[0].mass.sum())
    assert set(signal.tiers) == {"cam", "gateway"}
    assert set(signal.scales) == {"cam", "gateway"}
    assert reference.streams == 4
    noon, midnight = (signal.counts[h].sum(axis=0) @ signal.bins.scores / signal.counts[h].sum() for h in (6, 18))
    assert noon - midnight == pytest.approx(1.0, abs=0.15)
    tables = to_tables(reference, {"note": 1}, 5)
    assert tables["baselines"].schema.equals(BASELINES)
    assert tables["baseline_bins"].schema.equals(BASELINE_BINS)
    assert tables["baseline_devices"].schema.equals(BASELINE_DEVICES)
    head = StoredBaseline(reference.baseline_id, "digits", "3", "field", START, START + 14 * DAY_NS, 5)
    # A double run appended everything twice.
    doubled = {name: pa.concat_tables([one, one]) for name, one in tables.items()}
    back = from_tables(head, doubled["baseline_bins"], doubled["baseline_devices"])
    assert set(back.signals) == set(reference.signals)
    for name, one in reference.signals.items():
        again = back.signals[name]
        assert again.counts == pytest.approx(np.rint(one.counts))
        assert (again.hours == one.hours).all()
        assert (again.devices, again.tiers) == (one.devices, one.tiers)
        assert again.bins.edges == pytest.approx(one.bins.edges)
        assert dict(again.scales) == dict(one.scales)
    assert back.streams == reference.streams


def test_the_same_window_is_the_same_baseline_and_another_is_not():
    one = baseline_id("digits", "3", "field", 1, 2)
    assert one == baseline_id("digits", "3", "field", 1, 2)
    assert len({one, baseline_id("digits", "3", "golden", 1, 2), baseline_id("digits", "3", "field", 1, 3)}) == 3


def test_k1_sees_weather_and_is_unknown_for_a_provisional_reference():
    calm = field_reference(field_rows(seed=9)).signals["input:mean"].scales["cam"].k1
    windy = field_reference(field_rows(seed=9, shock=0.4)).signals["input:mean"].scales["cam"].k1
    assert len(calm) == 1
    assert 1.0 <= calm[0] < 1.2
    assert windy[0] > 1.4
    short = field_reference(field_rows(days=1), days=1, provisional=True)
    assert short.provisional
    assert all(scale.k1 == () for one in short.signals.values() for scale in one.scales.values())


def test_k1_leaves_each_day_out_of_its_own_reference():
    days, devices = 5, 7
    (rows, _) = field_rows(days=days, devices=devices + 1, seed=11, shock=0.4)
    signal = build_field(
        lambda: [(START, 24 * days, [rows])], model="digits", version="3", start_ns=START,
        end_ns=START + days * DAY_NS,
    ).signals["input:mean"]  # fmt: skip
    index = {f"d{d}": d for d in range(devices)}
    counts = fill(rows, signal.bins, index, START, 24 * days, HOUR_NS)
    scores, sd = signal.bins.scores, signal.scales["cam"].spread
    zs = []
    for hour in range(24 * days):
        same = [h for h in range(hour % 24, 24 * days, 24) if h != hour]
        h_d, diff = [], []
        for d in range(devices):
            here, others = counts[hour, d], counts[same, d].sum(axis=0)
            if here.sum() and others.sum():
                h_d.append(1 / (1 / others.sum() + 1 / here.sum() + 0.01))
                diff.append((here @ scores / here.sum() - others @ scores / others.sum()) / sd)
        if len(h_d) >= 5:
            parts = np.array(h_d) / np.sum(h_d) * np.array(diff)
            zs.append(parts.sum() / np.sqrt(np.sum(parts**2)))
    assert signal.scales["cam"].k1 == (pytest.approx(max(1.0, np.std(zs, ddof=1))),)
    assert np.std(zs, ddof=1) > 1.0


def test_reading_in_chunks_gives_the_same_reference():
    rows = field_rows(days=4, seed=10)
    whole = field_reference(rows, days=4)
    daily = [[] for _ in range(4)]
    for one in rows:
        for day in range(4):
            mine = np.flatnonzero((one.hours_ns - START) // DAY_NS == day)
            daily[day].append(_part(one, mine))
    parts = build_field(
        lambda: [(START + day * DAY_NS, 24, daily[day]) for day in range(4)],
        model="digits", version="3", start_ns=START, end_ns=START + 4 * DAY_NS,
    )  # fmt: skip
    for name, one in whole.signals.items():
        assert parts.signals[name].counts == pytest.approx(one.counts)
        for tier, scale in one.scales.items():
            assert parts.signals[name].scales[tier].k1 == pytest.approx(scale.k1)


def _part(rows, index):
    import dataclasses

    return dataclasses.replace(
        rows, device=rows.device[index], tier=rows.tier[index], hours_ns=rows.hours_ns[index],
        entries=rows.entries[index],
    )  # fmt: skip


def test_a_golden_reference_pins_bins_and_knows_no_devices():
    golden = build_golden(field_rows(days=2), model="digits", version="3", start_ns=0, end_ns=1)
    assert golden.source == GOLDEN
    assert golden.signals["input:mean"].devices == ()
    tables = to_tables(golden, {}, 5)
    assert tables["baseline_devices"].num_rows == 0
    head = StoredBaseline(golden.baseline_id, "digits", "3", GOLDEN, 0, 1, 5)
    back = from_tables(head, tables["baseline_bins"], tables["baseline_devices"])
    assert back.signals["input:mean"].bins.counts.sum() == golden.signals["input:mean"].bins.counts.sum()
    assert back.signals["input:mean"].counts.shape[1] == 0
