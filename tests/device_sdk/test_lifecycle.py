"""Sessions, windows and time: what a death leaves behind and what the next start tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from sdk_kit import SECOND, START_NS, attributes_of, points

from device_sdk import ConfigError, Monitor
from device_sdk.contract import attributes as a
from device_sdk.testing import ManualClock, MemorySink, connect, kill


def end_of(world: Any) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    ((attributes, (record, resource)),) = [(at, rest) for name, at, rest in world.events() if name == "session.end"]
    return attributes, record, resource


def test_a_clean_end_is_told_by_the_session_itself_and_not_again(bench: Any) -> None:
    world = bench()
    world.window()
    world.clock.advance(30 * SECOND)
    assert world.monitor.close()
    found = {name: at for name, at, _ in _events(world)}
    assert found["session.end"][a.SESSION_END_REASON] == "exit"
    assert found["session.end"][a.SESSION_END_EXPECTED] is True
    assert found["session.end"][a.SESSION_DURATION] == 90.0
    ((at, ends),) = [(at, p) for n, at, p in points(world.sink.metrics()) if n == "edge.session.ends"]
    assert (at, ends.as_int) == ({a.SESSION_END_REASON: "exit", a.SESSION_END_EXPECTED: True}, 1)
    again = bench()
    assert [name for name, _, _ in again.events()] == ["session.start"]
    ((_, start, _),) = again.events()
    assert start[a.SESSION_PREVIOUS_ID] == found["session.start"][a.SESSION_ID]


def _events(world: Any) -> list[Any]:
    from sdk_kit import events

    return events(world.sink.logs())


@pytest.mark.parametrize(
    ("death", "reason", "crash"),
    [
        ("kill", "unknown", False),
        ("reboot", "power_loss", False),
        ("exception", "exception", True),
        ("declared", "low_power", False),
    ],
)
def test_the_next_start_tells_of_a_death(bench: Any, death: str, reason: str, crash: bool) -> None:
    world = bench(resource={"edge.firmware.version": "1.0"})
    world.window()
    world.sent()
    dead_id = attributes_of(world.sink.metrics()[0].resource_metrics[0].resource.attributes)[a.SERVICE_INSTANCE_ID]
    if death == "declared":
        world.monitor.session_end("low_power")
    error: BaseException | None = None
    if death == "exception":
        try:
            raise RuntimeError("a secret in a message")
        except RuntimeError as raised:
            error = raised
    kill(world.monitor, exception=error)
    world.clock.advance(600 * SECOND)
    if death == "reboot":
        world.clock.reboot()
    later = bench(resource={"edge.firmware.version": "2.0"})
    attributes, record, resource = end_of(later)
    expected = reason == "low_power"
    assert attributes[a.SESSION_END_REASON] == reason
    assert attributes[a.SESSION_END_EXPECTED] is expected
    assert attributes[a.SESSION_LAST_SEQUENCE] == 0
    assert attributes[a.SESSION_DURATION] == 60.0
    assert attributes[a.SESSION_END_ACCURACY] == 60.0
    assert record.time_unix_nano == START_NS + 60 * SECOND
    assert record.observed_time_unix_nano == START_NS + 660 * SECOND
    assert record.severity_number == (9 if expected else 13)
    assert resource[a.SERVICE_INSTANCE_ID] == dead_id
    assert resource[a.FIRMWARE_VERSION] == "1.0"
    assert attributes[a.LOG_RECORD_UID].startswith(dead_id + ":")
    crashes = [(at, rest) for name, at, rest in _events(later) if name == "app.crash"]
    assert len(crashes) == crash
    for at, (crash_record, _) in crashes:
        assert at["exception.type"] == "RuntimeError"
        assert len(at[a.CRASH_SIGNATURE]) == 16
        assert b"secret" not in crash_record.SerializeToString()
    later.window()
    ((at, ends),) = later.named("edge.session.ends")
    assert (at[a.SESSION_END_REASON], ends.as_int) == (reason, 1)


def test_event_numbers_are_gap_free_over_a_death(bench: Any, digits: Any) -> None:
    world = bench()
    world.monitor.wrap(digits)
    before = world.events()
    kill(world.monitor)
    later = bench()
    dead = before[0][2][1][a.SERVICE_INSTANCE_ID]
    told = [*before, *later.events()]
    numbers = [at[a.EVENT_SEQUENCE] for _, at, (_, resource) in told if resource[a.SERVICE_INSTANCE_ID] == dead]
    assert numbers == [0, 1, 2]


def test_windows_lost_with_the_memory_are_reported_by_the_next_start(bench: Any) -> None:
    world = bench()
    for _ in range(3):
        world.window()
    world.sent()
    for _ in range(2):
        world.window()
    kill(world.monitor)
    later = bench()
    later.window()
    ((at, lost),) = later.named("edge.loss.windows")
    assert (at[a.LOSS_REASON], lost.as_int) == ("shutdown", 2)


def test_windows_that_a_clean_end_could_not_save_are_reported_by_the_next_start(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "spool").write_text("a file where a directory should be")
    world = bench()
    for _ in range(3):
        world.window()
    world.sink.status = 0
    world.clock.advance(SECOND)
    assert not world.monitor.close(0.2)
    again = bench()
    again.window()
    ((at, lost),) = again.named("edge.loss.windows")
    assert (at[a.LOSS_REASON], lost.as_int) == ("shutdown", 4)


def test_a_death_while_the_end_is_being_sent_is_no_second_end(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = bench()
    world.window()

    def die(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(world.sink, "post", die)
    with pytest.raises(KeyboardInterrupt):
        world.monitor.close()
    kill(world.monitor)
    again = bench()
    attributes, _, _ = end_of(again)
    assert attributes[a.SESSION_END_REASON] == "exit"
    again.window()
    ((at, lost),) = again.named("edge.loss.windows")
    assert (at[a.LOSS_REASON], lost.as_int) == ("shutdown", 1)


def test_closing_while_it_is_being_closed_tells_of_one_end(bench: Any) -> None:
    world = bench()
    world.window()

    class Interrupted(MemorySink):
        def post(self, *arguments: Any) -> Any:
            world.monitor.close(0)  # as a signal handler, or another thread, while the last windows are sent
            return super().post(*arguments)

    sink = Interrupted()
    connect(world.monitor, sink)
    world.clock.advance(SECOND)
    world.monitor.close(5)
    after = bench()
    assert after.monitor.flush()
    requests = [*sink.metrics(), *after.sink.metrics()]
    told = [at[a.LOG_RECORD_UID] for name, at in (*sink.events(), *after.sink.events()) if name == "session.end"]
    assert len(set(told)) == 1  # maybe twice, for nobody was left to note that it arrived
    assert sum(p.as_int for name, _, p in points(requests) if name == "edge.session.ends") == 1


def test_durable_windows_outlive_a_death_and_none_is_reported_lost(bench: Any) -> None:
    world = bench(spool="durable")
    for _ in range(4):
        world.window()
    kill(world.monitor)
    later = bench(spool="durable")
    later.window()
    sequences = [p.as_int for _, p in later.named("edge.window.sequence")]
    assert sequences == [0, 1, 2, 3, 0]
    assert later.named("edge.loss.windows") == []


def test_the_stream_is_fresh_at_every_start_and_the_device_is_the_same(bench: Any) -> None:
    ids = []
    for _ in range(2):
        world = bench()
        world.window()
        world.sent()
        resource = attributes_of(world.sink.metrics()[0].resource_metrics[0].resource.attributes)
        ids.append((resource[a.SERVICE_INSTANCE_ID], resource[a.INSTALLATION_ID], resource[a.BOOT_ID]))
        world.monitor.close(0)
    assert ids[0][0] != ids[1][0]
    assert ids[0][1:] == ids[1][1:]
    assert len(ids[0][2]) == 16


def test_windows_join_without_gap_and_carry_their_seal(bench: Any, digits: Any) -> None:
    world = bench()
    wrapped = world.monitor.wrap(digits)
    import numpy as np

    for _ in range(5):
        wrapped.run(None, {"x": np.zeros((1, 64), dtype=np.float32)})
        world.window()
    world.sent()
    previous = START_NS
    windows = [r for request in world.sink.metrics() for r in request.resource_metrics][:-1]
    assert len(windows) == 5
    for number, window in enumerate(windows):
        flat = [
            (metric.name, point)
            for metric in window.scope_metrics[0].metrics
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        ]
        assert {(p.start_time_unix_nano, p.time_unix_nano) for _, p in flat} == {(previous, previous + 60 * SECOND)}
        previous += 60 * SECOND
        named = {name: point for name, point in flat if name.startswith("edge.window.")}
        assert named["edge.window.sequence"].as_int == number
        assert named["edge.window.count"].as_int == 1
        assert named["edge.window.points"].as_int == len(flat)
        keys = [(name, tuple(sorted(attributes_of(p.attributes).items()))) for name, p in flat]
        assert len(set(keys)) == len(keys)


def test_session_time_is_what_was_observed_not_what_was_slept(bench: Any) -> None:
    world = bench()
    world.clock.advance(50 * SECOND)
    world.clock.suspend(8 * 3600 * SECOND)
    world.clock.advance(10 * SECOND)
    assert world.monitor.step() == 1
    ((_, observed),) = world.named("edge.session.time")
    assert observed.as_double == 60.0
    assert observed.time_unix_nano - observed.start_time_unix_nano == (8 * 3600 + 60) * SECOND


def test_time_that_passed_without_a_step_is_cut_into_windows(bench: Any) -> None:
    world = bench()
    world.clock.advance(200 * SECOND)
    assert world.monitor.step() == 3
    world.clock.advance(40 * SECOND)
    assert world.monitor.step() == 1
    lengths = [p.as_double for _, p in world.named("edge.session.time")]
    assert lengths == [60.0, 60.0, 80.0, 40.0]


def test_closing_right_after_a_window_adds_no_window_of_no_length(bench: Any) -> None:
    world = bench()
    world.window()
    world.monitor.close()
    assert len([n for n, _, _ in points(world.sink.metrics()) if n == "edge.window.count"]) == 1


def test_a_run_in_a_window_of_no_length_is_still_sent(bench: Any) -> None:
    world = bench()
    world.window()
    with world.monitor.measure("m"):
        pass
    world.monitor.close()
    assert [p.count for n, _, p in points(world.sink.metrics()) if n == "edge.inference.duration"] == [1]


def test_an_unknown_reason_names_the_nearest(bench: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean 'low_power'"):
        bench().monitor.session_end("low-power")


def test_a_torn_mark_costs_one_heartbeat_only(bench: Any, tmp_path: Path) -> None:
    world = bench()
    world.window()
    world.window()
    kill(world.monitor)
    mark = tmp_path / "state" / "session"
    data = bytearray(mark.read_bytes())
    newest = max(range(2), key=lambda slot: int.from_bytes(data[16 + 256 * slot : 24 + 256 * slot], "little"))
    data[16 + 256 * newest + 10] ^= 0xFF
    mark.write_bytes(data)
    attributes, record, _ = end_of(bench())
    assert attributes[a.SESSION_LAST_SEQUENCE] == 0
    assert record.time_unix_nano == START_NS + 60 * SECOND


@pytest.mark.parametrize("damage", [b"", b"garbage" * 500, b"FPMARK\x00\x01" + b"\xff" * 3000])
def test_an_unreadable_mark_is_no_session(bench: Any, tmp_path: Path, damage: bytes) -> None:
    bench().monitor.close(0)
    (tmp_path / "state" / "session").write_bytes(damage)
    told = bench().events()
    assert sorted(name for name, _, _ in told) == ["session.end", "session.start", "session.start"]
    assert a.SESSION_PREVIOUS_ID not in told[-1][1]


def test_a_state_dir_that_cannot_be_used_is_no_reason_not_to_start(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    import device_sdk.errors as errors

    errors._guarding.next_log_s = 0.0
    (tmp_path / "file").write_text("in the way")
    monitor = Monitor(endpoint="http://127.0.0.1:9", state_dir=tmp_path / "file" / "state", clock=clock)
    clock.advance(61 * SECOND)
    assert monitor.step() == 1
    monitor.close(0)
    assert "new identity" in caplog.text


PROGRAM = textwrap.dedent(
    """
    import sys, time
    from device_sdk import Monitor
    monitor = Monitor(endpoint=sys.argv[1], state_dir=sys.argv[2], window_s=0.05, spool=sys.argv[3])
    with monitor.measure("m"):
        pass
    {tail}
    """
)


def run_program(tail: str, *arguments: str) -> subprocess.Popen[str]:
    code = PROGRAM.replace("{tail}", tail)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "FLEETPULSE_"))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_a_killed_process_loses_no_closed_window_in_durable_mode(bench: Any, tmp_path: Path) -> None:
    process = run_program(
        "while monitor._engine.session.vital.last_sequence < 12: time.sleep(0.005)\n"
        "print('ready', flush=True)\ntime.sleep(60)",
        "http://127.0.0.1:9",
        str(tmp_path / "state"),
        "durable",
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    process.stderr.close()
    later = bench(spool="durable", clock=ManualClock(START_NS))
    at, _, resource = end_of(later)
    assert at[a.SESSION_END_REASON] == "power_loss"  # the manual clock is on another boot than the machine
    later.sent()
    sequences = []
    for request in later.sink.metrics():
        for window in request.resource_metrics:
            if attributes_of(window.resource.attributes)[a.SERVICE_INSTANCE_ID] == resource[a.SERVICE_INSTANCE_ID]:
                sequences += [
                    m.gauge.data_points[0].as_int
                    for m in window.scope_metrics[0].metrics
                    if m.name == "edge.window.sequence"
                ]
    assert sequences == list(range(len(sequences)))  # every closed window, once
    assert len(sequences) >= 13
    assert len(sequences) - 1 - at[a.SESSION_LAST_SEQUENCE] in (0, 1)  # death may strike between window and mark


def test_an_uncaught_exception_is_told_at_exit_and_the_traceback_still_prints(collector: Any, tmp_path: Path) -> None:
    process = run_program("raise LookupError('private')", collector.url, str(tmp_path / "state"), "memory")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "LookupError: private" in stderr
    from sdk_kit import events

    told = {name: at for name, at, _ in events(collector.logs())}
    assert told["session.end"][a.SESSION_END_REASON] == "exception"
    assert told["session.end"][a.SESSION_END_EXPECTED] is False
    assert told["app.crash"]["exception.type"] == "LookupError"
    assert all(b"private" not in body for _, _, body in collector.requests)


def test_hooks_of_others_between_two_monitors_are_each_called_once(collector: Any, tmp_path: Path) -> None:
    program = f"""
import sys
from device_sdk import Monitor
first = Monitor({collector.url!r}, state_dir={str(tmp_path / "first")!r})
ours = sys.excepthook
def other(*caught):
    print("other hook", file=sys.stderr)
    ours(*caught)
sys.excepthook = other
second = Monitor({collector.url!r}, state_dir={str(tmp_path / "second")!r})
raise LookupError("private")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("other hook") == 1
    assert done.stderr.count("LookupError: private") == 1
    assert "RecursionError" not in done.stderr
    from sdk_kit import events

    reasons = [at[a.SESSION_END_REASON] for name, at, _ in events(collector.logs()) if name == "session.end"]
    assert reasons == ["exception", "exception"]


def test_an_exit_is_told_at_exit_with_all_that_was_measured(collector: Any, tmp_path: Path) -> None:
    process = run_program("", collector.url, str(tmp_path / "state"), "memory")
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    from sdk_kit import events

    told = {name: at for name, at, _ in events(collector.logs())}
    assert told["session.end"][a.SESSION_END_REASON] == "exit"
    found = points(collector.metrics())
    assert [p.count for n, _, p in found if n == "edge.inference.duration"] == [1]
    assert next(p.as_int for n, _, p in found if n == "process.memory.usage") > 1_000_000


def samples_by_stream(collector: Any) -> Collection[int]:
    counts: Counter[str] = Counter()
    for request in collector.metrics():
        for window in request.resource_metrics:
            stream = attributes_of(window.resource.attributes)[a.SERVICE_INSTANCE_ID]
            for metric in window.scope_metrics[0].metrics:
                if metric.name == "edge.inference.samples":
                    counts[stream] += metric.sum.data_points[0].as_int
    return counts.values()


def test_a_fault_while_a_child_starts_over_leaves_it_nothing_of_the_parents(collector: Any, tmp_path: Path) -> None:
    tail = textwrap.dedent(
        """
        import logging, os
        logging.disable(logging.CRITICAL)
        parent, answers, host = os.getpid(), monitor._engine.models.answers, monitor._engine.host
        answers_emit, host_emit = answers.emit, host.emit
        def broken(points):
            if os.getpid() != parent: raise ValueError("halfway through a fold")
            answers_emit(points)
        def waiting(points):  # for a lock that a thread of the parent's holds
            if os.getpid() != parent: os._exit(9)
            host_emit(points)
        answers.emit, host.emit = broken, waiting
        child = os.fork()
        del answers.emit
        for _ in range(3 if child else 2):
            with monitor.measure("m"):
                pass
        if child:
            assert os.waitpid(child, 0)[1] == 0
        else:
            held = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
            assert not [path for path in held if "/spool/" in path], held
        assert monitor.close(30)
        """
    )
    process = run_program(tail, collector.url, str(tmp_path / "state"), "memory")
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert sorted(samples_by_stream(collector)) == [2, 4]


def test_a_forked_child_is_a_stream_of_its_own(collector: Any, tmp_path: Path) -> None:
    tail = textwrap.dedent(
        """
        import os
        child = os.fork()
        for _ in range(3 if child else 2):
            with monitor.measure("m"):
                pass
        if child:
            os.waitpid(child, 0)
            monitor.close()
        else:
            held = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
            assert not [path for path in held if "/spool/" in path], held
            while monitor._engine._dormant: time.sleep(0.005)
            monitor.close()
        """
    )
    process = run_program(tail, collector.url, str(tmp_path / "state"), "memory")
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert sorted(samples_by_stream(collector)) == [2, 4]


def test_a_forked_child_that_ends_at_once_still_delivers(collector: Any, tmp_path: Path) -> None:
    tail = textwrap.dedent(
        """
        import os
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            monitor.close()
        else:
            for _ in range(5):
                with monitor.measure("m"):
                    pass
            assert monitor.flush(10)
            assert monitor.close(10)
        """
    )
    process = run_program(tail, collector.url, str(tmp_path / "state"), "memory")
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert sorted(samples_by_stream(collector)) == [1, 5]


def test_sigterm_keeps_the_hosts_handler(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monitor = Monitor(endpoint="http://127.0.0.1:9", state_dir=tmp_path / "own")
    assert signal.getsignal(signal.SIGTERM) is before
    monitor.close(0)
