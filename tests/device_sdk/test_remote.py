"""Remote settings on the device: named by an answer, fetched once, judged here, in force at a border of windows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sdk_kit import SECOND, START_NS, attributes_of, classifier, events, points, session_of

from device_sdk import ConfigError, Monitor
from device_sdk.config import resolve
from device_sdk.contract import attributes as a
from device_sdk.contract import settings as wire
from device_sdk.contract.attributes import SignalLevel
from device_sdk.reach import Reach
from device_sdk.remote import FETCH_EVERY_S, RETRY_MAX_S, RemoteSettings
from device_sdk.sending.transport import Answer
from device_sdk.testing import ManualClock, kill

IMAGE = np.zeros((1, 64), np.float32)
FULL, OUTPUTS, OFF = SignalLevel.FULL, SignalLevel.OUTPUTS, SignalLevel.OFF


class World:
    """A Monitor on a manual clock and a real collector that serves documents."""

    def __init__(self, collector: Any, directory: Path) -> None:
        self.collector = collector
        self.directory = directory
        self.clock = ManualClock(START_NS)
        self.monitor = self.start()
        self.model = classifier(directory / "digits.onnx")

    def start(self, **arguments: Any) -> Monitor:
        self.monitor = Monitor(
            endpoint=self.collector.url, state_dir=self.directory / "state", clock=self.clock, **arguments
        )
        return self.monitor

    def offer(self, text: bytes | str | dict[str, object], *, name: str = "", status: int = 200) -> str:
        """Let every answer name a document and the collector serve it."""
        body = wire.canonical(text) if isinstance(text, dict) else text.encode() if isinstance(text, str) else text
        identity = name or wire.document_id(body)
        self.collector.settings = identity
        self.collector.documents[identity] = (status, body)
        return identity

    def window(self, seconds: float = 60) -> None:
        self.clock.advance(int(seconds * SECOND))
        self.monitor.step()
        assert self.monitor.flush(5)

    def windows(self) -> list[tuple[float, str]]:
        """(length in s, settings id) of every window that arrived, by time."""
        found = []
        for request in self.collector.metrics():
            for resource in request.resource_metrics:
                settings = attributes_of(resource.resource.attributes)[a.SETTINGS_ID]
                for metric in resource.scope_metrics[0].metrics:
                    if metric.name == "edge.session.time":
                        (point,) = metric.sum.data_points
                        found.append((point.time_unix_nano, point.start_time_unix_nano, settings))
        return [((end - start) / SECOND, settings) for end, start, settings in sorted(found)]

    def applied(self) -> list[tuple[dict[str, Any], Any]]:
        assert self.monitor.flush(5)
        return [(told, record) for name, told, (record, _) in events(self.collector.logs())
                if name == "edge.settings.applied"]  # fmt: skip

    def bytes_counted(self) -> int:
        return sum(p.as_int for name, at, p in points(self.collector.metrics())
                   if name == "edge.export.size" and at[a.EXPORT_KIND] == "settings")  # fmt: skip


@pytest.fixture
def world(collector: Any, tmp_path: Path) -> Iterator[World]:
    made = World(collector, tmp_path)
    yield made
    made.monitor.close(0)


def test_a_document_takes_effect_at_the_next_border_and_every_window_tells_its_settings(world: World) -> None:
    wanted = {"window_s": 300, "sample_every": 4, "signal_level": "outputs"}
    identity = world.offer(wanted)
    world.window()  # this answer names the document; it is fetched, and waits for the border
    assert world.collector.fetched == [f"/v1/settings?id={identity}"]
    world.window()
    border_ns = world.clock.wall_ns()
    world.window(299)
    world.window(1)
    lengths = world.windows()
    assert [length for length, _ in lengths] == [60, 60, 300]
    assert lengths[0][1] == lengths[1][1] != lengths[2][1]
    ((told, record),) = world.applied()
    assert record.time_unix_nano == border_ns
    assert record.severity_number == 9
    assert told[a.SETTINGS_ID] == lengths[2][1]
    assert told[a.SETTINGS_VERSION] == identity
    assert (told[a.SETTINGS_SOURCE], told[a.WINDOW_LENGTH], told[a.SIGNAL_LEVEL]) == ("remote", 300, "outputs")
    assert told[a.SAMPLE_EVERY] == 4
    assert a.SETTINGS_REFUSED not in told
    assert (told[a.PRIVACY_ENABLED], told[a.PRIVACY_MIN_COUNT]) == (False, 1)
    assert len(world.collector.fetched) == 1
    assert world.bytes_counted() >= len(wire.canonical(wanted))


def test_the_level_reaches_sessions_of_before_and_after(world: World) -> None:
    before = world.monitor.wrap(session_of(world.model), model="m", version="1")
    world.offer({"signal_level": "off"})
    world.window()
    world.window()
    after = world.monitor.wrap(session_of(world.model), model="m", version="1")
    for session in (before, after):
        session.run(None, {"x": IMAGE})
    world.window()
    found = points(world.collector.metrics())
    assert sum(p.count for name, _, p in found if name == "edge.inference.duration") == 2
    assert not [name for name, _, _ in found if name in ("edge.output.confidence", "edge.output.predictions")]


def test_remote_settings_never_raise_what_the_device_does_itself(world: World) -> None:
    world.monitor.close(0)
    world.start(window_s=120)
    world.offer({"window_s": 10, "sample_every": 2})
    for _ in range(3):
        world.window(120)
    assert {length for length, _ in world.windows()} == {120}
    ((told, record),) = world.applied()
    assert [value.string_value for value in told[a.SETTINGS_REFUSED].values] == ["window_s"]
    assert (told[a.WINDOW_LENGTH], told[a.SAMPLE_EVERY], record.severity_number) == (120, 2, 13)


def test_only_the_device_s_own_ceiling_lets_more_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.monitor.close(0)
    monkeypatch.setenv("FLEETPULSE_DEVICE_REMOTE_CEILING", "window_s=20")
    monkeypatch.setenv("FLEETPULSE_DEVICE_SIGNAL_LEVEL", "outputs")
    world.start()
    world.offer({"window_s": 10, "signal_level": "full"})
    world.window()
    world.window()
    world.window(20)
    assert [length for length, _ in world.windows()] == [60, 60, 20]
    ((told, _),) = world.applied()
    assert [value.string_value for value in told[a.SETTINGS_REFUSED].values] == ["signal_level", "window_s"]
    assert told[a.SIGNAL_LEVEL] == "outputs"


def test_no_document_touches_privacy_and_the_event_says_what_is_in_force(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.monitor.close(0)
    monkeypatch.setenv("FLEETPULSE_DEVICE_PRIVACY_MIN_COUNT", "20")
    monkeypatch.setenv("FLEETPULSE_DEVICE_PRIVACY_CLIP", "500")
    world.start()
    world.offer('{"privacy_min_count": 1, "clip": 0, "sample_every": 2}')
    world.window()
    world.window()
    ((told, _),) = world.applied()
    assert (told[a.PRIVACY_ENABLED], told[a.PRIVACY_MIN_COUNT], told[a.PRIVACY_CLIP]) == (True, 20, 500)
    assert [value.string_value for value in told[a.SETTINGS_REFUSED].values] == ["unknown"]


def test_a_restart_goes_on_with_the_kept_document_and_fetches_nothing(world: World) -> None:
    identity = world.offer({"window_s": 300})
    world.window()
    kill(world.monitor)
    world.start()
    world.window(300)
    assert world.windows()[-1][0] == 300
    assert len(world.collector.fetched) == 1
    told = world.applied()[-1][0]
    assert (told[a.SETTINGS_SOURCE], told[a.SETTINGS_VERSION]) == ("file", identity)


def test_an_end_told_by_the_next_start_knows_the_settings_it_ended_under(world: World) -> None:
    world.offer({"window_s": 300})
    world.window()
    world.window()
    world.window(300)
    kill(world.monitor)
    world.start()
    assert world.monitor.flush(5)
    ((told, (_, resource)),) = [
        (told, at) for name, told, at in events(world.collector.logs()) if name == "session.end"
    ]
    assert resource[a.SETTINGS_ID] == world.windows()[-1][1] != world.windows()[0][1]
    assert told[a.SESSION_END_ACCURACY] == 300


def test_the_id_of_nothing_returns_to_the_device_s_own_settings_without_a_fetch(world: World) -> None:
    world.offer({"window_s": 300})
    for seconds in (60, 60):
        world.window(seconds)
    world.collector.settings = wire.NOTHING_ID
    world.window(300)
    world.window(300)
    world.window(60)
    assert [length for length, _ in world.windows()] == [60, 60, 300, 300, 60]
    assert [told[a.SETTINGS_SOURCE] for told, _ in world.applied()] == ["remote", "default"]
    assert world.windows()[0][1] == world.windows()[-1][1]
    assert len(world.collector.fetched) == 1
    assert not (world.directory / "state" / "settings.json").exists()


def test_switched_off_nothing_is_fetched_and_a_kept_document_is_not_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.offer({"window_s": 300})
    world.window()
    world.monitor.close(0)
    monkeypatch.setenv("FLEETPULSE_DEVICE_REMOTE_SETTINGS", "off")
    fetched = len(world.collector.fetched)
    world.start()
    for _ in range(3):
        world.window()
    assert {length for length, _ in world.windows()} == {60}
    assert len(world.collector.fetched) == fetched


BAD = [
    (b"", 200), (b"{", 200), (b"[]", 200), (b"null", 200), (b"\xff\xfe", 200), (b"[" * 4000, 200),
    (b'{"window_s": 300}' + b" " * 5000, 200), (b'{"window_s": 300}', 404), (b'{"window_s": 300}', 500),
    (b'{"window_s": 300}', 304), (b'{"window_s": 300}', 301), (b'{"window_s": 300}', 206),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), BAD)
def test_a_bad_document_changes_nothing(world: World, body: bytes, status: int) -> None:
    world.offer(body, status=status)
    for _ in range(3):
        world.window()
    assert [length for length, _ in world.windows()] == [60, 60, 60]
    assert world.applied() == []
    assert len(world.collector.fetched) == 1


def test_a_document_that_is_not_the_one_that_was_named_changes_nothing(world: World) -> None:
    world.offer({"window_s": 300}, name="0123456789abcdef")
    for _ in range(3):
        world.window()
    assert world.applied() == []


@pytest.mark.parametrize("name", ["x", "../../etc/passwd", "A" * 16, "0" * 15, "0" * 5000, "0123456789abcde\t"])
def test_an_id_that_is_none_is_not_asked_for(world: World, name: str) -> None:
    world.collector.settings = name
    world.window()
    world.window()
    assert world.collector.fetched == []


def test_hostile_values_are_refused_one_by_one_and_the_rest_applies(world: World) -> None:
    text = '{"window_s": 1e999, "sample_every": -1, "signal_level": "outputs", "evil": "../../x", "token": null}'
    world.offer(text)
    world.window()
    world.window()
    ((told, record),) = world.applied()
    refused = [value.string_value for value in told[a.SETTINGS_REFUSED].values]
    assert refused == ["sample_every", "unknown", "window_s"]
    assert (told[a.SIGNAL_LEVEL], told[a.WINDOW_LENGTH], record.severity_number) == ("outputs", 60, 13)


class Named:
    """A source that names what it is told and counts what is fetched."""

    def __init__(self) -> None:
        self.settings_id = ""
        self.answer = Answer(500)
        self.asked = 0

    def fetch_settings(self, document_id: str, timeout_s: float) -> Answer:
        self.asked += 1
        return self.answer


def remote(directory: Path | None = None) -> tuple[RemoteSettings, Named, list[float]]:
    now = [0.0]
    return RemoteSettings(resolve(environ={}).remote, directory, lambda: now[0]), Named(), now


def test_with_the_machine_s_clock_and_its_threads_a_document_is_followed_too(collector: Any, tmp_path: Path) -> None:
    text = wire.canonical({"sample_every": 3})
    collector.settings = wire.document_id(text)
    collector.documents[collector.settings] = (200, text)
    with Monitor(endpoint=collector.url, state_dir=tmp_path / "state", window_s=60) as monitor:
        for _ in range(3):  # each flush closes a window: the first learns of the document, the second applies it
            assert monitor.flush(10)
    told = [told for name, told, _ in events(collector.logs()) if name == "edge.settings.applied"]
    assert [at[a.SAMPLE_EVERY] for at in told] == [3]
    assert len(collector.fetched) == 1


def test_the_id_of_nothing_is_the_one_that_the_contract_names() -> None:
    from device_sdk.contract.document import contract_document

    assert wire.NOTHING_ID in contract_document()


def test_a_collector_that_fails_is_asked_less_and_less() -> None:
    settings, source, now = remote()
    source.settings_id = "0" * 16
    asked_at = []
    while now[0] < 7 * 86_400:
        before = source.asked
        settings.follow(source, 1)
        if source.asked > before:
            asked_at.append(now[0])
        now[0] += 60
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert gaps == sorted(gaps)
    assert (gaps[0], gaps[-1]) == (FETCH_EVERY_S, RETRY_MAX_S)


def test_an_id_that_changes_all_the_time_is_followed_only_every_five_minutes() -> None:
    settings, source, now = remote()
    texts = [wire.canonical({"sample_every": n}) for n in (2, 3)]
    for minute in range(60):
        text = texts[minute % 2]
        source.settings_id, source.answer = wire.document_id(text), Answer(200, text)
        settings.follow(source, 1)
        now[0] += 60
    assert source.asked <= 60 * 60 / FETCH_EVERY_S


def test_a_directory_that_takes_nothing_costs_only_the_memory_of_it(tmp_path: Path) -> None:
    settings, source, _ = remote(tmp_path / "gone")
    text = wire.canonical({"sample_every": 7})
    source.settings_id, source.answer = wire.document_id(text), Answer(200, text)
    settings.follow(source, 1)
    applied = settings.take()
    assert applied is not None
    assert applied.reach.sample_every == 7
    assert settings.take() is None


@pytest.mark.parametrize("kept", [b"{", b"", b"[1]", b"x" * 100_000, json.dumps({"window_s": "long"}).encode()])
def test_a_broken_kept_document_is_as_none(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "settings.json").write_bytes(kept)
    settings, _, _ = remote(tmp_path)
    settings.take()
    assert settings.applied.reach == Reach(60 * SECOND)


@pytest.mark.parametrize(
    ("local", "ceiling", "document", "granted", "refused"),
    [
        (Reach(60, 1, FULL), Reach(60, 1, FULL), Reach(300, 4, OFF), Reach(300, 4, OFF), ()),
        (Reach(60, 4, OFF), Reach(60, 4, OFF), Reach(30, 1, FULL), Reach(60, 4, OFF), wire.KEYS),
        (Reach(60, 4, OFF), Reach(20, 2, OUTPUTS), Reach(10, 1, FULL), Reach(20, 2, OUTPUTS), wire.KEYS),
        (Reach(60, 4, OFF), Reach(20, 2, FULL), Reach(30, 3, OUTPUTS), Reach(30, 3, OUTPUTS), ()),
    ],
)
def test_what_a_document_may_do(local: Reach, ceiling: Reach, document: Reach, granted: Reach, refused: Any) -> None:
    from device_sdk.reach import RemotePolicy

    def seconds(reach: Reach) -> Reach:
        return Reach(reach.window_ns * SECOND, reach.sample_every, reach.level)

    text = {"window_s": document.window_ns, "sample_every": document.sample_every, "signal_level": str(document.level)}
    found = RemotePolicy(seconds(local), seconds(ceiling), True).judge(text)
    assert found == (seconds(granted), tuple(sorted(refused)))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"REMOTE_SETTINGS": "on"}, "one of reduce, off"),
        ({"SIGNAL_LEVEL": "none"}, "one of off, outputs, full"),
        ({"SAMPLE_EVERY": "0"}, "a whole number"),
        ({"SAMPLE_EVERY": "1.5"}, "a whole number"),
        ({"REMOTE_CEILING": "window_s"}, "not key=value"),
        ({"REMOTE_CEILING": "windows_s=5"}, "did you mean 'window_s'"),
        ({"REMOTE_CEILING": "window_s=nan"}, "1 to 86400 seconds"),
        ({"REMOTE_CEILING": "window_s=120"}, "window_s is below what the device does itself"),
        ({"REMOTE_CEILING": "signal_level=outputs"}, "signal_level is below"),
        ({"REMOTE_SETTNGS": "off"}, "did you mean 'FLEETPULSE_DEVICE_REMOTE_SETTINGS'"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        resolve(environ={f"FLEETPULSE_DEVICE_{name}": value for name, value in environ.items()})


def test_local_settings_are_in_force_from_the_first_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.monitor.close(0)
    monkeypatch.setenv("FLEETPULSE_DEVICE_SIGNAL_LEVEL", "off")
    session = world.start().wrap(session_of(world.model), model="m", version="1")
    session.run(None, {"x": IMAGE})
    world.window()
    names = {name for name, _, _ in points(world.collector.metrics())}
    assert "edge.inference.duration" in names
    assert "edge.output.confidence" not in names
