"""The data directory: one holder, found by its run file."""

import os
import stat

import pytest

from collector.errors import DataDirectoryError
from fleetpulse.datadir import DataDirectory, Running, find_running

RUNNING = Running(os.getpid(), "http://127.0.0.1:1", "http://127.0.0.1:2", "", "token")


def test_a_second_holder_is_told_the_first_one_s_pid(tmp_path):
    first = DataDirectory(tmp_path / "data")
    first.acquire()
    with pytest.raises(DataDirectoryError, match=f"held by process {os.getpid()}"):
        DataDirectory(tmp_path / "data").acquire()
    first.release()
    second = DataDirectory(tmp_path / "data")
    second.acquire()
    second.release()


def test_the_run_file_is_private_and_goes_with_its_stack(tmp_path):
    directory = DataDirectory(tmp_path)
    directory.acquire()
    directory.announce(RUNNING)
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
    assert find_running(tmp_path) == RUNNING
    directory.release()
    assert find_running(tmp_path) is None


def test_a_run_file_of_a_dead_process_or_rubbish_counts_as_nobody(tmp_path):
    (tmp_path / "run.json").write_text("{")
    assert find_running(tmp_path) is None
    assert find_running(tmp_path / "missing") is None


def test_a_path_that_cannot_be_a_directory_says_so(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DataDirectoryError, match="choose another with --data"):
        DataDirectory(file).acquire()
