"""The guard: faults of the SDK stay inside, are counted, and cost one log line a minute."""

from __future__ import annotations

import logging

import pytest

import device_sdk.errors as errors
from device_sdk.errors import guard, log_rationed, nearest, raise_swallowed, swallowed_count


def test_a_fault_is_swallowed_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    raise_swallowed(False)
    errors._guarding.next_log_s = 0.0
    before = swallowed_count()
    with guard("folding"):
        raise ValueError("inside")
    assert swallowed_count() == before + 1
    assert "folding failed and was skipped: ValueError: inside" in caplog.text


def test_under_test_the_fault_comes_through() -> None:
    with pytest.raises(ValueError, match="inside"), guard("folding"):
        raise ValueError("inside")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_is_never_swallowed(kind: type[BaseException]) -> None:
    raise_swallowed(False)
    with pytest.raises(kind), guard("folding"):
        raise kind


def test_at_most_one_line_a_minute(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    errors._guarding.next_log_s = 0.0
    for second in range(125):
        now[0] = 1000.0 + second
        log_rationed(logging.WARNING, "line %d", second)
    errors._guarding.next_log_s = 0.0
    assert [record.message for record in caplog.records] == ["line 0", "line 60", "line 120"]


@pytest.mark.parametrize(
    ("word", "said"), [("durabel", "did you mean 'durable'?"), ("zzz", "known are durable, memory")]
)
def test_the_nearest_known_word_is_suggested(word: str, said: str) -> None:
    assert nearest(word, ["memory", "durable"]) == said
