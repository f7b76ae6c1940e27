"""The demo: a stack, a simulated fleet with known faults, and a table that says which alert found which fault.

The stack runs as a process of its own, exactly as ``fleetpulse up`` starts it; this driver knows it only by its
addresses. History is replayed slice by slice while the stack's own schedule judges; then the rest is judged, alerts are
read back from the query API, scored against the injected faults, and the fleet goes on live until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from collector.errors import StackError
from fleetpulse.datadir import find_running
from fleetpulse.democlient import Client, StackAddress
from simulator.device import Activity, Connection
from simulator.fleet import Fleet, SliceReport
from simulator.models import SimulatorError
from simulator.report import Totals, report
from simulator.scenarios import DAY, HOUR, Scenario, default_scenario, slice_ends
from simulator.scoring import score
from simulator.truth import Mismatch, mismatches

SLICE_HOURS: Final = 6.0
READY: Final = re.compile(r"^ready otlp=(\S+) api=(\S+) dashboard=(\S+)\s*$")
READY_TIMEOUT_S: Final = 90.0
LIVE_STEP_S: Final = 5.0
PLAIN_WIDTH: Final = 150
COUNTED: Final[Mapping[str, str]] = {
    "edge.inference.duration": "histogram",
    "edge.input.value": "histogram",
    "edge.output.confidence": "histogram",
    "edge.inference.samples": "counter",
    "edge.session.time": "counter",
    "edge.session.starts": "counter",
    "edge.window.count": "counter",
}
"""Metrics compared with the devices' own counts, and how their sums are read from the query API."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to run.

    ``leave`` ends after the tables, with 1 when something was missed, false or unequal. ``stack_command`` empty =
    ``fleetpulse up`` of this interpreter; ``otlp_url`` and ``api_url`` name a stack that already runs instead. History
    ends at ``end_ns`` (0 = the last full hour).
    """

    leave: bool = False
    devices: int = 100
    days: int = 16
    seed: int = 1
    data: str | None = None
    stack_command: tuple[str, ...] = ()
    otlp_url: str = ""
    api_url: str = ""
    dashboard_url: str = ""
    api_token: str = ""
    dashboard_host: str = "127.0.0.1"
    workers: int = 2
    end_ns: int = 0


# --- the stack --------------------------------------------------------------------------------------------------------


def stack_command(options: DemoOptions, data: Path) -> list[str]:
    """Return the command line of the stack: free ports when the demo ends by itself, the usual ones when it stays."""
    if options.stack_command:
        return list(options.stack_command)
    command = [sys.executable, "-m", "fleetpulse", "up", "--data", str(data), "--judge-interval-s", "12"]
    command += ["--config", str(Path(__file__).parent / "demo_config")]
    if options.leave:
        command += ["--otlp-port", "0", "--api-port", "0", "--no-dashboard"]
    else:
        command += ["--dashboard-host", options.dashboard_host]
    return command


def _ready_line(process: subprocess.Popen[str], log: Path) -> re.Match[str]:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.2)[0]:
            line = process.stdout.readline()
            if found := READY.match(line):
                return found
            if line:
                continue
        if process.poll() is not None:
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
            raise StackError(f"the stack ended with {process.returncode} before it was ready:\n{tail}")
    raise StackError(f"the stack was not ready after {READY_TIMEOUT_S:.0f} s; its log is {log}")


@contextlib.contextmanager
def running_stack(options: DemoOptions, data: Path) -> Iterator[StackAddress]:
    """Start the stack and stop it at the end, or hand on the addresses of one that already runs."""
    if options.otlp_url and options.api_url:
        yield StackAddress(options.otlp_url, options.api_url, options.dashboard_url, options.api_token)
        return
    log = data / "stack.log"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            stack_command(options, data), stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            otlp, api, dashboard = _ready_line(process, log).groups()
            running = find_running(data)
            token = options.api_token or (running.operate_token if running else "")
            yield StackAddress(otlp, api, dashboard if dashboard.startswith("http") else "", token)
        finally:
            process.terminate()
            try:
                process.wait(30.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


# --- the run ----------------------------------------------------------------------------------------------------------


class _Bars:
    """Three progress bars: days simulated, windows delivered, days judged."""

    def __init__(self, console: Console, scenario: Scenario) -> None:
        columns = (TextColumn("{task.description:<18}"), BarColumn(), TextColumn("{task.fields[shown]}"))
        self.progress = Progress(*columns, TimeElapsedColumn(), console=console)
        self._scenario = scenario
        days = (scenario.end_ns - scenario.start_ns) / DAY
        self._days = days
        self._simulated = self.progress.add_task("simulated", total=days, shown=f"0 of {days:.0f} days")
        self._delivered = self.progress.add_task("delivered", total=1.0, shown="")
        self._judged = self.progress.add_task("judged", total=days, shown="")
        each = (scenario.recent_ns - scenario.start_ns) / 1e9 / scenario.history_window_s
        each += (scenario.end_ns - scenario.recent_ns) / 1e9 / scenario.recent_window_s
        self.progress.update(self._delivered, total=each * len(scenario.plans))

    def simulated(self, until_ns: int, total: Activity) -> None:
        """Show how far the fleet is."""
        days = (until_ns - self._scenario.start_ns) / DAY
        self.progress.update(self._simulated, completed=days, shown=f"{days:.1f} of {self._days:.0f} days")
        self.progress.update(self._delivered, completed=total.windows, shown=f"{total.windows:,} windows")

    def judged(self, until_ns: int | None) -> None:
        """Show until when the stack has judged."""
        if until_ns:
            days = max(0.0, (until_ns - self._scenario.start_ns) / DAY)
            self.progress.update(self._judged, completed=days, shown=f"{days:.1f} of {self._days:.0f} days")

    def finished(self) -> None:
        """Fill the bars: devices that sleep or fall silent close fewer windows than the estimate."""
        for task in (self._delivered, self._judged):
            self.progress.update(task, completed=self.progress.tasks[task].total)


def _judged_until(client: Client) -> int | None:
    """Return the instant up to which every job has judged, None while unknown."""
    try:
        untils = [row.get("until_ns") for row in client.items("/api/v1/jobs")]
    except StackError:
        return None  # a progress bar is not worth failing for
    known = [int(until) for until in untils if until]
    return min(known) if known else None


def _add(total: Activity, done: SliceReport) -> None:
    total.add(Activity(done.runs, done.magika_runs, done.windows, done.failures, done.crashes, done.undelivered))


def _replay(fleet: Fleet, client: Client, bars: _Bars) -> Activity:
    """Run the whole history, slice by slice; the stack judges at the same time.

    Before a backlog comes back, what was lived without it is judged: live, nobody could have waited for it.
    """
    total = Activity()
    returns = [fault.end_ns for fault in fleet.scenario.faults if fault.end_ns is not None]
    reached_ns = fleet.scenario.start_ns
    for until_ns in slice_ends(fleet.scenario, SLICE_HOURS):
        if any(reached_ns < back_ns <= until_ns for back_ns in returns):
            _judge(client, reached_ns)
        _add(total, fleet.run_slice(until_ns))
        reached_ns = until_ns
        bars.simulated(until_ns, total)
        bars.judged(_judged_until(client))
    return total


def _judge(client: Client, until_ns: int) -> None:
    """Let the stack take in everything and judge up to an instant."""
    client.admin("drain", {})
    client.admin("jobs/run", {"until_ns": until_ns})


def _compare(client: Client, scenario: Scenario, truth: Mapping[str, Mapping[str, int]]) -> list[Mismatch]:
    """Compare what devices counted with what the query API answers, per device and metric."""
    from_ns, to_ns = scenario.start_ns, scenario.end_ns + 1
    stored: dict[str, dict[str, float]] = defaultdict(dict)

    def read(metric: str) -> tuple[str, dict[str, float]]:
        of_histogram = COUNTED[metric] == "histogram"
        return metric, (client.histogram_counts if of_histogram else client.counter_sums)(metric, from_ns, to_ns)

    with ThreadPoolExecutor(2) as pool:
        for metric, sums in pool.map(read, COUNTED):
            for device_id, total in sums.items():
                stored[device_id][metric] = total
    return mismatches(truth, stored, COUNTED)


def _fired_alerts(client: Client, scenario: Scenario) -> list[dict[str, Any]]:
    """Return every alert that fired over the history, whether it still does or was resolved."""
    history = client.items("/api/v1/alerts/history", **{"from": scenario.start_ns, "to": scenario.end_ns + 1})
    return [row for row in (*client.items("/api/v1/alerts"), *history) if row.get("state") in {"firing", "resolved"}]


def _live(fleet: Fleet, console: Console, address: StackAddress) -> None:
    """Let the fleet follow the wall clock until Ctrl-C, then end its sessions cleanly."""
    console.print(f"\ndashboard: [bold]{address.dashboard_url or 'off'}[/]   query API: {address.api_url}/docs")
    console.print("the fleet goes on live; Ctrl-C ends it")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            started = time.monotonic()
            fleet.run_slice(time.time_ns())
            time.sleep(max(0.0, LIVE_STEP_S - (time.monotonic() - started)))
    with contextlib.suppress(KeyboardInterrupt):
        fleet.finish()


def _run(options: DemoOptions, console: Console, address: StackAddress, state_dir: Path) -> int:
    started = time.monotonic()
    end_ns = options.end_ns or time.time_ns() // HOUR * HOUR
    scenario = default_scenario(options.devices, options.days, options.seed, end_ns=end_ns)
    connection = Connection(address.otlp_url, state_dir)
    client = Client(address)
    with contextlib.closing(client), Fleet(scenario, connection, workers=options.workers) as fleet:
        bars = _Bars(console, scenario)
        with bars.progress:
            total = _replay(fleet, client, bars)
            simulated_s = time.monotonic() - started
            _judge(client, scenario.end_ns)
            bars.judged(scenario.end_ns)
            bars.finished()
            judged_s = time.monotonic() - started - simulated_s
        differing = _compare(client, scenario, fleet.truth())
        scores = score(scenario, _fired_alerts(client, scenario))
        points = sum(int(row.get("points") or 0) for row in client.items("/api/v1/metrics"))
        totals = Totals(
            devices=len(scenario.plans), days=options.days, runs=total.runs, magika_runs=total.magika_runs,
            windows=total.windows, points=points, crashes=total.crashes, undelivered=total.undelivered,
            counts_compared=len(scenario.plans) * len(COUNTED), mismatches=tuple(differing),
            elapsed_s=time.monotonic() - started, simulated_s=simulated_s, judged_s=judged_s,
        )  # fmt: skip
        console.print(report(scores, totals))
        if options.leave:
            return 0 if scores.passed and totals.counts_equal else 1
        _live(fleet, console, address)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def run_demo(options: DemoOptions, console: Console) -> int:
    """Run the demo and return its exit code; raises ``StackError`` when the stack or the simulation fails."""
    with contextlib.ExitStack() as cleanup:
        if options.data is None:
            data = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="fleetpulse-demo-")))
        else:
            data = Path(options.data)
            data.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job would ignore the first
                cleanup.callback(signal.signal, number, signal.signal(number, _interrupt))
        if not console.is_terminal and console.width < PLAIN_WIDTH:
            console = Console(file=console.file, width=PLAIN_WIDTH)
        address = cleanup.enter_context(running_stack(options, data))
        state_dir = data / "devices" / f"{time.time_ns()}-{os.getpid()}"
        try:
            return _run(options, console, address, state_dir)
        except (SimulatorError, ValueError) as error:
            raise StackError(f"the simulation stopped: {error}") from error
        except KeyboardInterrupt:
            console.print("stopped")
            return 130
