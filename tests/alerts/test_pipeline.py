"""The stages against receivers that answer from a script; time and sleep are given, nothing waits."""

from collections.abc import Sequence
from typing import Any

from alerts.message import Message
from alerts.notify.base import Failed, Notice, Outcome, Retry, Sent
from alerts.options import AlertOptions
from alerts.pipeline import Pipeline

NOW_NS = 1_794_448_800_000_000_000
HOUR_NS = 3_600_000_000_000
MESSAGE = Message("s", "t", (), "t\n", "t")


class Scripted:
    """A receiver that answers from a list, then takes everything."""

    def __init__(self, label: str, answers: Sequence[Outcome | Exception] = ()) -> None:
        self.label = label
        self.answers = list(answers)
        self.got: list[str] = []
        self.closed = False

    def send(self, notice: Notice) -> Outcome:
        self.got.append(notice.id)
        answer = self.answers.pop(0) if self.answers else Sent()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


def notice(state: str = "firing", at_ns: int = NOW_NS, alert: str = "a") -> Notice:
    return Notice(f"{alert}-{state}", state, at_ns, {"id": alert, "severity": "page"}, MESSAGE)


def pipeline(receivers: Sequence[Scripted], **options: Any) -> tuple[Pipeline, list[float]]:
    slept: list[float] = []
    clock = iter(range(10**9))
    made = Pipeline(receivers, AlertOptions(**options), sleep=slept.append, monotonic=lambda: next(clock) * 0.001)
    return made, slept


def told(entries: Sequence[Any]) -> list[tuple[str, str, str]]:
    return [
        (entry.action, entry.detail["receiver"], entry.detail.get("reason") or entry.detail.get("error") or "")
        for entry in entries
    ]


def test_every_receiver_is_told_once() -> None:
    one, two = Scripted("one"), Scripted("two")
    stages, _ = pipeline([one, two])
    stages.offer(notice())
    assert told(stages.run(NOW_NS)) == [("notice_sent", "one", ""), ("notice_sent", "two", "")]
    assert stages.run(NOW_NS) == []
    assert (one.got, two.got) == (["a-firing"], ["a-firing"])


def test_replayed_history_wakes_nobody_and_is_recorded() -> None:
    one = Scripted("one")
    stages, _ = pipeline([one])
    stages.offer(notice(at_ns=NOW_NS - HOUR_NS - 1))
    stages.offer(notice(at_ns=NOW_NS - HOUR_NS, alert="b"))
    assert told(stages.run(NOW_NS)) == [("notice_skipped", "one", "history"), ("notice_sent", "one", "")]
    assert one.got == ["b-firing"]


def test_history_is_sent_when_asked_for() -> None:
    stages, _ = pipeline([Scripted("one")], notify_history=True)
    stages.offer(notice(at_ns=0))
    assert told(stages.run(NOW_NS)) == [("notice_sent", "one", "")]


def test_without_a_receiver_that_is_recorded() -> None:
    stages, _ = pipeline([])
    stages.offer(notice())
    assert told(stages.run(NOW_NS)) == [("notice_skipped", "none", "no_receiver")]


def test_a_failed_send_backs_off_inside_the_call_and_is_tried_in_later_ones() -> None:
    one = Scripted("one", [Retry("down")] * 4)
    stages, slept = pipeline([one], send_attempts=3, send_budget_s=100.0)
    stages.offer(notice())
    assert told(stages.run(NOW_NS)) == [("notice_failed", "one", "down")]
    assert slept == [0.5, 2.0]
    assert told(stages.run(NOW_NS + 5 * HOUR_NS)) == [("notice_sent", "one", "")]
    assert len(one.got) == 5


def test_the_receivers_own_wish_to_wait_is_kept_within_the_budget() -> None:
    one = Scripted("one", [Retry("busy", 3.0), Retry("busy", 900.0)])
    stages, slept = pipeline([one], send_budget_s=10.0)
    stages.offer(notice())
    assert told(stages.run(NOW_NS)) == [("notice_failed", "one", "busy")]
    assert slept == [3.0]


def test_it_gives_up_after_the_last_round_and_says_so() -> None:
    one = Scripted("one", [Retry("down")] * 99)
    stages, _ = pipeline([one], send_attempts=1, notice_rounds=2)
    stages.offer(notice())
    retries = [stages.run(NOW_NS)[0].detail["will_retry"], stages.run(NOW_NS)[0].detail["will_retry"]]
    assert retries == [True, False]
    assert stages.outstanding == 0


def test_what_can_never_go_through_is_not_tried_again() -> None:
    one = Scripted("one", [Failed("answered 404")])
    stages, slept = pipeline([one])
    stages.offer(notice())
    assert told(stages.run(NOW_NS)) == [("notice_failed", "one", "answered 404")]
    assert (stages.outstanding, slept) == (0, [])


def test_a_receiver_that_raises_is_a_failed_send_and_stops_nobody() -> None:
    one, two = Scripted("one", [RuntimeError("bug with a secret")]), Scripted("two")
    stages, _ = pipeline([one, two])
    stages.offer(notice())
    assert told(stages.run(NOW_NS)) == [
        ("notice_failed", "one", "RuntimeError in the receiver"),
        ("notice_sent", "two", ""),
    ]


def test_an_end_is_told_only_to_whom_the_beginning_was_told_and_after_it() -> None:
    one, two = Scripted("one", [Retry("down")] * 3), Scripted("two", [Failed("gone")])
    stages, _ = pipeline([one, two])
    stages.offer(notice())
    stages.run(NOW_NS)
    stages.offer(notice("resolved", NOW_NS + 1))
    assert told(stages.run(NOW_NS + 1)) == [
        ("notice_skipped", "two", "firing_not_sent"),
        ("notice_sent", "one", ""),
        ("notice_sent", "one", ""),
    ]
    assert one.got[-2:] == ["a-firing", "a-resolved"]


def test_an_end_waits_while_its_beginning_is_still_tried_and_goes_with_it() -> None:
    one = Scripted("one", [Retry("down")] * 2)
    stages, _ = pipeline([one], send_attempts=1, notice_rounds=2)
    stages.offer(notice())
    stages.offer(notice("resolved"))
    first = told(stages.run(NOW_NS))
    assert first == [("notice_failed", "one", "down"), ("notice_waiting", "one", "firing_first")]
    assert told(stages.run(NOW_NS)) == [("notice_failed", "one", "down"), ("notice_skipped", "one", "firing_not_sent")]
    assert one.got == ["a-firing", "a-firing"]


def test_the_beginning_skipped_as_history_skips_its_end() -> None:
    one = Scripted("one")
    stages, _ = pipeline([one])
    stages.offer(notice(at_ns=NOW_NS - 9 * HOUR_NS))
    stages.offer(notice("resolved"))
    assert told(stages.run(NOW_NS)) == [
        ("notice_skipped", "one", "history"),
        ("notice_skipped", "one", "firing_not_sent"),
    ]


def test_a_spent_budget_leaves_the_rest_outstanding() -> None:
    one = Scripted("one")
    stages, _ = pipeline([one], send_budget_s=0.0)
    stages.offer(notice())
    assert told(stages.run(NOW_NS)) == [("notice_waiting", "one", "budget")]
    assert stages.run(NOW_NS) == [], "said once"
    assert stages.outstanding == 1
    assert one.got == []


def written(entries: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"action": entry.action, "alert_id": entry.alert, "detail": entry.detail} for entry in entries]


def test_after_a_restart_the_receiver_whose_turn_never_came_is_told_and_the_other_is_not_told_twice() -> None:
    clock = iter([0.0, 0.0, *[99.0] * 9])
    stages = Pipeline(
        [Scripted("one"), Scripted("two")], AlertOptions(send_budget_s=10.0), monotonic=lambda: next(clock)
    )
    stages.offer(notice())
    ledger = written(stages.run(NOW_NS))
    one, two = Scripted("one"), Scripted("two")
    after, _ = pipeline([one, two])
    after.resume([notice()], ledger)
    assert told(after.run(NOW_NS)) == [("notice_sent", "two", "")]
    assert (one.got, two.got) == ([], ["a-firing"])


def test_after_a_restart_an_end_still_follows_the_beginning_that_was_being_retried() -> None:
    stages, _ = pipeline([Scripted("one"), Scripted("two", [Retry("down")] * 2)], send_attempts=1)
    stages.offer(notice())
    ledger = written(stages.run(NOW_NS))
    stages.offer(notice("resolved"))
    ledger += written(stages.run(NOW_NS))
    one, two = Scripted("one"), Scripted("two")
    after, _ = pipeline([one, two])
    after.resume([notice(), notice("resolved")], ledger)
    after.run(NOW_NS)
    assert (one.got, two.got) == ([], ["a-firing", "a-resolved"])


def test_entries_have_ids_of_their_own_and_the_same_in_every_run() -> None:
    def play() -> list[str]:
        stages, _ = pipeline([Scripted("one", [Retry("down")] * 2), Scripted("two")], send_attempts=1)
        stages.offer(notice())
        return [entry.id for _ in range(3) for entry in stages.run(NOW_NS)]

    assert play() == play()
    assert len(set(play())) == 4


def test_after_a_restart_only_what_is_undecided_goes_out() -> None:
    def row(action: str, of: Notice, receiver: str, **detail: Any) -> dict[str, Any]:
        full = {"notice": of.id, "receiver": receiver, "state": of.state, **detail}
        return {"action": action, "alert_id": of.alert["id"], "detail": full}

    sent, failed, lost, new = (notice(alert=name) for name in ("sent", "failed", "lost", "new"))
    end = notice("resolved", alert="sent")
    one, two = Scripted("one"), Scripted("two")
    stages, _ = pipeline([one, two])
    stages.resume(
        [sent, failed, lost, new, end],
        [
            row("notice_sent", sent, "one", round=1),
            row("notice_skipped", sent, "two", reason="history"),
            row("notice_failed", failed, "one", round=1, will_retry=True),
            row("notice_sent", failed, "two", round=1),
            row("notice_failed", lost, "one", round=9, will_retry=False),
            {"action": "firing", "alert_id": "x", "detail": {}},
        ],
    )
    stages.run(NOW_NS)
    assert one.got == ["failed-firing", "new-firing", "sent-resolved"]
    assert two.got == ["new-firing"]


def test_closing_closes_every_receiver() -> None:
    one = Scripted("one")
    pipeline([one])[0].close()
    assert one.closed
