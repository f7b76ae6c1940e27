"""Device clocks: event time is raw time corrected by what the envelopes of a boot say; raw times are never touched."""

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from store_kit import (
    DAY,
    HOUR,
    T0,
    Request,
    S,
    attributes,
    decoded_logs,
    device_window,
    resource_of,
    session_end,
    write,
)

from collector.storage.base import SliSpec
from collector.storage.boots import PLAUSIBLE_NS, Boot, placed
from collector.storage.clocks import TOLERANCE_NS

MINUTE = 60 * S
AGO = T0 - HOUR
LATENCY = SliSpec("fast", "latency", "edge.inference.duration", threshold=0.05)


def device(name="cam", boot="b1", instance=None, **more):
    return {**resource_of(name, **more), "service.instance.id": instance or f"{name}-{boot}", "edge.boot.id": boot}


def counted(resource, start, end, runs=10, sequence=0):
    request = Request(**resource)
    model = {"edge.model.name": "digits", "edge.model.version": "3"}
    request.exponential("edge.inference.duration", start, end, [runs], scale=3, offset=-40, **model)
    request.sum("edge.session.time", start, end, (end - start) / S, unit="s")
    return request.window(start, end, sequence, points=5)


def envelope(resource, sent, offset_s=0.0, source="none"):
    return Request(**resource).gauge(
        "edge.clock.offset", sent, offset_s, unit="s", start=sent, **{"edge.clock.source": source}
    )


@pytest.fixture
def put(store, tmp_path):
    def take(received, *requests):
        batches = [
            decoded_logs(item, received) if isinstance(item, ExportLogsServiceRequest) else item.decoded(received)
            for item in requests
        ]
        return store.put([write(tmp_path, batches, received)])

    return take


@pytest.fixture
def judged(store):
    """Roll up what is dirty; return runs by hour."""

    def hours(**span):
        store.recompute(store.dirty_hours(), [LATENCY], 1)
        where = {"metric": "edge.inference.duration", "from_ns": 0, "to_ns": T0 + 400 * DAY, **span}
        found = {}
        for row in store.query("device_hours", where).to_pylist():
            found[row["hour_ns"]] = found.get(row["hour_ns"], 0) + row["count"]
        return found

    return hours


def clock_of(store, name="cam"):
    return [(row["boot_id"], row["offset_ns"], row["quality"]) for row in
            sorted(store.query("clocks", {"device": name}).to_pylist(), key=lambda row: row["boot_id"])]  # fmt: skip


def test_a_boot_in_1970_counts_in_the_hours_in_which_it_ran(store, put, judged):
    here = device()
    put(T0, counted(here, 5 * S, 65 * S), envelope(here, 66 * S))
    assert [hour.hour_ns for hour in store.dirty_hours()] == [AGO]
    assert judged() == {AGO: 10}
    assert clock_of(store) == [("b1", T0 - 66 * S, "estimated")]
    (point,) = store.query("points", {"metric": "edge.inference.duration"}).to_pylist()
    assert (point["start_ns"], point["time_ns"], point["received_ns"]) == (5 * S, 65 * S, T0)
    slots = store.query("sli_slots", {"slo": "fast", "from_ns": 0, "to_ns": T0 + DAY}).to_pylist()
    assert [(row["slot_ns"], row["total"]) for row in slots] == [(T0, 10)]
    sessions = store.query("session_hours", {"from_ns": 0, "to_ns": T0 + DAY}).to_pylist()
    assert [(row["hour_ns"], row["observed_s"]) for row in sessions] == [(AGO, 60)]


def test_everything_that_judges_sees_event_time(store, put):
    here = device()
    put(T0, counted(here, 5 * S, 65 * S), envelope(here, 66 * S))
    put(T0, session_end("cam", 65 * S, **{"edge.boot.id": "b1", "service.instance.id": "cam-b1"}))
    end, start = T0 - S, T0 - 61 * S
    span = {"from_ns": T0 - HOUR, "to_ns": T0}
    assert {(row["start_ns"], row["time_ns"]) for row in store.query("device_windows", span).to_pylist()} >= {
        (start, end)
    }
    assert [row["time_ns"] for row in store.query("window_sequences", span).to_pylist()] == [end]
    assert store.query("watermark").to_pylist()[0]["max_time_ns"] == T0
    assert store.query("max_time_received_before", {"received_ns": T0 + 1}).to_pylist()[0]["max_time_ns"] == T0
    assert [row["time_ns"] for row in store.query("session_events", span).to_pylist()] == [end]
    (active,) = store.query("device_activity", {"at_ns": T0, "lookback_ns": HOUR}).to_pylist()
    assert active["last_ns"] == T0
    (row,) = store.query("devices").to_pylist()
    assert (row["first_seen_ns"], row["last_seen_ns"]) == (end, T0)
    assert (row["clock_offset_ns"], row["clock_quality"]) == (T0 - 66 * S, "estimated")
    raw = store.query("raw_distribution", {"metric": "edge.inference.duration", **span}).to_pylist()
    assert [(item["start_ns"], item["time_ns"]) for item in raw] == [(start, end)]


def test_a_correction_moves_what_was_judged_before_and_a_better_one_moves_it_again(store, put, judged):
    here = device()
    put(T0, counted(here, 5 * S, 65 * S))
    assert judged() == {0: 10}
    late = 3 * HOUR
    put(T0 + late, envelope(here, 70 * S))  # it waited three hours in a proxy
    assert {hour.hour_ns for hour in store.dirty_hours()} == {0, T0 + late - HOUR}
    assert judged() == {T0 + late - HOUR: 10}
    put(T0 + 2 * late, envelope(here, 66 * S + 2 * late + HOUR))  # this one was sent an hour later than that says
    assert judged() == {T0 - 2 * HOUR: 10}
    assert clock_of(store) == [("b1", T0 - 66 * S - HOUR, "estimated")]
    put(T0 + 3 * late, envelope(here, 66 * S + 2 * late))  # a worse one says nothing
    assert judged() == {T0 - 2 * HOUR: 10}
    history = store._connection.execute("select count(*) from clocks").fetchall()
    assert history == [(2,)]


def test_a_disciplined_clock_is_believed_before_any_pair_and_its_newest_word_counts(store, put, judged):
    here = device()
    put(T0 + DAY, counted(here, 5 * S, 65 * S), envelope(here, 66 * S, (T0 - 66 * S) / S, "ntp"))
    assert judged() == {AGO: 10}  # a day in a queue does not count
    assert clock_of(store) == [("b1", pytest.approx(T0 - 66 * S, abs=1000), "synced")]
    put(T0 + DAY, envelope(here, 80 * S))
    assert clock_of(store)[0][2] == "synced"
    put(T0 + DAY, envelope(here, 70 * S, (T0 - 66 * S - 2 * HOUR) / S, "ntp"))
    assert judged() == {AGO - 2 * HOUR: 10}
    put(T0 + DAY, envelope(here, 67 * S, (T0 - 66 * S) / S, "ntp"))  # an older one that comes later
    assert judged() == {AGO - 2 * HOUR: 10}


def test_a_right_clock_moves_nothing(store, put):
    synced, plain = device("ntp"), device("rtc")
    put(T0, counted(synced, T0 - MINUTE, T0), envelope(synced, T0, 0.4, "ntp"))
    put(T0 + TOLERANCE_NS, counted(plain, T0 - MINUTE, T0), envelope(plain, T0, 0.0, "rtc"))
    assert clock_of(store, "ntp") == [("b1", 0, "synced")]
    assert clock_of(store, "rtc") == [("b1", 0, "estimated")]
    assert store._connection.execute("select count(*) from shifted").fetchall() == [(0,)]
    history = "select count(*) from clocks"
    for minute in range(5):
        put(T0 + minute * MINUTE, envelope(synced, T0 + minute * MINUTE, minute / 2, "ntp"))
    assert store._connection.execute(history).fetchall() == [(2,)]


@pytest.mark.parametrize(
    ("value", "source"),
    [(float("nan"), "ntp"), (float("inf"), "ntp"), (1e300, "ntp"), (-1e300, "ntp"), (3600.0, "ntp"), (2.0, "NTP"),
     (9e18, "gps")],
)  # fmt: skip
def test_a_clock_that_cannot_be_right_is_judged_by_its_arrival(store, put, value, source):
    here = device()
    put(T0 + MINUTE, counted(here, T0 - MINUTE, T0), envelope(here, T0, value, source))
    assert clock_of(store) == [("b1", MINUTE, "estimated")]


@pytest.mark.parametrize("time", [1, 4 * 10**18, 2**63 - 1])
def test_wild_times_neither_stop_the_store_nor_move_another_device(store, put, judged, time):
    wild, here = device("wild"), device()
    put(T0, counted(here, T0 - MINUTE, T0), envelope(here, T0, 0.0, "ntp"))
    put(T0, counted(wild, time - 1, time), envelope(wild, time), counted(wild, 1, 2, sequence=1), envelope(wild, 2))
    put(T0, counted(wild, 2**63 - 2, 2**63 - 1, sequence=3))
    hours = judged()
    assert hours[AGO] >= 10
    for name, params in (("watermark", {}), ("devices", {}), ("device_activity", {"at_ns": T0, "lookback_ns": DAY})):
        assert store.query(name, params).num_rows
    assert store.expire(T0 + 10 * DAY) >= 0


def test_a_correction_heals_every_stream_of_its_boot_and_no_other(store, put, judged):
    first, second, other = device(instance="i1"), device(instance="i2"), device(boot="b2", instance="i3")
    put(T0, counted(first, 5 * S, 65 * S), counted(second, 100 * S, 160 * S), envelope(second, 161 * S))
    put(T0, counted(other, T0 - MINUTE, T0, runs=7), envelope(other, T0, 0.0, "ntp"))
    stranger = device("other")
    put(T0, counted(stranger, T0 - MINUTE, T0, runs=1))
    assert judged() == {AGO: 28}


def test_hours_of_frozen_days_keep_theirs(store, put, judged, clock):
    here = device()
    put(T0, counted(here, T0 - 2 * HOUR, T0 - 2 * HOUR + MINUTE))
    judged()
    clock.now_ns = T0 + 10 * DAY
    store.expire(clock.now_ns)
    put(clock.now_ns, counted(here, T0 - HOUR, T0 - HOUR + MINUTE, runs=3, sequence=1), envelope(here, T0))
    moved = clock.now_ns - T0
    assert judged() == {T0 - 2 * HOUR: 10, T0 - HOUR + moved: 3}


def start_event(resource, time, sequence):
    request = session_end(resource["device.id"], time)
    request.resource_logs[0].resource.Clear()
    request.resource_logs[0].resource.attributes.extend(attributes(resource))
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    record.event_name = "session.start"
    del record.attributes[:]
    record.attributes.extend(attributes({"edge.boot.sequence": sequence, "log.record.uid": f"{time}:{sequence}"}))
    return request


def test_a_boot_that_never_met_the_network_ends_where_the_next_begins(store, put, judged):
    offline, online = device(boot="b0", instance="i0"), device(boot="b1", instance="i1")
    put(T0, counted(offline, 5 * S, 65 * S, runs=3), counted(online, 5 * S, 65 * S), envelope(online, 66 * S))
    put(T0, start_event(offline, 5 * S, 0), start_event(online, 5 * S, 1))
    assert clock_of(store) == [("b0", T0 - 61 * S - 65 * S, "bounded"), ("b1", T0 - 66 * S, "estimated")]
    assert judged() == {AGO: 13}
    (row,) = store.query("devices").to_pylist()
    assert row["first_seen_ns"] == T0 - 121 * S


def test_an_offline_boot_is_placed_between_its_neighbours_only_where_its_own_times_cannot_be():
    def boot(name, first, last, offset=None, measured=False):
        return Boot("cam", name, first, last, offset, measured)

    def offsets(*newest_first):
        return {item.boot: offset for item, offset in placed(newest_first)}

    after = boot("b2", T0, T0 + HOUR, 0, True)
    before = boot("b0", T0 - DAY, T0 - 20 * HOUR, 0, True)
    assert offsets(after, boot("b1", T0 - 10 * HOUR, T0 - 9 * HOUR), before) == {"b1": 0}
    assert offsets(after, boot("b1", T0 - 22 * HOUR, T0 - 9 * HOUR), before) == {"b1": 9 * HOUR}
    assert offsets(after, boot("b1", T0 - HOUR, T0 + HOUR), before) == {"b1": -HOUR}
    assert offsets(after, boot("b1", 5, 65)) == {"b1": T0 - 65}
    assert offsets(after, boot("b1", 5, 65), boot("b0", 5, 25)) == {"b1": T0 - 65, "b0": T0 - 60 - 25}
    assert offsets(boot("b3", 5, 65), after) == {}
    assert offsets(after, boot("b1", PLAUSIBLE_NS, PLAUSIBLE_NS + HOUR)) == {"b1": 0}


def test_the_device_answer_tells_the_correction_and_points_stay_raw(store, client, put):
    here = device()
    put(T0, counted(here, 5 * S, 65 * S), envelope(here, 66 * S))
    answer = client.get("/api/v1/devices/cam").json()
    assert answer["clock"] == {"offset_ns": T0 - 66 * S, "quality": "estimated"}
    assert answer["clocks"] == [
        {"boot_id": "b1", "offset_ns": T0 - 66 * S, "measured_ns": T0 - 66 * S, "quality": "estimated",
         "sent_ns": 66 * S, "received_ns": T0, "written_ns": answer["clocks"][0]["written_ns"]}
    ]  # fmt: skip
    points = client.get("/api/v1/metrics/edge.inference.duration/points").json()["items"]
    assert [(point["start_ns"], point["time_ns"]) for point in points] == [(5 * S, 65 * S)]
    put(T0, device_window("plain", T0 - MINUTE, T0))
    assert client.get("/api/v1/devices/plain").json()["clock"] == {"offset_ns": 0, "quality": "none"}
    assert client.get("/api/v1/devices/plain").json()["clocks"] == []
