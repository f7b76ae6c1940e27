"""Values of every kind at every entrance: refused at construction, or counted and said, never raised and never lost."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sdk import Feature, Monitor, Signals
from device_sdk.config import resolve
from device_sdk.errors import ConfigError, DeviceSdkError, GoldenError, ModelNameError, raise_swallowed
from device_sdk.runtimes.callables import CALLABLES_MAX

SURROGATE = "\udcff"
ONE = np.zeros((1, 64), np.float32)


def shown(value: object) -> str:
    return type(value).__name__ if " at 0x" in repr(value) else repr(value).encode("ascii", "ignore").decode()[:20]


def runs(world: Any) -> int:
    return int(sum(point.count for _, point in world.named("edge.inference.duration")))


# --- at construction ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "endpoint", "token", "state_dir", "window_s", "device_id", "resource", "enabled", "spool", "overhead_budget",
        "budgets", "signals", "clock", "consent", "privacy_min_count", "privacy_clip", "privacy_epsilon",
        "identity_rotation_s",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "value", [object(), b"bytes", [], 1 + 2j, float("nan"), {1: 2}, SURROGATE, lambda: 0], ids=shown
)
def test_an_argument_of_the_wrong_kind_is_a_clear_error_at_construction(tmp_path: Path, name: str, value: Any) -> None:
    fits = {"state_dir": (SURROGATE,)}
    if any(value is fine for fine in fits.get(name, ())):
        return
    arguments: dict[str, Any] = {"state_dir": tmp_path / "state", name: value}
    with pytest.raises(DeviceSdkError, match=name):
        Monitor(**arguments)


def test_a_token_of_the_wrong_kind_is_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(token=b"s3cret", environ={})  # type: ignore[arg-type]
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("name", ["SPOOL_BYTES", "SPOOL_MEMORY_BYTES", "TIMEOUT_S"])
def test_a_number_that_no_machine_has_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}='1e30': write a finite number above 0, at most"):
        resolve(environ={f"FLEETPULSE_DEVICE_{name}": "1e30"})


@pytest.mark.parametrize(
    "url", ["http://h/?key=s3cret", "http://h#s3cret", "http://a b", "http://h/\xe9", "http://h\x7f"]
)
def test_an_endpoint_that_cannot_be_asked_is_refused(url: str) -> None:
    for given in ({"endpoint": url}, {"environ": {"OTEL_EXPORTER_OTLP_ENDPOINT": url}}):
        with pytest.raises(ConfigError, match="endpoint") as raised:
            resolve(**{"environ": {}, **given})  # type: ignore[arg-type]
        assert "s3cret" not in str(raised.value)


def test_a_line_end_after_the_endpoint_is_none_of_it() -> None:
    assert resolve(environ={"FLEETPULSE_DEVICE_ENDPOINT": "http://h\n"}).metrics_url == "http://h/v1/metrics"


def test_a_certificate_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        resolve(endpoint="https://h", environ={"OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "ca.pem")})


def test_an_endless_timeout_of_the_exporters_variable_is_bounded() -> None:
    assert resolve(environ={"OTEL_EXPORTER_OTLP_TIMEOUT": "inf"}).timeout_s == 3600


def test_an_empty_state_directory_is_not_the_working_directory() -> None:
    environ = {"FLEETPULSE_DEVICE_STATE_DIR": "", "HOME": "/h"}
    assert resolve(environ=environ).state_dir == Path("/h/.local/state/fleetpulse")
    with pytest.raises(ConfigError, match="state_dir"):
        resolve(state_dir="", environ={})


@pytest.mark.parametrize("device_id", ["x" * 129, SURROGATE])
def test_a_device_id_that_cannot_travel_is_refused(device_id: str) -> None:
    for given in ({"device_id": device_id}, {"environ": {"FLEETPULSE_DEVICE_DEVICE_ID": device_id}}):
        with pytest.raises(ConfigError, match="device_id"):
            resolve(**{"environ": {}, **given})  # type: ignore[arg-type]


def test_what_wrap_is_told_is_checked_at_once(bench: Any, digits: Any) -> None:
    world = bench()
    with pytest.raises(ConfigError, match="requested=5"):
        world.monitor.wrap(digits, requested=5)
    with pytest.raises(ConfigError, match="signals=5"):
        world.monitor.wrap(digits, signals=5)
    with pytest.raises(GoldenError, match="golden=5"):
        world.monitor.selftest(5, digits)
    with pytest.raises(ModelNameError, match="no text"):
        world.monitor.wrap(digits, "m" + SURROGATE, "1")


# --- words and numbers that cannot be written ------------------------------------------------------------------------


def test_a_word_or_number_that_cannot_be_written_does_not_spoil_the_windows_after_it(bench: Any, digits: Any) -> None:
    raise_swallowed(False)
    world = bench(resource={"edge.region": SURROGATE, "edge.label.n": 10**30, "edge.flags": [f"a={SURROGATE}"]})
    wrapped = world.monitor.wrap(digits, "m", "1")
    wrapped.run(None, {"x": ONE})
    world.monitor.flag("k", SURROGATE)
    world.monitor.flag(SURROGATE, "a")
    world.monitor.flag("sound", "yes", provider=SURROGATE)
    world.monitor.outcome("m", correct=True, output=SURROGATE)
    world.monitor.outcome("m", correct=True, samples=10**30)
    for number, words in enumerate(({"name": SURROGATE}, {"update_id": SURROGATE}, {"artifact_hash": SURROGATE})):
        world.monitor.update("model", str(number), SURROGATE, **words).failed(SURROGATE)
    world.monitor.update("app", "1", "2", deployment_id=10**400, update_id=np.zeros(2)).failed("x")
    world.window()
    wrapped.run(None, {"x": ONE})
    world.window()
    assert runs(world) == 2
    assert [at["feature_flag.key"] for name, at, _ in world.events() if name == "feature_flag.evaluation"] == ["sound"]
    assert [name for name, *_ in world.events()].count("edge.update.failed") == 4


@pytest.mark.parametrize("stated", [None, "x", 1.5, -1, 10**30, SURROGATE, [], object()], ids=shown)
def test_a_count_that_is_none_does_not_spoil_the_other_runs(bench: Any, stated: Any) -> None:
    world = bench()
    with world.monitor.measure("m", samples=stated):
        pass
    with world.monitor.measure("m") as run:
        run.samples = run.input_bytes = stated
    with world.monitor.measure("m", samples=np.int64(3)):
        pass
    world.window()
    assert runs(world) == 3
    assert sum(point.as_int for _, point in world.named("edge.inference.samples")) == 5


# --- feeds and answers ------------------------------------------------------------------------------------------------


class OnceReadable(Mapping[str, Any]):
    """A feed that lets the runtime read it and nobody after it."""

    def __init__(self, reads: int) -> None:
        self.reads = reads

    def __getitem__(self, key: str) -> Any:
        self.reads -= 1
        if self.reads < 0:
            raise RuntimeError("this feed is used up")
        return ONE

    def __iter__(self) -> Iterator[str]:
        return iter(["x"])

    def __len__(self) -> int:
        return 1


class SpeechlessError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Scripted:
    """A real session whose answers are replaced."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.answer: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: Any, feed: Any, options: Any = None) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self._session.run(names, dict(feed), options) if self.answer is None else self.answer


SIGNALS = {"inferred": None, "declared": Signals(features=(Feature("c", column=0),)), "values": Signals(output="value")}


@pytest.mark.parametrize("signals", SIGNALS)
@pytest.mark.parametrize("before", [0, 1, 40])
def test_a_feed_that_can_be_read_once_is_no_trouble(bench: Any, digits: Any, before: int, signals: str) -> None:
    raise_swallowed(False)
    world = bench()
    wrapped = world.monitor.wrap(Scripted(digits), "m", "1", signals=SIGNALS[signals])
    for _ in range(before):
        wrapped.run(None, {"x": ONE})
    for reads in (1, 1, 2, 3):
        assert wrapped.run(None, OnceReadable(reads))[0].shape == (1, 10)
    world.window()
    assert runs(world) == before + 4


@pytest.mark.parametrize(
    "answer",
    [
        [], [None], [{0: 0.1}], [np.array([["a"] * 10])], [np.full((1, 10), 0.1, complex)], [[0.1] * 10], {"p": ONE}, 7,
        [object()], [np.zeros((1, 10), [("a", "f4")])], [np.full((1, 10), None)], [np.full((1, 10000), 1e-4)], ONE,
    ],
    ids=shown,
)  # fmt: skip
@pytest.mark.parametrize("before", [0, 1, 40])
def test_a_model_that_answers_otherwise_from_one_run_to_the_next_is_counted(
    bench: Any, digits: Any, before: int, answer: Any
) -> None:
    raise_swallowed(False)
    world = bench()
    scripted = Scripted(digits)
    wrapped = world.monitor.wrap(scripted, "m", "1", signals=SIGNALS["declared"])
    for _ in range(before):
        wrapped.run(None, {"x": ONE})
    scripted.answer = answer
    for _ in range(3):
        assert wrapped.run(None, {"x": ONE}) is answer
    world.window()
    assert runs(world) == before + 3


def test_an_answer_that_is_an_iterator_is_left_to_the_host(bench: Any, digits: Any) -> None:
    world = bench()
    scripted = Scripted(digits)
    wrapped = world.monitor.wrap(scripted, "m", "1")
    for _ in range(3):
        scripted.answer = iter([1, 2, 3])
        assert list(wrapped.run(None, {"x": ONE})) == [1, 2, 3]
    world.window()
    assert runs(world) == 3


@pytest.mark.parametrize(
    "error",
    [SpeechlessError(), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), MemoryError()],
    ids=lambda e: type(e).__name__,
)
def test_what_a_run_raises_arrives_unchanged_and_is_counted(bench: Any, digits: Any, error: BaseException) -> None:
    raise_swallowed(False)
    world = bench()
    scripted = Scripted(digits)
    wrapped = world.monitor.wrap(scripted, "m", "1")
    scripted.answer = error
    with pytest.raises(type(error)) as raised:
        wrapped.run(None, OnceReadable(0))
    assert raised.value is error
    with pytest.raises(type(error)), world.monitor.measure("c"), world.monitor.pipeline("c"):
        raise error
    world.window()
    assert runs(world) == 2
    assert all("error.type" in at for at, _ in world.named("edge.inference.duration"))


def test_an_answer_of_gigabytes_is_not_read_from_end_to_end(bench: Any, digits: Any) -> None:
    world = bench()
    scripted = Scripted(digits)
    wrapped = world.monitor.wrap(scripted, "m", "1")
    wrapped.run(None, {"x": ONE})
    scripted.answer = [np.broadcast_to(np.float32(0.1), (1, 1 << 30))]  # four gigabytes to read, four bytes to keep
    whole = time.thread_time()
    scripted.answer[0].max()
    whole = time.thread_time() - whole
    started = time.thread_time()
    wrapped.run(None, {"x": ONE})
    assert time.thread_time() - started < whole / 4  # by the sizes it is 1/256


# --- blocks that end elsewhere, and names without end ----------------------------------------------------------------


@pytest.mark.parametrize("way", ["measure", "pipeline"])
@pytest.mark.parametrize("consent", [None, True])
def test_a_block_in_a_generator_may_end_in_any_thread_or_context(bench: Any, way: str, consent: bool | None) -> None:
    world = bench(consent=consent)

    def frames() -> Any:
        with getattr(world.monitor, way)("m"):
            yield 1

    for _ in range(3):
        made = frames()
        thread = threading.Thread(target=next, args=(made,))
        thread.start()
        thread.join()
        made.close()
    first, second = frames(), frames()
    next(first), next(second)
    first.close()
    second.close()

    async def stream() -> Any:
        with getattr(world.monitor, way)("m"):
            yield 1
            await asyncio.sleep(0)

    async def abandon() -> None:
        async for _ in stream():
            break  # the event loop closes the generator, in a context of its own

    asyncio.run(abandon())
    world.window()
    named = "edge.inference.duration" if way == "measure" else "edge.pipeline.duration"
    assert [(at["error.type"], point.count) for at, point in world.named(named)] == [("cancelled", 6)]


def test_names_made_anew_for_each_run_do_not_grow_in_the_host(bench: Any) -> None:
    world = bench()
    for _ in range(10):
        for _ in range(100):
            with world.monitor.measure(f"request-{uuid.uuid4()}"), world.monitor.pipeline(f"p-{uuid.uuid4()}"):
                pass
            world.monitor.outcome("_OTHER", version="_OTHER", correct=True, output=str(uuid.uuid4()))
        world.window()
    engine = world.monitor._engine
    assert runs(world) == 1000
    assert len(world.monitor._measured) <= CALLABLES_MAX + 1
    assert len(engine.models.recorders) <= CALLABLES_MAX + 1
    assert sum(point.as_int for _, point in world.named("edge.output.outcomes")) > 900
