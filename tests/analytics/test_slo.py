"""Burn arithmetic and guards: exact edges, states, and false pages of small fleets by simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from analytics.options import DAY_NS, HOUR_NS
from analytics.slo import (
    MICRO,
    SLOT_NS,
    Guard,
    Offenders,
    Series,
    budget,
    exceeds,
    guard_holds,
    micro,
    pair_burn,
    quiet,
    state,
    time_left_ns,
    time_slices,
    widths,
    worst_devices,
)  # fmt: skip
from analytics.windows import burn_windows

PERIOD = 30 * DAY_NS
ALLOWED = Fraction(1, 1000)
NOBODY = Offenders(*(np.zeros(0, np.int64) for _ in range(3)), ())


def ints(*values):
    return np.array(values, dtype=np.int64)


def offenders_of(matrix: np.ndarray) -> Offenders:
    """From bad events (devices x slots)."""
    device, slot = np.nonzero(matrix)
    return Offenders(slot, device, micro(matrix[device, slot]), tuple(f"dev-{i}" for i in range(len(matrix))))


def judged(matrix: np.ndarray, total_a_slot: float, allowed=ALLOWED, guard: Guard | None = None, short_ns=SLOT_NS):
    """Return (series, pairs at every slot) of bad events by device and slot."""
    slots = matrix.shape[1]
    series = Series(0, micro(matrix.sum(axis=0)), micro(np.full(slots, total_a_slot)))
    ends = np.arange(1, slots + 1)
    shortest = np.full(slots, short_ns, np.int64)
    offenders = offenders_of(matrix)
    return series, [
        pair_burn(series, ends, window, allowed, shortest, guard or Guard(), offenders)
        for window in burn_windows(PERIOD)
    ]


def test_a_burn_of_exactly_the_threshold_does_not_exceed_it_and_one_event_more_does():
    # 14.4 x 0.001 x 10 000 events = 144 bad; in doubles 14.4 * 0.001 is 0.014400000000000001
    limit = Fraction("14.4") * Fraction("0.001")
    total = micro([10_000, 10_000, 10_000])
    assert exceeds(micro([143, 144, 145]), total, limit).tolist() == [False, False, True]
    assert exceeds(ints(0), ints(0), limit).tolist() == [False]


@pytest.mark.parametrize("total", [1, 69, 625, 10_000, 10**9])
@pytest.mark.parametrize("limit", [Fraction(9, 625), Fraction(1, 3), Fraction("0.006"), Fraction("0.7")])
def test_comparisons_near_the_edge_are_exact(total, limit):
    edge = limit * total * MICRO
    for bad in range(max(math.floor(edge) - 2, 0), math.ceil(edge) + 3):
        assert bool(exceeds(ints(bad), ints(total * MICRO), limit)[0]) == (Fraction(bad) > edge)


def test_one_bad_event_trips_the_plain_rule_in_a_small_fleet_and_the_guard_refuses_it():
    matrix = np.zeros((3, 12))
    matrix[0, 11] = 1
    _, pairs = judged(matrix, 50 / 12)
    assert pairs[0].long_over[11]
    assert pairs[0].short_over[11]
    assert not pairs[0].held[11]
    found = state(pairs, 11)
    assert (found.verdict, found.pair) == ("too_few_events", 0)


def test_many_devices_that_fail_page_at_once():
    matrix = np.zeros((20, 24))
    matrix[:, 12:] = 2
    _, pairs = judged(matrix, 60)
    assert state(pairs, 11).verdict == "on_pace"
    assert state(pairs, 13).verdict == "fast_burn"
    assert pairs[state(pairs, 13).pair].window.severity == "page"


def test_one_looping_device_never_pages_however_bad():
    matrix = np.zeros((20, 48))
    matrix[7, 12:] = 5
    _, pairs = judged(matrix, 60)
    assert {state(pairs, at).verdict for at in range(12, 48)} == {"too_few_events"}


def test_states_follow_the_two_windows():
    matrix = np.zeros((20, 600))
    matrix[:, 100:112] = 1
    _, pairs = judged(matrix, 100)
    found = {at: state(pairs, at) for at in (99, 106, 115, 120, 599)}
    assert {at: one.verdict for at, one in found.items()} == {
        99: "on_pace", 106: "fast_burn", 115: "fast_burn", 120: "fast_burn", 599: "recovering",
    }  # fmt: skip
    # once the last five minutes and half hour are clean the day's budget is still burning: a ticket, no page
    assert [pairs[found[at].pair].window.name for at in (106, 115, 120)] == ["1h/5m", "6h/30m", "1d/2h"]
    assert [pairs[found[at].pair].window.severity for at in (106, 115, 120)] == ["page", "page", "ticket"]


def test_rising_is_when_only_the_short_window_is_over():
    matrix = np.zeros((20, 864))
    matrix[:3, 863] = 1
    _, pairs = judged(matrix, 200)
    assert state(pairs, 863).verdict == "rising"


def test_an_empty_paging_window_is_no_data():
    series = Series(0, np.zeros(100, np.int64), np.concatenate([micro(np.full(10, 5.0)), np.zeros(90, np.int64)]))
    ends = np.arange(1, 101)
    pairs = [
        pair_burn(series, ends, window, ALLOWED, np.full(100, SLOT_NS), Guard(), NOBODY)
        for window in burn_windows(PERIOD)
    ]
    assert state(pairs, 9).verdict == "on_pace"
    assert state(pairs, 99).verdict == "no_data"
    assert quiet(pairs)[9]
    assert not quiet(pairs)[99]


def test_quiet_instants_are_exactly_those_on_pace():
    generator = np.random.default_rng(1)
    matrix = (generator.random((10, 400)) < 0.002).astype(float)
    _, pairs = judged(matrix, 40)
    on_pace = [state(pairs, at).verdict == "on_pace" for at in range(400)]
    assert quiet(pairs).tolist() == on_pace
    assert 0 < sum(on_pace) < 400


def test_a_window_is_never_shorter_than_the_telemetry_it_must_hold():
    assert widths(SLOT_NS, ints(SLOT_NS, 900 * 10**9, 901 * 10**9)).tolist() == [1, 3, 4]
    assert widths(HOUR_NS, ints(900 * 10**9)).tolist() == [12]
    # windows of 15 minutes fill every third slot: five minutes alone would forget the trouble two times of three
    matrix = np.zeros((20, 36))
    matrix[:, 2::3] = 6
    _, narrow = judged(matrix, 60)
    _, wide = judged(matrix, 60, short_ns=3 * SLOT_NS)
    assert not narrow[0].short_over[33]
    assert wide[0].short_over[33]
    assert {state(wide, at).verdict for at in range(12, 36)} == {"fast_burn"}


def test_the_guard_needs_two_devices_two_events_and_improbability():
    limit = Fraction(9, 625)
    total = micro([50, 50, 50, 50, 5000])
    rest, devices = micro([3, 3, 1, 4, 75]), ints(1, 2, 2, 2, 40)
    held = guard_holds(Guard(), rest, devices, total, limit)
    assert held.tolist() == [False, True, False, True, False]
    for n, bad, expected in ((50, 3, held[1]), (5000, 75, held[4])):
        assert (stats.binomtest(bad, n, float(limit), "greater").pvalue <= 0.05) == expected


def test_parts_of_events_count_the_cautious_way():
    limit = Fraction(1, 100)
    assert not guard_holds(Guard(), micro([1.99]), ints(3), micro([10]), limit)[0]
    assert guard_holds(Guard(), micro([2.0]), ints(3), micro([10]), limit)[0]


def test_worst_devices_of_an_interval_are_those_of_a_plain_sum():
    generator = np.random.default_rng(7)
    matrix = (generator.random((700, 50)) < 0.05) * generator.integers(1, 9, (700, 50)).astype(float)
    starts, ends = ints(0, 10, 40, 25), ints(50, 20, 41, 25)
    found = worst_devices(offenders_of(matrix), 50, starts, ends)
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        sums = matrix[:, start:end].sum(axis=1)
        assert found.worst[position] == micro(sums.max(initial=0))
        assert found.devices[position] == (sums > 0).sum()
        top = [i for i, n in zip(found.top[position], found.top_bad[position], strict=True) if n > 0]
        assert top == list(np.argsort(-sums, kind="stable")[: min(20, (sums > 0).sum())])


def test_a_later_beginning_of_the_series_changes_no_verdict():
    generator = np.random.default_rng(2)
    matrix = (generator.random((12, 1200)) < 0.004).astype(float)
    _, whole = judged(matrix, 30)
    _, tail = judged(matrix[:, 200:], 30)
    for a, b in zip(whole, tail, strict=True):
        assert np.array_equal(a.long_bad[1100:], b.long_bad[900:])
        assert np.array_equal(a.held[1100:], b.held[900:])


def test_the_budget_left_is_exact_and_negative_once_overspent():
    series = Series(0, micro([0, 5, 20]), micro([10_000, 0, 0]))
    left = budget(series, ints(1, 2, 3), PERIOD, ALLOWED).left
    assert left.tolist() == pytest.approx([1.0, 0.5, -1.5])
    assert math.isnan(budget(Series(0, ints(0), ints(0)), ints(1), PERIOD, ALLOWED).left[0])


def test_time_left_is_the_share_left_over_the_burn():
    assert time_left_ns(0.5, 10.0, PERIOD) == PERIOD // 20
    assert time_left_ns(-0.2, 1.0, PERIOD) == 0
    assert time_left_ns(0.9, 0.5, PERIOD) is None
    assert time_left_ns(math.nan, 1.0, PERIOD) is None


def test_time_slices_count_slices_not_events():
    # two slices of 15 minutes: one event bad of a thousand is fine, half of ten is not
    bad, total = [1, 0, 0, 0, 5, 0], [1000, 0, 0, 0, 10, 0]
    matrix = np.zeros((2, 6))
    matrix[0, 0], matrix[0, 4], matrix[1, 4] = 1, 3, 2
    series = Series(0, micro(bad), micro(total))
    sliced, named, rest = time_slices(series, offenders_of(matrix), 3 * SLOT_NS, Fraction("0.95"))
    assert sliced.total.tolist() == [0, 0, MICRO, 0, 0, MICRO]
    assert sliced.bad.tolist() == [0, 0, 0, 0, 0, MICRO]
    assert sorted(zip(named.slot.tolist(), named.device.tolist(), strict=True)) == [(5, 0), (5, 1)]
    # without the worse device's 3 the slice is still bad by the other's 2 of 10
    assert rest.tolist() == [0, 0, 0, 0, 0, MICRO]


def test_a_slice_that_one_device_spoils_is_not_counted_by_the_guard():
    matrix = np.zeros((2, 3))
    matrix[0, 1] = 9
    series = Series(0, micro([0, 9, 0]), micro([10, 10, 10]))
    sliced, _, rest = time_slices(series, offenders_of(matrix), 3 * SLOT_NS, Fraction("0.95"))
    assert sliced.bad.sum() == MICRO
    assert rest.sum() == 0


@pytest.mark.parametrize("devices", [20, 50])
def test_small_fleets_with_a_looping_device_are_not_paged_in_ninety_days(devices):
    """80 % of the budget is spent, one device crash-loops three times for 6 h; the plain rule pages 71..104 times.

    Poisson events at 1 an hour and device: the expected number of false pages was 0..0.25 a 90 days; over 4 fleets at
    most 1 is expected, so 4 is beyond the 99.6 % quantile of a Poisson(1).
    """
    generator = np.random.default_rng(devices)
    slots = 90 * 288
    pages = plain = 0
    for _ in range(4):
        bad = generator.poisson(0.0008 / 12, (devices, slots)).astype(float)
        for begin in generator.integers(0, slots - 72, 3):
            bad[0, begin : begin + 72] += generator.poisson(2 / 12, 72)
        _, pairs = judged(bad, devices / 12)
        for pair in pairs[:2]:
            both = pair.long_over & pair.short_over
            plain += int((np.diff(both.astype(int)) == 1).sum())
            pages += int((np.diff(pair.held.astype(int)) == 1).sum())
    assert plain > 100
    assert pages < 4


def test_a_burn_over_the_whole_fleet_is_found_within_the_published_delay():
    """200 devices x 60/h at 20 times the budget: the median over 25 fleets was 40 minutes on the 5-minute grid."""
    generator = np.random.default_rng(11)
    delays = []
    for _ in range(9):
        bad = np.zeros((200, 288))
        bad[:, 144:] = generator.poisson(60 / 12 * 0.02, (200, 144))
        _, pairs = judged(bad, 200 * 5)
        fired = np.flatnonzero(pairs[0].held | pairs[1].held)
        delays.append((fired[0] - 144 + 1) * 5)
    assert 35 <= float(np.median(delays)) <= 50
