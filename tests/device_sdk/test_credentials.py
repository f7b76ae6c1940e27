"""The token from a file: its owner's alone, read again when rotated, at once after a 401, and never shown."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from device_sdk import ConfigError, Monitor, errors
from device_sdk.__main__ import main
from device_sdk.credentials import FILE_BYTES_MAX, Credentials, read_token
from device_sdk.testing import ManualClock

START_NS = 1_700_000_000_000_000_000
MINUTE = 60_000_000_000


def token_file(path: Path, text: str, mode: int = 0o600) -> Path:
    """Put a token in place the way an agent rotates one: a new file over the old name."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return token_file(tmp_path / "token", "first-s3cret\n")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_may_read_or_change_is_refused_at_construction(
    tmp_path: Path, path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.chmod(mode)
    monkeypatch.setenv("FLEETPULSE_DEVICE_TOKEN_FILE", str(path))
    with pytest.raises(ConfigError, match=f"mode {mode:04o} .*chmod 600") as caught:
        Monitor(state_dir=tmp_path / "state", clock=ManualClock(START_NS))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "no HTTP header"), (b"a\nb", "no HTTP header"),
     (b"x" * (FILE_BYTES_MAX + 1), "more than")],
)  # fmt: skip
def test_a_file_without_a_usable_token_is_refused(path: Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_token(path)


def test_a_directory_or_a_fifo_in_the_file_s_place_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for place in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ConfigError, match="is not a regular file"):
            read_token(place)


def test_a_rotated_file_is_followed_and_an_unusable_one_leaves_the_last_good_token(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors._guarding, "next_log_s", 0.0)
    credentials = Credentials(read_token(path), path)
    assert credentials.headers() == {"Authorization": "Bearer first-s3cret"}
    token_file(path, "second-s3cret")
    assert credentials.headers() == {"Authorization": "Bearer second-s3cret"}
    with caplog.at_level(logging.WARNING, "device_sdk"):
        token_file(path, "third-s3cret", mode=0o644)
        assert credentials.headers() == {"Authorization": "Bearer second-s3cret"}
    assert "chmod 600" in caplog.text
    assert "s3cret" not in caplog.text
    path.chmod(0o600)
    assert credentials.headers() == {"Authorization": "Bearer third-s3cret"}
    path.unlink()
    assert credentials.headers() == {"Authorization": "Bearer third-s3cret"}
    assert "s3cret" not in repr(credentials)


def test_a_401_reads_the_file_at_once_and_the_same_bytes_are_offered_again(
    tmp_path: Path, path: Path, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPULSE_DEVICE_TOKEN_FILE", str(path))
    clock = ManualClock(START_NS)
    monitor = Monitor(endpoint=collector.url, state_dir=tmp_path / "state", clock=clock)
    engine = monitor._engine
    assert engine is not None
    inner, seen = engine.sender.transport, []

    class Rotating:
        """The token is rotated while the first request is under way."""

        def post(self, url: str, body: bytes, headers: Any, timeout_s: float) -> Any:
            if not seen:
                collector.answers.append((401, {}, b""))
                answer = inner.post(url, body, headers, timeout_s)
                token_file(path, "second-s3cret")
            else:
                answer = inner.post(url, body, headers, timeout_s)
            seen.append((headers["Authorization"], body))
            return answer

        def close(self) -> None:
            inner.close()

    engine.sender.transport = Rotating()  # type: ignore[assignment]
    clock.advance(MINUTE)
    monitor.step()
    assert monitor.flush(5)
    assert [header for header, _ in seen[:2]] == ["Bearer first-s3cret", "Bearer second-s3cret"]
    assert seen[0][1] == seen[1][1]
    assert engine.sender.resting_s() == 0
    monitor.close(0)


def test_a_401_with_the_same_token_backs_off(tmp_path: Path, path: Path, collector: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("FLEETPULSE_DEVICE_TOKEN_FILE", str(path))
    clock = ManualClock(START_NS)
    monitor = Monitor(endpoint=collector.url, state_dir=tmp_path / "state", clock=clock)
    collector.answers += [(401, {}, b""), (401, {}, b"")]  # logs and metrics back off on their own
    clock.advance(MINUTE)
    monitor.step()
    assert not monitor.flush(0.2)
    assert collector.requests == []
    monitor.close(0)


def test_no_verb_shows_the_token(path: Path, collector: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEETPULSE_DEVICE_TOKEN_FILE", str(path))
    said: list[str] = []
    assert main(["doctor", "--endpoint", collector.url, "--state-dir", str(tmp_path / "state")], said.append) == 0
    assert str(path) in "\n".join(said)
    assert "s3cret" not in "\n".join(said)
    assert collector.requests[0][1]["Authorization"] == "Bearer first-s3cret"
    path.chmod(0o644)
    assert main(["doctor", "--endpoint", collector.url], said.append) == 1
    assert "s3cret" not in "\n".join(said)
