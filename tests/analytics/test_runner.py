"""Where mathematics runs: a child's death fails the job only."""

from __future__ import annotations

import os
import signal

import pytest

from analytics import runner


def double(value: int) -> int:
    return 2 * value


def test_without_a_scheduler_the_function_runs_in_place():
    assert runner.call(double, 21) == 42


def test_the_current_runner_is_used_inside_the_block_only():
    seen = []

    class Spy(runner.InlineRunner):
        def run(self, function, *args, **kwargs):
            seen.append(function)
            return super().run(function, *args, **kwargs)

    with runner.using(Spy()):
        assert runner.call(double, 1) == 2
    assert runner.call(double, 2) == 4
    assert seen == [double]


def test_a_child_computes_dies_alone_and_comes_back():
    child = runner.ChildRunner(2 * 1024**3)
    try:
        assert child.run(os.getpid) != os.getpid()
        with pytest.raises(ZeroDivisionError):
            child.run(divmod, 1, 0)
        with pytest.raises(runner.ComputeError, match="compute_memory_bytes"):
            child.run(signal.raise_signal, signal.SIGKILL)
        assert child.run(divmod, 7, 2) == (3, 1)
    finally:
        child.close()
        child.close()


def test_memory_beyond_the_limit_is_an_error_of_the_child():
    child = runner.ChildRunner(256 * 1024**2)
    try:
        with pytest.raises((MemoryError, runner.ComputeError)):
            child.run(bytearray, 1024**3)
    finally:
        child.close()
