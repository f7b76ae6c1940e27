from hypothesis import given
from hypothesis import strategies as st

from alerts.state import (
    GRID_NS,
    Action,
    Condition,
    Episode,
    Member,
    Phase,
    Signal,
    Timing,
    condition,
    next_due,
    observe,
    on_grid,
    onset,
    step,
)

MINUTE_NS = 60_000_000_000
T0 = 1_000 * GRID_NS
FIFTEEN = Timing(for_ns=15 * MINUTE_NS, resolve_after_ns=60 * MINUTE_NS, hold_max_ns=24 * 60 * MINUTE_NS)


def run(timing: Timing, script: list[Condition], blocker: list[str] | None = None) -> list[tuple[Action, int]]:
    """Play conditions on consecutive grid instants; return (action, instants since the start)."""
    episode: Episode | None = None
    done = []
    for index, now in enumerate(script):
        at = T0 + index * GRID_NS
        by = blocker[index] if blocker else ""
        episode, steps = step(episode, at, now, timing, onset_ns=at, blocker=by)
        done += [(found.action, index) for found in steps]
    return done


T, F, H, N = Condition.TRUE, Condition.FALSE, Condition.HOLD, Condition.NONE


def test_it_fires_once_true_for_the_whole_span() -> None:
    assert run(FIFTEEN, [T, T, T, T, T]) == [(Action.PENDING, 0), (Action.FIRING, 3)]


def test_without_a_span_it_fires_at_once_and_was_never_pending() -> None:
    assert run(Timing(), [F, T, T]) == [(Action.FIRING, 1)]


def test_a_false_look_starts_the_span_anew() -> None:
    assert run(FIFTEEN, [T, T, F, T, T, T, T]) == [
        (Action.PENDING, 0),
        (Action.CLEARED, 2),
        (Action.PENDING, 3),
        (Action.FIRING, 6),
    ]


def test_it_resolves_after_the_clear_count_and_a_flap_inside_is_not_seen() -> None:
    quick = Timing(resolve_after_ns=3 * GRID_NS)
    assert run(quick, [T, F, F, T, F, F, F, F]) == [(Action.FIRING, 0), (Action.RESOLVED, 7)]


def test_a_look_that_cannot_tell_neither_fires_nor_resolves() -> None:
    assert run(FIFTEEN, [T, H, H, H, H, T]) == [(Action.PENDING, 0), (Action.FIRING, 5)]
    assert run(Timing(), [T, H, H, H]) == [(Action.FIRING, 0)]


def test_no_data_for_too_long_ends_it_and_says_so() -> None:
    episode, _ = step(None, T0, T, Timing(), onset_ns=T0)
    after, steps = step(episode, T0 + GRID_NS, N, Timing(), onset_ns=T0)
    assert after is None
    assert [(found.action, found.reason) for found in steps] == [(Action.RESOLVED, "no_data")]


def test_a_blocked_alert_stays_pending_is_recorded_once_and_fires_when_the_block_ends_while_true() -> None:
    assert run(Timing(), [T, T, T, T], ["x", "x", "", ""]) == [
        (Action.PENDING, 0),
        (Action.SUPPRESSED, 0),
        (Action.FIRING, 2),
    ]


def test_a_suppressed_alert_that_was_false_in_between_waits_the_whole_span_again() -> None:
    timing = Timing(for_ns=2 * GRID_NS, resolve_after_ns=9 * GRID_NS)
    blocked = ["x", "x", "x", "", "", "", ""]
    assert run(timing, [T, T, T, F, T, T, T], blocked) == [
        (Action.PENDING, 0),
        (Action.SUPPRESSED, 2),
        (Action.FIRING, 6),
    ]


def test_a_block_does_not_touch_what_already_fires() -> None:
    assert run(Timing(), [T, T, F], ["", "x", "x"]) == [(Action.FIRING, 0), (Action.RESOLVED, 2)]


def test_a_sparse_row_stands_until_the_next_one_while_others_age() -> None:
    member = Member(value=True, held=False, definite_ns=T0, true_ns=T0)
    day = T0 + 2 * FIFTEEN.hold_max_ns
    assert condition([member], day, Timing(sparse=True)) is Condition.TRUE
    assert condition([member], day, FIFTEEN) is Condition.NONE


def test_a_true_member_outweighs_false_ones_and_a_held_true_outweighs_a_fresh_false() -> None:
    true, false = Member(True, False, T0, T0), Member(False, False, T0)
    held = Member(True, True, T0, T0)
    assert condition([true, false], T0, FIFTEEN) is Condition.TRUE
    assert condition([held, false], T0, FIFTEEN) is Condition.HOLD
    assert condition([false], T0, FIFTEEN) is Condition.FALSE
    assert condition([], T0, FIFTEEN) is Condition.NONE


def test_a_weak_row_keeps_what_is_true_and_starts_nothing() -> None:
    started = observe(None, Signal.KEEP, T0)
    assert started is not None
    assert not started.value
    true = observe(None, Signal.TRUE, T0, 5)
    kept = observe(true, Signal.KEEP, T0 + GRID_NS)
    assert kept == Member(True, False, T0 + GRID_NS, T0, 5)


def test_the_onset_is_the_earliest_estimate_else_the_first_true_look() -> None:
    assert onset([Member(True, False, 9, 7, 3), Member(True, False, 9, 5), Member(False, False, 9)], 9) == 3
    assert onset([], 9) == 9


def test_timers_end_on_the_grid() -> None:
    assert on_grid(T0 + 1) == T0 + GRID_NS
    pending = Episode(Phase.PENDING, T0, T0)
    assert next_due(pending, [], T0, Timing(for_ns=MINUTE_NS)) == T0 + GRID_NS
    assert next_due(pending, [], T0 + GRID_NS, Timing(for_ns=MINUTE_NS)) is None


CONDITIONS = st.lists(st.sampled_from([T, F, H, N]), min_size=1, max_size=60)
TIMINGS = st.builds(
    Timing,
    for_ns=st.integers(0, 6).map(lambda n: n * GRID_NS),
    resolve_after_ns=st.integers(0, 6).map(lambda n: n * GRID_NS),
)


@given(CONDITIONS, TIMINGS, st.data())
def test_it_never_fires_before_the_condition_held_for_the_span(
    script: list[Condition], timing: Timing, data: st.DataObject
) -> None:
    blocks = data.draw(st.lists(st.sampled_from(["", "x"]), min_size=len(script), max_size=len(script)))
    for action, index in run(timing, script, blocks):
        if action is Action.FIRING:
            assert script[index] is T
            assert blocks[index] == ""
            span = timing.for_ns // GRID_NS
            assert index >= span
            assert all(script[at] in {T, H} for at in range(index - span, index + 1))


@given(CONDITIONS, TIMINGS)
def test_actions_alternate_and_it_resolves_only_after_firing(script: list[Condition], timing: Timing) -> None:
    follows = {
        None: {Action.PENDING, Action.FIRING},
        Action.PENDING: {Action.FIRING, Action.CLEARED},
        Action.FIRING: {Action.RESOLVED},
        Action.RESOLVED: {Action.PENDING, Action.FIRING},
        Action.CLEARED: {Action.PENDING, Action.FIRING},
    }
    last: Action | None = None
    for action, index in run(timing, script):
        assert action in follows[last]
        if action is Action.RESOLVED:
            clear = timing.resolve_after_ns // GRID_NS
            assert script[index] is N or all(script[at] is not T for at in range(index - clear, index + 1))
        last = action
