"""Real processes that really die: what the next start says of each, and whether it was inferring."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sdk_kit import classifier, events, points

from device_sdk import Monitor
from device_sdk.contract import attributes as a
from device_sdk.lifecycle.fatal import parse_fault
from device_sdk.testing import MemorySink, connect

PREAMBLE = """
import asyncio, ctypes, os, signal, sys, threading, time
from device_sdk import Monitor
monitor = Monitor(endpoint="http://127.0.0.1:9", state_dir=sys.argv[1], window_s=3600)
def die(signum):
    os.kill(os.getpid(), signum)
    time.sleep(60)
"""


@dataclass
class Told:
    """What the next start told of the session before it."""

    end: dict[str, Any]
    record: Any
    crashes: list[dict[str, Any]]
    metrics: list[tuple[str, dict[str, Any], Any]]
    process: subprocess.CompletedProcess[str]

    @property
    def reason(self) -> str:
        return str(self.end[a.SESSION_END_REASON])

    @property
    def model(self) -> str | None:
        return self.end.get(a.INFLIGHT_MODEL_NAME)


def run(code: str, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "FLEETPULSE_", "PYTHON"))}
    program = PREAMBLE + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, *options, "-c", program, str(state)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


def next_start(state: Path) -> tuple[list[Any], list[Any]]:
    """Start a Monitor of the machine's own boot and return (events, points) that it sends."""
    monitor = Monitor(endpoint="http://127.0.0.1:9", state_dir=state, window_s=3600)
    sink = MemorySink()
    connect(monitor, sink)
    monitor._engine.sender._resting_until_s = 0.0  # type: ignore[union-attr]
    assert monitor.flush(10)
    told = events(sink.logs())
    measured = points(sink.metrics())
    monitor.close(0)
    return told, measured


@pytest.fixture
def death(tmp_path: Path) -> Callable[..., Told]:
    def of(code: str, *options: str, state: Path = tmp_path / "state", sessions: int = 1) -> Told:
        process = run(code, state, *options)
        told, measured = next_start(state)
        ends = [(at, record) for name, at, (record, _) in told if name == "session.end"]
        assert len(ends) == sessions, (process.stderr, [name for name, _, _ in told])
        crashes = [at for name, at, _ in told if name == "app.crash"]
        return Told(ends[-1][0], ends[-1][1], crashes, measured, process)

    return of


SEGFAULT = """
def infer(address):
    ctypes.string_at(address)
with monitor.measure("ocr", "7"):
    infer(0)
"""


def test_a_segfault_inside_a_run_is_a_native_crash_of_that_model(death: Any) -> None:
    told = death(SEGFAULT)
    assert told.process.returncode == -signal.SIGSEGV
    assert (told.reason, told.end[a.SESSION_END_EXPECTED]) == ("native_crash", False)
    assert told.end[a.INFLIGHT_MODEL_NAME] == "ocr"
    assert told.end[a.INFLIGHT_MODEL_VERSION] == "7"
    assert told.end[a.INFLIGHT_RUNTIME] == "callable"
    assert told.end[a.INFLIGHT_PHASE] == "first"
    assert told.end[a.INFLIGHT_RUNS] == 1
    (crash,) = told.crashes
    assert crash["exception.type"] == "SIGSEGV"
    assert len(crash[a.CRASH_SIGNATURE]) == 16
    assert crash[a.INFLIGHT_MODEL_NAME] == "ocr"
    assert told.process.stderr == ""  # the host's terminal shows what it always did


def test_the_signature_of_a_crash_depends_on_the_way_and_not_on_place_or_values(death: Any, tmp_path: Path) -> None:
    first = death(SEGFAULT)
    again = death("padding = 1\n\n" + SEGFAULT.replace("infer(0)", "infer(1)"), state=tmp_path / "another place")
    other = death(SEGFAULT.replace("infer", "another_function"), state=tmp_path / "third")
    signatures = [told.crashes[0][a.CRASH_SIGNATURE] for told in (first, again, other)]
    assert signatures[0] == signatures[1] != signatures[2]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_every_fatal_signal_is_told_by_name(death: Any, name: str) -> None:
    told = death(f"die(signal.{name})")
    assert told.process.returncode == -getattr(signal, name)
    assert told.reason == "native_crash"
    assert told.crashes[0]["exception.type"] == name
    assert told.model is None  # nothing was running


def test_abort_in_a_thread_is_a_native_crash(death: Any) -> None:
    told = death("t = threading.Thread(target=os.abort); t.start(); t.join()")
    assert (told.reason, told.crashes[0]["exception.type"]) == ("native_crash", "SIGABRT")


def test_a_crash_inside_a_real_session_names_model_runtime_and_provider(death: Any, tmp_path: Path) -> None:
    model = classifier(tmp_path / "wide.onnx", columns=2048, classes=2048)
    told = death(
        f"""
        import numpy, onnxruntime
        session = monitor.wrap(onnxruntime.InferenceSession({str(model)!r}, providers=["CPUExecutionProvider"]))
        rows = numpy.zeros((1, 2048), dtype=numpy.float32)
        session.run(None, {{"x": rows}})
        def kill_when_inferring():
            while not monitor._engine.session.inflight.read().running:
                pass
            os.kill(os.getpid(), signal.SIGSEGV)
        many = numpy.zeros((4096, 2048), dtype=numpy.float32)
        threading.Thread(target=kill_when_inferring, daemon=True).start()
        while True:
            session.run(None, {{"x": many}})
        """
    )
    assert told.process.returncode == -signal.SIGSEGV
    assert told.reason == "native_crash"
    assert told.model == "wide"
    assert told.end[a.INFLIGHT_RUNTIME] == "onnxruntime"
    assert told.end[a.INFLIGHT_PROVIDER] == "CPUExecutionProvider"
    assert told.end[a.INFLIGHT_PHASE] == "steady"


@pytest.mark.parametrize(
    ("loading", "reason"),
    [("ctypes.string_at(0)", "native_crash"), ("die(signal.SIGKILL)", "unknown"), ("int('x')", "exception")],
)
def test_a_death_while_a_model_is_loaded_names_the_model(death: Any, loading: str, reason: str) -> None:
    told = death(f"monitor.load(lambda: {loading}, model='big', version='4')")
    assert (told.reason, told.model) == (reason, "big")
    assert (told.end[a.INFLIGHT_MODEL_VERSION], told.end[a.INFLIGHT_PHASE]) == ("4", "load")


@pytest.mark.parametrize(("inside", "model"), [(True, "ocr"), (False, None)])
def test_sigkill_is_unknown_and_still_says_whether_it_was_inferring(
    death: Any, inside: bool, model: str | None
) -> None:
    block = 'with monitor.measure("ocr"):\n    pass\n'
    told = death(block + ('with monitor.measure("ocr"):\n    die(signal.SIGKILL)' if inside else "die(signal.SIGKILL)"))
    assert told.process.returncode == -signal.SIGKILL
    assert (told.reason, told.crashes, told.model) == ("unknown", [], model)
    assert told.end.get(a.INFLIGHT_PHASE) == ("steady" if inside else None)
    ((at, lost),) = [(at, p.as_int) for name, at, p in told.metrics if name == "edge.loss.runs"]
    assert (at, lost) == ({a.LOSS_REASON: "shutdown"}, 1)  # the one that had finished


def test_the_time_of_a_death_is_known_to_two_seconds_and_its_length_with_it(death: Any) -> None:
    told = death(
        """
        pulse = monitor._engine.session.inflight.cells
        while not pulse[6]: time.sleep(0.01)  # the first sign of life between two windows
        die(signal.SIGKILL)
        """
    )
    assert told.end[a.SESSION_END_ACCURACY] == 2.0
    assert 0 < told.end[a.SESSION_DURATION] < 30


def test_a_long_run_is_not_hidden_by_runs_of_other_threads(death: Any) -> None:
    told = death(
        """
        started, stop = threading.Event(), threading.Event()
        @monitor.measure("shared")
        def infer(event=None):
            if event is not None:
                started.set()
                event.wait()
        threading.Thread(target=infer, args=(stop,), daemon=True).start()
        started.wait()
        def busy():
            for _ in range(2000):
                infer()
        workers = [threading.Thread(target=busy) for _ in range(4)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        die(signal.SIGKILL)
        """
    )
    assert (told.model, told.end[a.INFLIGHT_RUNS]) == ("shared", 1)
    ((_, lost),) = [(at, p.as_int) for name, at, p in told.metrics if name == "edge.loss.runs"]
    assert lost == 8000


def test_an_unhandled_sigterm_is_an_expected_end(death: Any) -> None:
    told = death("die(signal.SIGTERM)")
    assert told.process.returncode == -signal.SIGTERM
    assert (told.reason, told.end[a.SESSION_END_EXPECTED], told.crashes) == ("sigterm", True, [])


def test_an_unhandled_sigterm_ends_a_process_that_is_busy_in_native_code(death: Any) -> None:
    told = death(
        """
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        ctypes.CDLL(None).sleep(60)  # no bytecode runs here: a handler written in Python would never get its turn
        """
    )
    assert (told.process.returncode, told.reason) == (-signal.SIGTERM, "sigterm")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_sigterm_that_the_host_handles_stays_the_hosts(death: Any, tmp_path: Path, when: str) -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: print('the host was here', flush=True) or sys.exit(7))\n"
    again = f"monitor.close(0)\nmonitor = Monitor('http://127.0.0.1:9', state_dir={str(tmp_path / 'state')!r})\n"
    before = when == "before"
    told = death(handler + again * before + "die(signal.SIGTERM)", sessions=1 + before)
    assert (told.process.returncode, told.process.stdout) == (7, "the host was here\n")
    assert told.reason == "exit"


@pytest.mark.parametrize(("declared", "signal_name"), [("reboot", "SIGTERM"), ("watchdog", "SIGABRT")])
def test_what_was_declared_goes_before_the_signal(death: Any, declared: str, signal_name: str) -> None:
    assert death(f"monitor.session_end({declared!r}); die(signal.{signal_name})").reason == declared


NO_MEMORY = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
bytearray(8 << 30)
"""
LOST_TASK = """
async def fail(): raise OSError("private")
async def main():
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
asyncio.run(main())
"""
HOOK_CALLED_BY_A_THREAD = """
def work():
    try: 1 / 0
    except ZeroDivisionError: sys.excepthook(*sys.exc_info())
thread = threading.Thread(target=work); thread.start(); thread.join()
"""
PROMPT = """
sys.ps1 = ">>> "
try: 1 / 0
except ZeroDivisionError: sys.excepthook(*sys.exc_info())
"""
BUSY_AT_SHUTDOWN = """
threading.Thread(target=lambda: [monitor.measure("m")(int)() for _ in range(20000)]).start()
"""


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        pytest.param("sys.exit(3)", "exit", 3, id="exit code"),
        pytest.param("os._exit(3)", "unknown", 3, id="_exit"),
        pytest.param("raise KeyboardInterrupt", "exit", -2, id="ctrl-c"),
        pytest.param("t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", "exit", 0, id="in a thread"),
        pytest.param("threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "exit", 0, id="daemon"),
        pytest.param(BUSY_AT_SHUTDOWN, "exit", 0, id="busy thread at shutdown"),
        pytest.param("async def f(): raise OSError\nasyncio.run(f())", "exception", 1, id="asyncio"),
        pytest.param(NO_MEMORY, "exception", 1, id="address space"),
        pytest.param(LOST_TASK, "exit", 0, id="lost task"),
        pytest.param(HOOK_CALLED_BY_A_THREAD, "exit", 0, id="hook called by a thread"),
        pytest.param(PROMPT, "exit", 0, id="prompt"),
    ],
)
def test_ends_of_the_interpreter(death: Any, code: str, reason: str, status: int) -> None:
    told = death(code)
    assert told.process.returncode == status, told.process.stderr
    assert (told.reason, len(told.crashes)) == (reason, reason == "exception")


CAUSE = """
try: monitor.measure("ocr")(int)("x")
except ValueError as error: raise OSError from error
"""
CAUGHT = """
try: monitor.measure("ocr")(int)("x")
except ValueError: pass
int("x")
"""
OTHER_THREAD = """
threading.Thread(target=monitor.measure("ocr")(time.sleep), args=(60,), daemon=True).start()
time.sleep(0.1)
int("x")
"""


@pytest.mark.parametrize(
    ("code", "model"),
    [
        pytest.param('with monitor.measure("ocr"):\n    int("x")', "ocr", id="block"),
        pytest.param('monitor.measure("ocr")(int)("x")', "ocr", id="function"),
        pytest.param(CAUSE, "ocr", id="cause"),
        pytest.param(CAUGHT, None, id="caught"),
        pytest.param('monitor.measure("ocr")(int)("1")\nint("x")', None, id="outside"),
        pytest.param(OTHER_THREAD, None, id="other thread"),
    ],
)
def test_an_exception_is_blamed_on_the_run_that_raised_it_only(death: Any, code: str, model: str | None) -> None:
    told = death(code)
    assert (told.reason, told.model) == ("exception", model)
    assert told.crashes[0].get(a.INFLIGHT_MODEL_NAME) == model


def test_a_host_that_uses_faulthandler_keeps_it(death: Any) -> None:
    told = death(SEGFAULT, "-X", "faulthandler")
    assert "Fatal Python error: Segmentation fault" in told.process.stderr
    assert (told.reason, told.model) == ("unknown", "ocr")


def test_a_host_that_takes_faulthandler_over_later_keeps_it_past_our_close(death: Any) -> None:
    told = death("import faulthandler; faulthandler.enable(); monitor.close(0); die(signal.SIGSEGV)")
    assert "Fatal Python error: Segmentation fault" in told.process.stderr
    assert told.reason == "exit"


def test_two_monitors_of_one_process_both_know_how_it_died(tmp_path: Path) -> None:
    states = [tmp_path / "state", tmp_path / "second"]
    run(f"Monitor('http://127.0.0.1:9', state_dir={str(states[1])!r}); die(signal.SIGSEGV)", states[0])
    for state in states:
        told, _ = next_start(state)
        assert [at[a.SESSION_END_REASON] for name, at, _ in told if name == "session.end"] == ["native_crash"]


@pytest.mark.parametrize("death_of_child", ["SIGSEGV", "SIGTERM"])
def test_the_death_of_a_forked_child_is_not_the_parents(death: Any, death_of_child: str) -> None:
    told = death(
        f"""
        child = os.fork()
        if not child:
            with monitor.measure("m"):
                die(signal.{death_of_child})
        assert os.waitpid(child, 0)[1] == signal.{death_of_child}
        os._exit(0)
        """
    )
    assert (told.process.returncode, told.reason, told.model) == (0, "unknown", None)


def test_what_cannot_be_read_as_a_crash_is_none() -> None:
    assert parse_fault("") is None
    assert parse_fault("\x00\xff rubbish\nFatal") is None
    bare = parse_fault("Fatal Python error: Segmentation fault\n\n<no Python frame>\n")
    assert bare is not None
    assert bare.signal_name == "SIGSEGV"
