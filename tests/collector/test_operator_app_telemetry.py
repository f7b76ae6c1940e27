"""Points, logs and devices in the fixed shapes of the query API, over real HTTP and a real database."""

import math
import threading
from urllib.parse import quote

import pyarrow as pa
import pytest
from store_kit import DAY, T0, Request, S, decoded_logs, device_window, get, pages, put, resource_of, session_end, write

ARROW = "application/vnd.apache.arrow.stream"


def test_a_number_point_is_exactly_what_was_sent(client, store, tmp_path):
    request = Request(**resource_of("cam-1", **{"edge.device.tier": "v2"}))
    request.sum("big", T0, T0 + S, 2**53 + 1, unit="{x}", monotonic=False, i=2**53 + 3, f=1.0, b=True, l=[1, "a"])
    put(store, tmp_path, request, received=T0 + 5)
    (point,) = get(client, "metrics/big/points")["items"]
    assert point == {
        "metric": "big", "kind": "sum", "unit": "{x}", "temporality": "delta", "monotonic": False, "device_id": "cam-1",
        "resource": {"device.id": "cam-1", "service.instance.id": "cam-1-1", "edge.device.tier": "v2"},
        "scope": {"name": "device_sdk", "version": "1"},
        "attributes": {"i": 2**53 + 3, "f": 1.0, "b": True, "l": [1, "a"]},
        "start_ns": T0, "time_ns": T0 + S, "received_ns": T0 + 5, "value": 2**53 + 1,
    }  # fmt: skip
    assert isinstance(point["attributes"]["f"], float)


def test_numbers_that_json_cannot_carry_are_otlp_strings(client, store, tmp_path):
    request = Request(**resource_of("a"))
    for at, value in enumerate((math.nan, math.inf, -math.inf, 1.5, -(2**63))):
        request.gauge("g", T0 + at, value)
    request.gauge("g", T0 + 9, 0, flags=1)
    put(store, tmp_path, request)
    items = get(client, "metrics/g/points")["items"]
    assert [item["value"] for item in items] == ["NaN", "Infinity", "-Infinity", 1.5, -(2**63), None]
    assert items[-1]["no_recorded_value"] is True
    assert items[0]["temporality"] is None


def test_histogram_and_summary_points_have_their_fixed_shapes(client, store, tmp_path):
    request = Request(**resource_of("a"))
    request.exponential("e", T0, T0 + S, [1, 0, 2], scale=3, offset=-7, zero=4, negative=(5,), total=9.5)
    request.explicit("h", T0, T0 + S, [0.5, 1.0], [1, 2, 3])
    request.summary("s", T0 + S, 10, 55.5, {0.5: 5.0, 0.99: 9.0})
    put(store, tmp_path, request)
    (point,) = get(client, "metrics/e/points")["items"]
    plain = ("kind", "count", "sum", "min", "max", "scale", "zero_count", "zero_threshold")
    assert {key: point[key] for key in plain} == {
        "kind": "exponential_histogram", "count": 12, "sum": 9.5, "min": None, "max": None, "scale": 3, "zero_count": 4,
        "zero_threshold": 0.0,
    }  # fmt: skip
    assert (point["positive"], point["negative"]) == ({"offset": -7, "counts": [1, 0, 2]}, {"offset": 0, "counts": [5]})
    (point,) = get(client, "metrics/h/points")["items"]
    assert (point["kind"], point["count"], point["sum"]) == ("histogram", 6, None)
    assert (point["bounds"], point["counts"]) == ([0.5, 1.0], [1, 2, 3])
    assert "value" not in point
    (point,) = get(client, "metrics/s/points")["items"]
    assert (point["kind"], point["count"], point["sum"]) == ("summary", 10, 55.5)
    assert point["quantiles"] == [{"q": 0.5, "value": 5.0}, {"q": 0.99, "value": 9.0}]


@pytest.mark.parametrize("name", ["a/b", "a/points", "100%", "ä b?c#d", "a%2Fb", "a\nb", "a\n"])
def test_a_metric_s_name_may_hold_any_character(client, store, tmp_path, name):
    put(store, tmp_path, Request(**resource_of("a")).sum(name, T0, T0 + S, 3))
    answer = client.get(f"/api/v1/metrics/{quote(name, safe='')}/points")
    assert [item["metric"] for item in answer.json()["items"]] == [name]
    assert [item["name"] for item in get(client, "metrics")["items"]] == [name]


def test_pages_hold_every_point_once_by_time_then_series(client, store, tmp_path):
    requests = [
        Request(**resource_of(device)).sum("m", T0 - S, T0 + second * S, second, k=key)
        for device in "abc" for second in (1, 2, 3) for key in ("x", "y")
    ]  # fmt: skip
    put(store, tmp_path, *requests)
    whole = get(client, "metrics/m/points")["items"]
    assert len(whole) == 18
    assert [item["time_ns"] for item in whole] == sorted(item["time_ns"] for item in whole)
    for limit in (1, 4, 18):
        assert pages(client, "metrics/m/points", limit=limit) == whole
    one = get(client, "metrics/m/points", device="b", from_=T0 + 2 * S, to=T0 + 3 * S)["items"]
    assert {(item["device_id"], item["value"]) for item in one} == {("b", 2)}
    assert len(one) == 2


def test_metrics_are_listed_with_their_counts_and_paged(client, store, tmp_path):
    request = Request(**resource_of("a")).sum("b", T0, T0 + S, 1).sum("b", T0, T0 + S, 1, k="x")
    put(store, tmp_path, request.gauge("b", T0, 1).gauge("a", T0, 1))
    whole = get(client, "metrics")["items"]
    assert [(item["name"], item["kind"], item["temporality"], item["points"]) for item in whole] == [
        ("a", "gauge", None, 1), ("b", "gauge", None, 1), ("b", "sum", "delta", 2),
    ]  # fmt: skip
    assert pages(client, "metrics", limit=1) == whole


def test_arrow_carries_the_same_points_with_typed_values(client, store, tmp_path):
    put(store, tmp_path, Request(**resource_of("a")).sum("m", T0, T0 + S, 7).gauge("m2", T0, 0.5))
    answer = client.get("/api/v1/metrics/m/points?limit=1", headers={"accept": ARROW})
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.schema.field("value_int").type == pa.int64()
    assert table.schema.field("value_double").type == pa.float64()
    assert table.column("value_int").to_pylist() == [7]
    assert table.schema.metadata[b"next"] == b""
    assert int(table.schema.metadata[b"as_of_ns"]) == T0 + DAY


def test_what_the_devices_counted_is_what_the_api_answers_to_the_unit(client, store, tmp_path):
    truth = {}
    for device in ("a", "b"):
        for number in range(5):
            runs = 10 + 7 * number + (device == "b")
            truth[device] = truth.get(device, 0) + runs
            put(
                store,
                tmp_path,
                device_window(device, T0 + number * 900 * S, T0 + (number + 1) * 900 * S, number, runs=runs),
            )
    for device, runs in truth.items():
        items = pages(client, "metrics/edge.inference.duration/points", device=device, limit=2)
        assert sum(item["count"] for item in items) == runs
        assert sum(sum(item["positive"]["counts"]) for item in items) == runs
        (quantiles,) = get(client, "metrics/edge.inference.duration/quantiles", device=device)["items"]
        assert quantiles["count"] == runs
    by = get(client, "metrics/edge.inference.duration/quantiles", by="device.id,edge.model.name")["items"]
    assert {item["by"]["device.id"]: item["count"] for item in by} == truth
    assert {item["by"]["edge.model.name"] for item in by} == {"digits"}


def test_logs_are_listed_by_time_with_their_fixed_shape(client, store, tmp_path):
    batches = [decoded_logs(session_end("a", T0 + at * S, uid=f"a:{at}"), T0 + DAY) for at in (2, 0, 1)]
    batches.append(decoded_logs(session_end("b", T0 + S, uid="b:1", reason="watchdog", expected=False), T0 + DAY))
    store.put([write(tmp_path, batches)])
    whole = get(client, "logs")["items"]
    assert [item["time_ns"] - T0 for item in whole] == [0, S, S, 2 * S]
    assert pages(client, "logs", limit=1) == whole
    (item,) = get(client, "logs", device="b")["items"]
    assert item == {
        "time_ns": T0 + S, "observed_ns": T0 + S, "received_ns": T0 + DAY, "device_id": "b",
        "event_name": "session.end", "severity_number": 9, "severity_text": "INFO", "body": "ended",
        "trace_id": "", "span_id": "",
        "attributes": {
            "edge.session.end.reason": "watchdog", "edge.session.end.expected": False, "log.record.uid": "b:1",
        },
        "resource": {"device.id": "b", "service.instance.id": "b-1"},
    }  # fmt: skip
    assert len(get(client, "events", event_name="session.end", from_=T0 + S, to=T0 + 2 * S)["items"]) == 2


def test_devices_tell_how_much_of_what_they_sent_arrived(client, store, tmp_path):
    for device, sequences in (("a", (0, 1, 2)), ("b", (0, 3))):
        for number in sequences:
            window = Request(**resource_of(device)).window(T0 + number * S, T0 + (number + 1) * S, number)
            put(store, tmp_path, window)
    put(store, tmp_path, Request(**{"service.instance.id": "x/y"}).gauge("g", T0, 1))
    items = get(client, "devices")["items"]
    assert [(item["device_id"], item["completeness"]) for item in items] == [("a", 1.0), ("b", 0.5), ("x/y", None)]
    assert items[1]["windows"] == {"received": 2, "due": 4}
    assert (items[0]["first_seen_ns"], items[0]["last_seen_ns"]) == (T0 + S, T0 + 3 * S)
    assert items[0]["resource"]["service.instance.id"] == "a-1"
    assert pages(client, "devices", limit=1) == items
    assert get(client, "devices/" + quote("x/y", safe=""))["device_id"] == "x/y"


def test_a_merged_window_stands_for_all_it_holds(client, store, tmp_path):
    put(store, tmp_path, Request(**resource_of("a")).window(T0, T0 + 4 * S, 3, count=4))
    assert get(client, "devices/a")["completeness"] == 1.0


def test_distributions_are_hourly_buckets_by_class(client, store, tmp_path):
    put(store, tmp_path, device_window("a", T0, T0 + 900 * S), device_window("b", T0, T0 + 900 * S, tier="v3"))
    store.recompute(store.dirty_hours(), [], 1)
    items = get(client, "distributions/edge.inference.duration", tier="v3", model="digits")["items"]
    assert sum(item["n"] for item in items) == 10
    assert {(item["hour_ns"], item["tier"], item["side"], item["scale"]) for item in items} == {
        (T0, "v3", "positive", 3)
    }


def test_many_readers_beside_a_writer_all_get_whole_answers(client, store, tmp_path):
    problems: list[str] = []

    def read():
        for _ in range(5):
            items = client.get("/api/v1/metrics/edge.session.time/points").json()["items"]
            if len(items) % 4:
                problems.append(f"{len(items)} of a batch of 4")

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(6):
        start = T0 + number * 900 * S
        put(store, tmp_path, *[device_window(device, start, start + 900 * S, number) for device in "abcd"])
    for reader in readers:
        reader.join()
    assert problems == []
