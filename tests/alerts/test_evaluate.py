from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.evaluate import Change, Machine, signal
from alerts.memory import recall, recall_echo
from alerts.options import AlertOptions
from alerts.rules import effective_rules
from alerts.schema import Rule
from alerts.state import Action, Signal
from alerts.verdict import Verdict
from alerts.writing import refresh_row, state_row

STEP_NS = 300_000_000_000
HOUR_NS = 12 * STEP_NS
T0 = 1_794_448_800_000_000_000
DAY_NS = 24 * HOUR_NS
Make = Callable[..., Verdict]
TIER = "edge.device.tier"
FIRMWARE = "edge.firmware.version"


def rule(**fields: Any) -> Rule:
    given_fields = {"name": "burn", "kind": "slo", "when": {"verdict": "fast_burn"}, "severity": "page"}
    return Rule.model_validate({**given_fields, "summary": "{name} {where}", "runbook": "burn", **fields})


def play(rules: Sequence[Rule], rows: Sequence[Verdict], until_ns: int = T0 + 10 * DAY_NS) -> list[Change]:
    machine = Machine(rules)
    ordered = sorted(rows, key=lambda row: (row.at_ns, row.kind, row.key))
    return machine.advance(ordered, dict.fromkeys(machine.kinds, until_ns))


def told(changes: Sequence[Change]) -> list[tuple[str, str, int]]:
    """Return (action, limits in words, steps after T0) of each change."""
    return [
        (str(c.step.action), " ".join(value for _, value in sorted(c.live.limits)), (c.step.at_ns - T0) // STEP_NS)
        for c in changes
    ]


def test_words_that_cannot_tell_hold_and_others_are_compared(verdict: Make) -> None:
    burn = rule(when={"verdict": "fast_burn", "detail": {"severity": "page"}})
    assert signal(burn, verdict(verdict="no_data")) is Signal.HOLD
    assert signal(burn, verdict(verdict="too_few_events")) is Signal.HOLD
    assert signal(burn, verdict(detail={"severity": "page"})) is Signal.TRUE
    assert signal(burn, verdict(detail={"severity": "ticket"})) is Signal.FALSE
    assert signal(burn, verdict()) is Signal.FALSE
    assert signal(burn, verdict(verdict="on_pace", detail={"severity": "page"})) is Signal.FALSE


def test_a_detector_that_does_not_run_yet_says_nothing(verdict: Make) -> None:
    drift = rule(kind="drift", when={"detail": {"sr.alarm": True}})
    assert signal(drift, verdict("drift", detail={"sr": None})) is Signal.HOLD
    assert signal(drift, verdict("drift", detail={"sr": {"alarm": True}})) is Signal.TRUE
    assert signal(drift, verdict("drift", detail={"sr": {"alarm": 1}})) is Signal.FALSE
    assert signal(drift, verdict("drift", detail={"sr": {"alarm": False}})) is Signal.FALSE


def test_too_few_devices_are_no_alert(verdict: Make) -> None:
    silent = rule(kind="silence", when={}, min_devices=2)
    assert signal(silent, verdict("silence", devices=1)) is Signal.FALSE
    assert signal(silent, verdict("silence", devices=2)) is Signal.TRUE


def test_silence_began_when_enough_devices_were_silent_not_when_the_first_one_broke(verdict: Make) -> None:
    silent = rule(kind="silence", when={}, min_devices=2)
    heard = [T0 - 9 * DAY_NS, T0 - 4 * HOUR_NS, T0 - 3 * HOUR_NS]
    row = verdict("silence", devices=3, detail={"since_ns": heard[0], "last_heard_ns": heard})
    assert play([silent], [row], T0)[0].episode.onset_ns == T0 - 4 * HOUR_NS
    short = verdict("silence", devices=3, detail={"since_ns": heard[0]})
    assert play([silent], [short], T0)[0].episode.onset_ns == heard[0]


def test_a_rule_looks_only_at_its_names_and_cohorts(verdict: Make) -> None:
    narrow = rule(names=["inference-*"], cohort={TIER: "cam-*"})
    rows = [
        verdict(cohort={TIER: "cam-v2"}),
        verdict(cohort={TIER: "hub"}),
        verdict(),
        verdict(name="crash-free", cohort={TIER: "cam-v2"}),
    ]
    assert told(play([narrow], rows, T0)) == [("firing", "cam-v2", 0)]


def test_several_signals_of_one_model_and_cohort_are_one_alert_worst_first(verdict: Make) -> None:
    drift = rule(kind="drift", when={"detail": {"sr.alarm": True}}, group_by=["model", "version", "cohort"])
    alarm = {"sr": {"alarm": True, "onset_ns": T0 - HOUR_NS}}
    rows = [
        verdict("drift", name=name, value=value, model="digits", version="3", cohort={TIER: "a"}, detail=alarm)
        for name, value in (("input:mean", 0.2), ("output:confidence", -0.9), ("classes", 0.4))
    ]
    changes = play([drift], rows, T0)
    assert told(changes) == [("firing", "a digits 3", 0)]
    assert [row.name for row in changes[0].rows] == ["output:confidence", "classes", "input:mean"]
    assert changes[0].episode.onset_ns == T0 - HOUR_NS


def test_a_later_signal_joins_the_alert_and_its_end_waits_for_the_last(verdict: Make) -> None:
    drift = rule(kind="drift", when={"detail": {"sr.alarm": True}}, group_by=["model", "version", "cohort"])

    def at(hour: int, name: str, alarm: bool) -> Verdict:
        return verdict("drift", T0 + hour * HOUR_NS, name=name, verdict="ok", detail={"sr": {"alarm": alarm}})

    rows = [
        at(0, "a", True),
        at(1, "b", True),
        at(2, "a", False),
        at(2, "b", True),
        at(3, "a", False),
        at(3, "b", False),
    ]
    assert told(play([drift], rows, T0 + 5 * HOUR_NS)) == [("firing", "", 0), ("resolved", "", 36)]


def test_a_fleet_row_is_suppressed_while_its_tier_fires(verdict: Make) -> None:
    rows = [verdict(), verdict(cohort={TIER: "cam-v2"}), verdict(model="digits", version="3")]
    assert told(play([rule()], rows, T0)) == [
        ("firing", "digits 3", 0),
        ("firing", "cam-v2", 0),
        ("pending", "", 0),
        ("suppressed", "", 0),
    ]


def test_a_fleet_row_alone_fires_after_waiting_for_a_cohort_and_names_the_worst_one(verdict: Make) -> None:
    burn = rule(specific_first="10m")
    detail = {"burn": {"1h": 5.0}}
    rows = [verdict(at_ns=T0 + i * STEP_NS) for i in range(4)]
    rows += [
        verdict(at_ns=T0, cohort={TIER: tier}, verdict="rising", detail={"burn": {"1h": burn_rate}})
        for tier, burn_rate in (("a", 3.0), ("b", 9.0))
    ]
    rows += [verdict(at_ns=T0, cohort={TIER: "c"}, verdict="too_few_events", detail=detail)]
    changes = play([burn], rows, T0 + HOUR_NS)
    assert told(changes) == [("pending", "", 0), ("firing", "", 2)]
    assert [row.cohort for row in changes[1].worst] == [{TIER: "b"}, {TIER: "a"}]


def test_the_same_devices_seen_along_another_dimension_are_one_alert(verdict: Make) -> None:
    bad = ["d1", "d2", "d3", "d4", "d5"]
    version = verdict(model="digits", version="3", detail={"bad_devices": bad, "burn": {"1h": 20.0}})
    tier = verdict(cohort={TIER: "a"}, detail={"bad_devices": bad[:4], "burn": {"1h": 15.0}})
    other = verdict(cohort={TIER: "b"}, detail={"bad_devices": ["d5", "d8"], "burn": {"1h": 15.0}})
    assert told(play([rule(shared_devices=0.8)], [version, tier, other], T0)) == [
        ("firing", "digits 3", 0),
        ("pending", "a", 0),
        ("suppressed", "a", 0),
        ("firing", "b", 0),
    ]


def test_another_rule_inhibits_overlapping_cohorts_only(verdict: Make) -> None:
    loop = rule(name="loop", kind="crash_free", names="crash_loop", when={"verdict": "missed"})
    missed = rule(
        name="missed",
        kind="crash_free",
        names="crash_free_*",
        when={"verdict": "missed"},
        inhibited_by=[{"rule": "loop"}],
    )
    rows = [
        verdict("crash_free", name="crash_loop", cohort={TIER: "a", FIRMWARE: "4.2"}),
        verdict("crash_free", name="crash_free_time", cohort={FIRMWARE: "4.2"}),
        verdict("crash_free", name="crash_free_time", cohort={TIER: "b"}),
    ]
    assert told(play([missed, loop], rows, T0)) == [
        ("firing", "a 4.2", 0),
        ("firing", "b", 0),
        ("pending", "4.2", 0),
        ("suppressed", "4.2", 0),
    ]


def test_a_suppressed_alert_fires_an_hour_after_what_explained_it_ended(verdict: Make) -> None:
    rows = [verdict(at_ns=T0 + i * STEP_NS) for i in range(40)]
    rows += [
        verdict(at_ns=T0, cohort={TIER: "a"}),
        verdict(at_ns=T0 + 2 * STEP_NS, cohort={TIER: "a"}, verdict="on_pace"),
    ]
    assert told(play([rule()], rows, T0 + 39 * STEP_NS)) == [
        ("firing", "a", 0),
        ("pending", "", 0),
        ("suppressed", "", 0),
        ("resolved", "a", 2),
        ("firing", "", 14),
    ]


def test_the_end_of_what_suppressed_it_is_an_instant_of_its_own_without_any_row(verdict: Make) -> None:
    silent = rule(kind="silence", when={}, min_devices=2)
    rows = [
        verdict("silence", devices=5),
        verdict("silence", cohort={TIER: "a"}, devices=3),
        verdict("silence", T0 + STEP_NS, cohort={TIER: "a"}, verdict="met", devices=0),
    ]
    assert told(play([silent], rows, T0 + DAY_NS))[3:] == [("resolved", "a", 1), ("firing", "", 13)]


def test_trouble_that_comes_back_is_a_new_alert_at_once(verdict: Make) -> None:
    words = ("fast_burn", "on_pace", "fast_burn")
    changes = play(
        [rule()], [verdict(at_ns=T0 + n * STEP_NS, verdict=word) for n, word in enumerate(words)], T0 + HOUR_NS
    )
    assert told(changes) == [("firing", "", 0), ("resolved", "", 1), ("firing", "", 2)]
    assert changes[0].id == changes[1].id != changes[2].id


def test_timers_act_between_rows(verdict: Make) -> None:
    slow = rule(**{"for": "20m", "resolve_after": "30m"})
    rows = [verdict(at_ns=T0), verdict(at_ns=T0 + HOUR_NS, verdict="on_pace")]
    assert told(play([slow], rows)) == [("pending", "", 0), ("firing", "", 4), ("resolved", "", 18)]


def test_rows_that_stop_end_the_alert_as_unknown_except_where_rows_come_on_change_only(verdict: Make) -> None:
    silent = rule(name="silent", kind="silence", when={}, min_devices=2)
    changes = play([rule(hold_max="6h"), silent], [verdict(), verdict("silence", devices=3)])
    assert told(changes) == [("firing", "", 0), ("firing", "", 0), ("resolved", "", 72)]
    assert changes[2].step.reason == "no_data"


def test_a_row_that_cannot_tell_holds_the_alert_up_to_the_limit(verdict: Make) -> None:
    rows = [verdict(at_ns=T0), *(verdict(at_ns=T0 + h * HOUR_NS, verdict="no_data") for h in range(1, 40))]
    assert told(play([rule(hold_max="24h")], rows)) == [("firing", "", 0), ("resolved", "", 24 * 12)]


def test_a_lagging_kind_holds_up_nobody_and_loses_nothing(verdict: Make) -> None:
    drift = rule(name="drift", kind="drift", when={"verdict": "drift"})
    machine = Machine([rule(), drift])
    first = machine.advance([verdict(at_ns=T0 + HOUR_NS)], {"slo": T0 + HOUR_NS, "drift": T0 - HOUR_NS})
    late = machine.advance([verdict("drift", T0)], {"slo": T0 + HOUR_NS, "drift": T0 + HOUR_NS})
    assert told([*first, *late]) == [("firing", "", 12), ("firing", "", 0)]


ROWS = st.lists(
    st.tuples(
        st.integers(1, 80),
        st.sampled_from(["slo", "drift", "silence"]),
        st.sampled_from([{}, {TIER: "a"}, {TIER: "b"}, {TIER: "a", FIRMWARE: "1"}]),
        st.sampled_from(["true", "true", "false", "hold", "keep"]),
    ),
    max_size=60,
    unique_by=lambda row: (row[0], row[1], str(row[2])),
)
RULES = (
    rule(**{"for": "15m", "specific_first": "10m", "resolve_after": "30m", "hold_max": "2h", "shared_devices": 0.8}),
    rule(
        name="ticket",
        severity="ticket",
        resolve_after="20m",
        hold_max="1h",
        inhibited_by=[{"rule": "burn", "same": ["name"]}],
    ),
    rule(
        name="drift",
        kind="drift",
        when={"detail": {"sr.alarm": True}},
        keep_while={"verdict": "drift"},
        group_by=["cohort"],
        resolve_after="10m",
    ),
    rule(name="silent", kind="silence", when={}, min_devices=2, resolve_after="5m"),
)


def _drawn(make: Make, drawn: tuple[int, str, Mapping[str, str], str]) -> Verdict:
    instant, kind, cohort, says = drawn
    at_ns = T0 + instant * STEP_NS
    words = {
        "slo": {"true": "fast_burn", "false": "on_pace", "hold": "no_data", "keep": "rising"},
        "drift": {"true": "drift", "false": "ok", "hold": "insufficient", "keep": "drift"},
        "silence": {"true": "missed", "false": "met", "hold": "no_data", "keep": "met"},
    }
    devices = 3 if says == "true" else 0
    detail = {"sr": {"alarm": says == "true"}, "bad_devices": ["x"] if "a" in cohort.values() else ["y"]}
    return make(kind, at_ns, cohort=cohort, verdict=words[kind][says], devices=devices, detail=detail)


def _slices(
    rows: Sequence[Verdict], cuts: Sequence[int], end_ns: int, restart: bool
) -> tuple[list[tuple[str, str, int]], list[dict[str, Any]]]:
    """Advance through sub-ranges that end at the cuts; with `restart` through stored rows each time."""
    machine = Machine(RULES)
    by_name = {entry.name: entry for entry in RULES}
    found: list[tuple[str, str, int]] = []
    stored: dict[str, dict[str, Any]] = {}
    begin = T0
    for end in [*sorted({T0 + cut * STEP_NS for cut in cuts}), end_ns]:
        part = [row for row in rows if begin < row.at_ns <= end]
        changes = machine.advance(part, dict.fromkeys(machine.kinds, end))
        found += [(c.id, str(c.step.action), c.step.at_ns) for c in changes]
        states = [state_row(change, AlertOptions()) for change in changes]
        states += [refresh_row(live, AlertOptions()) for live in machine.live.values()]
        stored |= {state.alert: state.row(0) for state in states}
        if restart:
            alive = [recall(by_name[r["rule"]], r) for r in stored.values() if r["state"] in {"pending", "firing"}]
            echoes = [recall_echo(by_name[r["rule"]], r) for r in stored.values() if r["state"] == "resolved"]
            machine = Machine(RULES, alive, echoes)
        begin = end
    return found, list(stored.values())


def _ordered(make: Make, drawn: Sequence[tuple[int, str, Mapping[str, str], str]]) -> list[Verdict]:
    return sorted((_drawn(make, entry) for entry in drawn), key=lambda row: (row.at_ns, row.kind, row.key))


@settings(max_examples=150, deadline=None)
@given(drawn=ROWS, cuts=st.lists(st.integers(1, 100), max_size=8))
def test_any_split_of_the_span_gives_the_same_changes(
    verdict: Make, drawn: list[tuple[int, str, Mapping[str, str], str]], cuts: list[int]
) -> None:
    rows = _ordered(verdict, drawn)
    end_ns = T0 + 110 * STEP_NS
    whole, _ = _slices(rows, [], end_ns, restart=False)
    assert _slices(rows, cuts, end_ns, restart=False)[0] == whole


@settings(max_examples=150, deadline=None)
@given(drawn=ROWS, cuts=st.lists(st.integers(1, 100), max_size=8))
def test_a_restart_after_every_slice_changes_nothing(
    verdict: Make, drawn: list[tuple[int, str, Mapping[str, str], str]], cuts: list[int]
) -> None:
    rows = _ordered(verdict, drawn)
    end_ns = T0 + 110 * STEP_NS
    whole, stored = _slices(rows, [], end_ns, restart=False)
    again, stored_again = _slices(rows, cuts, end_ns, restart=True)
    assert again == whole
    assert {row["alert_id"]: row["state"] for row in stored_again} == {row["alert_id"]: row["state"] for row in stored}


def test_packaged_rules_are_enabled_and_ordered_by_who_inhibits_whom() -> None:
    rules = effective_rules(None)
    assert {entry.name for entry in rules} == {
        "slo_fast_burn_page",
        "slo_fast_burn_ticket",
        "drift",
        "crash_loop",
        "crash_free_missed",
        "silent_devices",
    }


@pytest.mark.parametrize("action", [Action.FIRING])
def test_an_alert_id_is_the_same_for_the_same_trouble(verdict: Make, action: Action) -> None:
    first, second = play([rule()], [verdict()], T0), play([rule()], [verdict()], T0)
    assert first[0].id == second[0].id
    assert first[0].step.action is action
