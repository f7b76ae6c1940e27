"""How fast the simulator is: real inferences and windows a second of one process, against bare ``run()`` of the model.

Devices deliver to a local server that only says yes, so the collector's cost is not in here. Prints ratios to the bare
model measured in the same run.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from simulator.device import Connection
from simulator.fleet import DeviceGroup
from simulator.models import digits_images, digits_session
from simulator.scenarios import DAY, HOUR, default_scenario

DEVICES = 20
BARE_RUNS = 20_000


class YesHandler(BaseHTTPRequestHandler):
    """Acknowledges whatever it is sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read the body and say 200."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives it
        """Say nothing."""
        del format, args


@contextlib.contextmanager
def yes_server() -> Iterator[str]:
    """Serve ``YesHandler`` on a free port and give its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), YesHandler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def bare_s() -> float:
    """Return seconds of one bare run of the digits model."""
    session, images = digits_session("1"), digits_images()
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for i in range(BARE_RUNS):
            row = i % len(images)
            session.run(None, {"image": images[row : row + 1]})
        best = min(best, (time.perf_counter() - started) / BARE_RUNS)
    return best


def main() -> None:
    """Run a day of history and a day of short windows of a small fleet and print the figures."""
    bare = bare_s()
    print(f"bare run() of digits: {bare * 1e6:.1f} us")
    scenario = default_scenario(DEVICES, 3, 1, end_ns=1_790_000_000_000_000_000)
    with yes_server() as url, tempfile.TemporaryDirectory() as directory:
        group = DeviceGroup(scenario, Connection(url, Path(directory)), range(DEVICES))
        for name, begin, hours in (("900 s windows", scenario.start_ns, 24), ("300 s windows", scenario.recent_ns, 24)):
            runs = windows = magika = 0
            wall_s = cpu_s = 0.0
            for hour in range(6, hours + 1, 6):
                cpu = time.process_time()
                activity, elapsed_s = group.run_slice(begin + hour * HOUR)
                cpu_s += time.process_time() - cpu
                wall_s += elapsed_s
                runs, windows, magika = runs + activity.runs, windows + activity.windows, magika + activity.magika_runs
            print(
                f"{name}: {runs} runs, {magika} magika runs, {windows} windows in {wall_s:.2f} s ({cpu_s:.2f} s CPU): "
                f"{runs / wall_s:,.0f} runs/s, {windows / wall_s:,.0f} windows/s, "
                f"{wall_s / max(1, runs) / bare:.1f} x bare run(), "
                f"{wall_s * DAY / (hours * HOUR) / DEVICES:.3f} s a device and day"
            )
        group.close()


if __name__ == "__main__":
    main()
