"""Supervision of real child processes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from collector.errors import StackError
from fleetpulse.processes import GIVE_UP, Child, Supervisor, listen, url_of

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_port_in_use_names_the_option_that_changes_it():
    holder = listen("127.0.0.1", 0, "otlp")
    port = holder.getsockname()[1]
    with pytest.raises(StackError, match="--otlp-port"):
        listen("127.0.0.1", port, "otlp")
    assert url_of(holder) == f"http://127.0.0.1:{port}"
    holder.close()


def test_a_child_that_ended_is_started_again_after_its_back_off():
    now = 0.0
    child = Child("sleeper", SLEEPER)
    supervisor = Supervisor([child], monotonic=lambda: now)
    supervisor.start()
    try:
        child.process.kill()
        child.process.wait()
        supervisor.check()
        assert child.restarts == 0
        now = 1.0
        supervisor.check()
        assert child.restarts == 1
        assert child.poll() is None
    finally:
        supervisor.stop()
    assert child.poll() is not None


def test_a_child_that_ran_for_long_is_started_again_without_delay():
    now = 0.0
    child = Child("sleeper", SLEEPER, backoff_s=30.0)
    supervisor = Supervisor([child], monotonic=lambda: now)
    supervisor.start()
    try:
        now = 3600.0
        child.process.kill()
        child.process.wait()
        supervisor.check()
        now += 1.0
        supervisor.check()
        assert child.restarts == 1
    finally:
        supervisor.stop()


def test_a_child_that_gives_up_ends_the_stack_with_a_message():
    child = Child("store", [sys.executable, "-c", f"raise SystemExit({GIVE_UP})"])
    supervisor = Supervisor([child])
    supervisor.start()
    child.process.wait()
    with pytest.raises(StackError, match="store cannot run"):
        supervisor.check()
    supervisor.stop()


def test_children_end_when_their_parent_is_killed():
    script = (
        "import os, subprocess, sys, time\n"
        "from fleetpulse.processes import Child, Supervisor\n"
        "code = 'import sys, time; from fleetpulse.processes import exit_with_parent; "
        "exit_with_parent(int(sys.argv[1])); time.sleep(60)'\n"
        "supervisor = Supervisor([])\n"
        "child = Child('c', [sys.executable, '-c', code, str(supervisor.parent_fd)])\n"
        "supervisor.children = [child]\n"
        "supervisor.start()\n"
        "print(child.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split(")")[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
