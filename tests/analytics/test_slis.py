"""Which indicators the roll-up counts, and that configuration is read again when it changes."""

from __future__ import annotations

import pytest
from judgement_kit import DAY, HOUR, T0

from analytics.options import AnalyticsOptions
from analytics.slis import Stream, check_config, load_slos, roll_up, streams
from collector.errors import ConfigError
from collector.storage.base import DirtyHour


class FakeStore:
    """Knows models as far as hours were rolled up; remembers what it was asked to count."""

    def __init__(self, hours: list[int], models: dict[tuple[str, str], int]) -> None:
        self.hours, self.models, self.calls, self.rolled = hours, models, [], set()

    def dirty_hours(self):
        return [DirtyHour(hour, 1) for hour in self.hours if hour not in self.rolled]

    def recompute(self, hours, slis, gen):
        self.calls.append(([hour.hour_ns for hour in hours], sorted(spec.slo for spec in slis), gen))
        self.rolled |= {hour.hour_ns for hour in hours}
        return 1

    def query(self, name, params):
        import pyarrow as pa

        assert name == "models"
        found = [(m, v, first) for (m, v), first in self.models.items() if first in self.rolled]
        columns = list(zip(*found, strict=True)) or [[], [], []]
        return pa.table(dict(zip(("model", "version", "first_ns"), columns, strict=True)))


def test_a_new_version_is_counted_in_its_own_first_hours():
    hours = [T0 + hour * HOUR for hour in (0, 1, 25, 26)]
    store = FakeStore(hours, {("digits", "1"): T0, ("digits", "2"): T0 + 26 * HOUR})
    assert roll_up(store, AnalyticsOptions(), T0 + 2 * DAY, 5) == hours
    one, both = "inference-latency|digits|1", "inference-latency|digits|2"
    called = [(found, one in slis, both in slis) for found, slis, _ in store.calls]
    assert called == [
        (hours[:2], False, False), (hours[:2], True, False), (hours[2:], True, False), (hours[3:], True, True),
    ]  # fmt: skip
    gens = [gen for _, _, gen in store.calls]
    assert gens == sorted(set(gens))


def test_hours_after_the_horizon_wait():
    store = FakeStore([T0, T0 + HOUR, T0 + 2 * HOUR], {})
    assert roll_up(store, AnalyticsOptions(), T0 + HOUR, 1) == [T0, T0 + HOUR]
    assert [hour.hour_ns for hour in store.dirty_hours()] == [T0 + 2 * HOUR]


def test_crash_free_is_counted_once_and_models_without_a_version_not_narrowed():
    slos = load_slos(AnalyticsOptions())
    found = [stream.sli for stream in streams(slos, [("digits", "1"), ("digits", ""), ("", "")])]
    assert found == [
        "crash-free", "inference-latency", "inference-latency|digits|1", "inference-success",
        "inference-success|digits|1",
    ]  # fmt: skip


def test_a_stream_that_is_the_slo_itself_keeps_its_name():
    slo = load_slos(AnalyticsOptions())[0]
    assert Stream(slo, "", "").sli == slo.name
    assert Stream(slo, "", "").spec.kind == "crash_free"


def test_a_changed_directory_is_read_again_and_a_broken_file_named(tmp_path):
    options = AnalyticsOptions(config_dir=tmp_path)
    assert len(load_slos(options)) == 3
    directory = tmp_path / "slos"
    directory.mkdir()
    assert load_slos(options) == ()
    path = directory / "a.yaml"
    path.write_text("kind: nonsense\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:1"):
        check_config(options)
    path.unlink()
    check_config(options)
