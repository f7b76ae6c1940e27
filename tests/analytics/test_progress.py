"""How far judgement may go."""

from __future__ import annotations

import pytest
from judgement_kit import DAY, HOUR, MINUTE, T0, Batch, Clock, fleet, opened

from analytics import progress
from analytics.options import AnalyticsOptions

OPTIONS = AnalyticsOptions()


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path, Clock(T0 + DAY))
    yield store
    store.close()


def heard(store, tmp_path, received_ns, **last_minute):
    batch = Batch(received_ns)
    for device in fleet(len(last_minute)):
        end = T0 + list(last_minute.values())[int(device.name[-3:])] * MINUTE
        batch.window(device, end - 5 * MINUTE, end)
    batch.put(store, tmp_path / "segments")


def test_an_empty_store_has_no_horizon(store):
    assert progress.horizon_ns(store, OPTIONS, T0, None) is None
    assert progress.wall_horizon_ns(store, OPTIONS, T0) == 0
    assert progress.first_ns(store, T0, DAY) is None
    assert progress.until_ns(store, "slo") is None


def test_the_horizon_is_on_the_grid_and_waits_for_the_slowest_tenth(store, tmp_path):
    heard(store, tmp_path, T0 + 2 * HOUR, a=61, b=62, c=97)
    assert progress.horizon_ns(store, OPTIONS, T0 + 2 * HOUR, None) == T0 + HOUR
    # everything that had arrived a quarter of an hour ago is judged, heard from or not
    assert progress.horizon_ns(store, OPTIONS, T0 + 2 * HOUR + 16 * MINUTE, None) == T0 + 95 * MINUTE
    assert progress.horizon_ns(store, OPTIONS, T0 + 2 * HOUR, T0 + 83 * MINUTE) == T0 + 80 * MINUTE
    assert progress.horizon_ns(store, OPTIONS, T0 + 2 * HOUR, T0 + DAY) == T0 + 95 * MINUTE


def test_the_wall_clock_counts_once_live_data_stopped(store, tmp_path):
    heard(store, tmp_path, T0 + 65 * MINUTE, a=60)
    assert progress.wall_horizon_ns(store, OPTIONS, T0 + 5 * HOUR) == T0 + 5 * HOUR - 15 * MINUTE
    # while anything still arrives event time goes on by itself
    assert progress.wall_horizon_ns(store, OPTIONS, T0 + 79 * MINUTE) == 0
    assert progress.first_ns(store, T0 + 2 * HOUR, DAY) == T0 + HOUR


def test_history_is_not_live(store, tmp_path):
    heard(store, tmp_path, T0 + 5 * DAY, a=60)
    assert progress.wall_horizon_ns(store, OPTIONS, T0 + 6 * DAY) == 0
