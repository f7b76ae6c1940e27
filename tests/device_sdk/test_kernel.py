"""What the kernel's files tell of a death, from recorded trees of /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device_sdk.contract.attributes import EndReason
from device_sdk.lifecycle.ends import Evidence, reason_of
from device_sdk.lifecycle.fatal import Fault
from device_sdk.lifecycle.inflight import UNREADABLE
from device_sdk.lifecycle.kernel import KernelReader, MemoryState, killed_for_memory

MIB = 1024 * 1024
MEMINFO = "MemTotal:        4028164 kB\nMemFree:         1034872 kB\n"
VMSTAT = "nr_free_pages 258718\npgfault 88123\noom_kill 3\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


COMMON = {"proc/meminfo": MEMINFO, "proc/vmstat": VMSTAT, "proc/self/statm": "52814 20480 9012 1 0 31021 0\n"}
RESIDENT = 20480 * os.sysconf("SC_PAGE_SIZE")
EVENTS_V2 = "low 0\nhigh 0\nmax 41\noom 2\noom_kill 1\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("files", "group", "kills", "limit"),
    [
        pytest.param(
            {
                "proc/self/cgroup": "0::/system.slice/vision.service\n",
                "sys/fs/cgroup/system.slice/vision.service/memory.events": EVENTS_V2,
                "sys/fs/cgroup/system.slice/vision.service/memory.max": "536870912\n",
            },
            "2/system.slice/vision.service", 1, 512 * MIB, id="version 2, a service",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.events": EVENTS_V2,
                "sys/fs/cgroup/memory.max": "max\n",
            },
            "2/", 1, 4028164 * 1024, id="version 2, in a container without a limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/docker/4f1c\n2:cpuacct,cpu:/docker/4f1c\n0::/docker/4f1c\n",
                "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n",
            },
            "1/docker/4f1c", 2, 256 * MIB, id="version 1, in a container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/user.slice\n",
                "sys/fs/cgroup/memory/user.slice/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n",
                "sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes": "9223372036854771712\n",
            },
            "1/user.slice", UNREADABLE, 4028164 * 1024, id="version 1, an old kernel, no limit",
        ),
        pytest.param({}, "", UNREADABLE, 4028164 * 1024, id="no cgroups"),
    ],
)  # fmt: skip
def test_the_memory_cgroup_is_found_in_either_version(
    tmp_path: Path, files: dict[str, str], group: str, kills: int, limit: int
) -> None:
    reader = KernelReader(tree(tmp_path, COMMON | files))
    assert reader.group == group
    assert reader.memory() == MemoryState(RESIDENT, limit, kills, 3)
    assert reader.kills_in(group) == kills
    assert reader.kills_in("2/gone") == reader.kills_in("1/gone") == UNREADABLE


def test_a_system_without_any_of_it_is_unreadable(tmp_path: Path) -> None:
    reader = KernelReader(tmp_path)
    assert reader.memory() == MemoryState(0, 0, UNREADABLE, UNREADABLE)
    assert not reader.watchdog_reset()


@pytest.mark.parametrize("rubbish", ["", "\x00\xff", "oom_kill -1\n", "oom_kill many\n", "0::\n:::\n"])
def test_rubbish_is_unreadable(tmp_path: Path, rubbish: str) -> None:
    files = ("proc/meminfo", "proc/vmstat", "proc/self/statm", "proc/self/cgroup", "sys/fs/cgroup/memory.events")
    assert KernelReader(tree(tmp_path, dict.fromkeys(files, rubbish))).memory() == MemoryState()


@pytest.mark.parametrize(
    ("status", "reset"), [("0", False), ("32", True), ("0x20\n", True), ("33", True), ("16", False), ("rubbish", False)]
)
def test_a_watchdog_says_that_it_reset_the_machine(tmp_path: Path, status: str, reset: bool) -> None:
    files = {"sys/class/watchdog/watchdog0/bootstatus": "0\n", "sys/class/watchdog/watchdog1/bootstatus": status}
    assert KernelReader(tree(tmp_path, files)).watchdog_reset() is reset


def state(share: float = 0.1, group: int = UNREADABLE, machine: int = UNREADABLE) -> MemoryState:
    return MemoryState(int(share * 1000), 1000, group, machine)


@pytest.mark.parametrize(
    ("before", "now", "killed"),
    [
        pytest.param(state(group=1, machine=1), state(group=2, machine=2), True, id="own group counts one more"),
        pytest.param(state(group=1, machine=1), state(group=1, machine=1), False, id="nobody counts one more"),
        pytest.param(state(group=4, machine=1), state(group=0, machine=2), False, id="another group of that name"),
        pytest.param(state(0.3, machine=1), state(machine=2), True, id="machine does, and it was large"),
        pytest.param(state(0.2, machine=1), state(machine=2), False, id="machine does, and it was small"),
        pytest.param(state(0.95, 1, 1), state(0.1, 1, 1), False, id="large, and nobody counts one more"),
        pytest.param(state(0.95), state(), True, id="nobody counts, and it was at the limit"),
        pytest.param(state(0.8), state(), False, id="nobody counts, and it was not"),
        pytest.param(MemoryState(), MemoryState(), False, id="nothing known"),
    ],
)
def test_the_rules_of_evidence_for_a_kill_for_lack_of_memory(
    before: MemoryState, now: MemoryState, killed: bool
) -> None:
    assert killed_for_memory(before, now) is killed


FAULT = Fault("SIGSEGV", "0" * 16)


@pytest.mark.parametrize(
    ("declared", "evidence", "reason"),
    [
        (EndReason.LOW_POWER, Evidence(boot_changed=True, fault=FAULT), "low_power"),
        (EndReason.EXCEPTION, Evidence(sigterm=True), "exception"),
        (None, Evidence(boot_changed=True, fault=FAULT), "native_crash"),
        (None, Evidence(boot_changed=True, watchdog_reset=True, sigterm=True), "watchdog"),
        (None, Evidence(watchdog_reset=True), "unknown"),  # of an earlier boot
        (None, Evidence(boot_changed=True, sigterm=True), "reboot"),
        (None, Evidence(boot_changed=True, memory_kill=True), "power_loss"),
        (None, Evidence(boot_changed=True, update_took_effect=True), "update"),
        (None, Evidence(sigterm=True, memory_kill=True), "sigterm"),
        (None, Evidence(memory_kill=True), "oom_kill"),
        (None, Evidence(), "unknown"),
    ],
)
def test_the_first_evidence_that_holds_is_the_reason(
    declared: EndReason | None, evidence: Evidence, reason: str
) -> None:
    assert reason_of(declared, evidence) == reason
