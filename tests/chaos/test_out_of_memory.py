"""A real process that the kernel kills for lack of memory, in a memory cgroup of its own. Needs root and ``--long``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_sdk import Monitor
from device_sdk.contract import attributes as a
from device_sdk.testing import MemorySink, connect

LIMIT_BYTES = 256 * 1024 * 1024
PROGRAM = """
import sys
from pathlib import Path
group, state = sys.argv[1:]
(Path(group) / "cgroup.procs").write_text("0")  # whoever writes
from device_sdk import Monitor
monitor = Monitor("http://127.0.0.1:9", state_dir=state, window_s=3600)
held = []
with monitor.measure("hungry"):
    while True:
        held.append(bytearray(1 << 20))
"""


@pytest.fixture
def memory_group(request: pytest.FixtureRequest) -> Iterator[Path]:
    if not request.config.getoption("--long"):
        pytest.skip("makes a cgroup: run it by `make chaos`, as root")
    base = Path("/sys/fs/cgroup/memory")
    old = base.is_dir()
    group = (base if old else Path("/sys/fs/cgroup")) / f"fleetpulse-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(LIMIT_BYTES))
        yield group
    finally:
        group.rmdir()


def test_a_kill_for_lack_of_memory_is_told_with_the_model_that_was_running(memory_group: Path, tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", PROGRAM, str(memory_group), str(tmp_path)], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    monitor = Monitor("http://127.0.0.1:9", state_dir=tmp_path, window_s=3600)
    sink = MemorySink()
    connect(monitor, sink)
    assert monitor.flush(10)
    told = [
        {pair.key: pair.value.string_value for pair in record.attributes}
        for request in sink.logs()
        for resource in request.resource_logs
        for record in resource.scope_logs[0].log_records
        if record.event_name == "session.end"
    ]
    monitor.close(0)
    assert [(end[a.SESSION_END_REASON], end[a.INFLIGHT_MODEL_NAME]) for end in told] == [("oom_kill", "hungry")]
