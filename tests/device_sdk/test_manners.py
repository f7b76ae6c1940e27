"""Manners in real processes: forks, workers, signals, shutdown, disks that refuse; what was measured still arrives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from sdk_kit import attributes_of, events, points

from device_sdk.contract import attributes as a

PREAMBLE = """
import asyncio, gc, multiprocessing, os, resource, shutil, signal, sys, threading, time
from device_sdk import Monitor
def infer(times=1):
    for _ in range(times):
        with monitor.measure("m"):
            pass
"""
MADE = 'monitor = Monitor(endpoint=sys.argv[1], state_dir=sys.argv[2], window_s=3600)\nif __name__ == "__main__":\n'


def run(code: str, url: str, state: Path, *, before: str = "", made: bool = True, timeout: float = 60) -> float:
    """Run a program and return its seconds; it must end well and say nothing."""
    script = state.parent / "program.py"
    body = textwrap.indent(textwrap.dedent(code), "    ") if made else textwrap.dedent(code)
    script.write_text(PREAMBLE + textwrap.dedent(before) + (MADE if made else "") + body)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "FLEETPULSE_", "PYTHON"))}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script), url, str(state)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return time.monotonic() - started


def runs_by_stream(collector: Any) -> dict[str, int]:
    """Return how many runs each stream told of."""
    counts: dict[str, int] = {}
    for request in collector.metrics():
        for window in request.resource_metrics:
            stream = attributes_of(window.resource.attributes)[a.SERVICE_INSTANCE_ID]
            for metric in window.scope_metrics[0].metrics:
                if metric.name == "edge.inference.duration":
                    runs = sum(point.count for point in metric.exponential_histogram.data_points)
                    counts[stream] = counts.get(stream, 0) + runs
    return counts


def ends(collector: Any) -> list[str]:
    return [at[a.SESSION_END_REASON] for name, at, _ in events(collector.logs()) if name == "session.end"]


def test_a_fork_in_a_thread_while_others_infer(collector: Any, tmp_path: Path) -> None:
    code = """
    stop = threading.Event()
    def work():
        while not stop.is_set():
            infer()
    def fork():
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        infer(7)
        monitor.close()
        os._exit(0)
    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers: worker.start()
    for _ in range(5):
        forker = threading.Thread(target=fork)
        forker.start()
        forker.join()
    stop.set()
    for worker in workers: worker.join()
    infer(1)
    """
    run(code, collector.url, tmp_path / "state")
    counts = sorted(runs_by_stream(collector).values())
    assert counts[:5] == [7] * 5
    assert len(counts) == 6
    assert ends(collector) == ["exit"] * 6


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_deliver_what_they_measured(collector: Any, tmp_path: Path, method: str) -> None:
    before = """
    monitor = None
    def task(times):
        global monitor
        if monitor is None:  # a fresh interpreter: a Monitor of the worker's own
            monitor = Monitor(endpoint=sys.argv[1], state_dir=sys.argv[2] + str(os.getpid()), window_s=3600)
        infer(times)
    """
    code = f"""
    if __name__ == "__main__":
        monitor = Monitor(endpoint=sys.argv[1], state_dir=sys.argv[2], window_s=3600)
        infer(3)
        context = multiprocessing.get_context({method!r})
        workers = [context.Process(target=task, args=(times,)) for times in (11, 13)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
    """
    run(code, collector.url, tmp_path / "state", before=before, made=False)
    assert sorted(runs_by_stream(collector).values()) == [3, 11, 13]
    assert ends(collector) == ["exit"] * 3


def test_tasks_of_an_event_loop_are_counted_each_and_cancelled_ones_are_not_left_in_flight(
    collector: Any, tmp_path: Path
) -> None:
    code = """
    @monitor.measure("m")
    async def answer(seconds):
        await asyncio.sleep(seconds)
    async def main():
        slow = [asyncio.create_task(answer(60)) for _ in range(10)]
        await asyncio.gather(*(answer(0.01) for _ in range(100)))
        assert monitor._engine.session.inflight.read().running[0].runs == 10
        for task in slow: task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        assert monitor._engine.session.inflight.read().running == ()
    asyncio.run(main())
    """
    run(code, collector.url, tmp_path / "state")
    assert sum(runs_by_stream(collector).values()) == 110


def test_a_signal_handler_may_say_why_and_close_whatever_it_interrupts(collector: Any, tmp_path: Path) -> None:
    code = """
    def stop(*_):
        monitor.session_end("low_power")
        monitor.close(2)
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    infer(5)
    from device_sdk import errors
    with monitor._engine._ledger._lock, errors._guarding.lock, monitor._engine._lock:
        signal.raise_signal(signal.SIGTERM)
    """
    assert run(code, collector.url, tmp_path / "state") < 20
    assert ends(collector) == ["low_power"]
    assert runs_by_stream(collector) == {next(iter(runs_by_stream(collector))): 5}


def test_daemon_threads_that_infer_to_the_very_end_are_no_trouble(collector: Any, tmp_path: Path) -> None:
    code = """
    def forever():
        while True:
            infer()
    for _ in range(3):
        threading.Thread(target=forever, daemon=True).start()
    time.sleep(0.3)
    """
    run(code, collector.url, tmp_path / "state")
    assert ends(collector) == ["exit"]
    assert sum(runs_by_stream(collector).values()) > 0


def test_a_disk_that_takes_nothing_costs_memory_of_the_past_and_no_data(collector: Any, tmp_path: Path) -> None:
    code = """
    logging = __import__("logging"); logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # every write to a file fails from here on
    monitor = Monitor(endpoint=sys.argv[1], state_dir=sys.argv[2], window_s=3600)
    assert not monitor._engine.session.inflight.mapped
    with monitor.update("app", "1", "2"): infer(4)
    monitor.session_end("update")
    """
    run(code, collector.url, tmp_path / "state", made=False)
    assert sum(runs_by_stream(collector).values()) == 4
    assert ends(collector) == ["update"]


def test_a_state_directory_that_disappears_costs_no_data(collector: Any, tmp_path: Path) -> None:
    code = """
    logging = __import__("logging"); logging.disable(logging.CRITICAL)
    infer(2)
    assert monitor.flush()
    shutil.rmtree(sys.argv[2])
    infer(3)
    assert monitor.flush()
    infer(4)
    """
    run(code, collector.url, tmp_path / "state")
    assert sum(runs_by_stream(collector).values()) == 9


def test_the_end_is_bounded_when_the_collector_hangs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # the kernel accepts; nobody ever answers
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        code = """
        logging = __import__("logging"); logging.disable(logging.CRITICAL)
        infer(3)
        started = time.monotonic()
        assert not monitor.close(1)
        assert time.monotonic() - started < 3, time.monotonic() - started
        """
        run(code, url, tmp_path / "state")
        unattended = "logging = __import__('logging'); logging.disable(logging.CRITICAL)\ninfer(3)\n"
        assert run(unattended, url, tmp_path / "other") < 15  # 5 s and the interpreter


def test_monitors_that_come_and_go_leave_nothing_behind(collector: Any, tmp_path: Path) -> None:
    code = """
    def held():
        gc.collect()
        maps = open("/proc/self/maps").read().count("inflight")
        return len(os.listdir("/proc/self/fd")), threading.active_count(), maps
    def once():
        monitor = Monitor(endpoint=sys.argv[1], state_dir=sys.argv[2] + "x", window_s=3600)
        with monitor.measure("m"): pass
        assert monitor.close(30)
    once()
    first = held()
    for _ in range(20): once()
    assert all(now <= then for now, then in zip(held(), first)), (first, held())
    """
    run(code, collector.url, tmp_path / "state")
    assert sum(p.count for name, _, p in points(collector.metrics()) if name == "edge.inference.duration") == 21


def test_an_interrupt_at_any_instruction_leaves_nothing_locked(collector: Any, tmp_path: Path) -> None:
    code = """
    from device_sdk.workers import Bell
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    bell, until = Bell(), time.monotonic() + 2
    while time.monotonic() < until:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0003)
            while True:
                bell.ring()
                bell.wait(0)
                monitor._engine._workers.wake()
                monitor._engine._workers.to_send()
        except KeyboardInterrupt:
            pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    other = threading.Thread(target=lambda: (bell.ring(), monitor._engine._workers.to_send(), infer(3)), daemon=True)
    other.start()
    other.join(10)
    assert not other.is_alive()
    assert monitor.close(5)
    """
    run(code, collector.url, tmp_path / "state")
    assert sum(runs_by_stream(collector).values()) == 3


@pytest.mark.parametrize("timeout_s", ["-1", "float('nan')", "float('inf')", "1e30"])
def test_a_timeout_that_no_clock_has_is_bounded(collector: Any, tmp_path: Path, timeout_s: str) -> None:
    code = f"""
    infer(1)
    sent = monitor.flush({timeout_s})
    assert monitor.close({timeout_s}) or not sent
    """
    run(code, collector.url, tmp_path / "state")
    arrived = sum(runs_by_stream(collector).values())
    if "inf" in timeout_s or "1e30" in timeout_s:
        assert arrived == 1
    else:  # no time for the call itself, but the sender's own thread may have been quicker
        assert arrived <= 1
