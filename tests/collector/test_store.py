"""The store keeps what was acknowledged exactly once, whatever copies, splits, orders and crashes the wire brings."""

import json
import random
import re
import signal
import subprocess
import sys
import textwrap

import duckdb
import pyarrow as pa
import pytest
from store_kit import (
    DAY,
    HOUR,
    T0,
    Clock,
    Request,
    S,
    decoded_logs,
    device_window,
    resource_of,
    session_end,
    write,
)

from collector.errors import DataDirectoryError, QueryTimeoutError, UnknownQueryError
from collector.storage import migrate, open_store, rows
from collector.storage.queries import QUERIES
from collector.storage.segment_file import CorruptSegmentError


def total_runs(store) -> int:
    table = store.query("points", {"metric": "edge.inference.duration", "limit": 1_000_000})
    return sum(table.column("count").to_pylist())


def stored(store) -> dict:
    return store.query("totals").to_pylist()[0]


def test_every_table_of_the_schemas_has_the_columns_of_the_sql(store, tmp_path):
    store.close()
    with duckdb.connect(str(tmp_path / "data" / "fleetpulse.duckdb")) as connection:
        for table, schema in {**rows.SEGMENT_TABLES, **rows.APPEND_TABLES}.items():
            columns = connection.execute(f"select name, \"notnull\" from pragma_table_info('{table}')").fetchall()
            assert [name for name, _ in columns] == schema.names, table
            for (name, not_null), field in zip(columns, schema, strict=True):
                assert not_null or field.nullable, f"{table}.{name} is nullable in SQL only"


def test_put_stores_points_windows_and_dictionaries(store, tmp_path):
    path = write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0 + HOUR)])
    result = store.put([path])
    assert (result.segments, result.points, result.duplicate_points, result.late_points) == (1, 7, 0, 0)
    assert stored(store) == {"points": 7, "logs": 0, "windows": 1, "devices": 1}
    assert total_runs(store) == 10
    assert [hour.hour_ns for hour in store.dirty_hours()] == [T0]


def test_the_same_segment_twice_changes_nothing_and_is_counted(store, tmp_path):
    path = write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0 + HOUR)])
    store.put([path])
    again = store.put([path])
    assert (again.points, again.duplicate_points) == (0, 7)
    assert total_runs(store) == 10
    outcomes = {row["reason"]: row["n"] for row in store.query("ingest_outcomes").to_pylist()}
    assert outcomes == {"duplicate": 7}


def test_copies_inside_one_batch_are_stored_once(store, tmp_path):
    window = device_window("a", T0, T0 + 900 * S)
    path = write(tmp_path, [window.decoded(T0 + HOUR), window.decoded(T0 + HOUR + 1)])
    result = store.put([path])
    assert (result.points, result.duplicate_points) == (7, 7)
    received = store.query("points", {"metric": "edge.session.time"}).column("received_ns").to_pylist()
    assert received == [T0 + HOUR]


def test_a_copy_with_another_value_is_a_conflict_and_the_first_stays(store, tmp_path):
    first = Request(**resource_of("a")).sum("x", T0, T0 + S, 5).decoded(T0 + HOUR)
    other = Request(**resource_of("a")).sum("x", T0, T0 + S, 6).decoded(T0 + HOUR + S)
    store.put([write(tmp_path, [first])])
    result = store.put([write(tmp_path, [other])])
    assert result.duplicate_points == 1
    assert store.query("points", {"metric": "x"}).column("value_int").to_pylist() == [5]
    assert store.query("ingest_outcomes").to_pylist() == [{"reason": "conflict", "n": 1}]


def test_the_smallest_arrival_wins_inside_a_batch_whatever_the_order(store, tmp_path):
    early = Request(**resource_of("a")).sum("x", T0, T0 + S, 5).decoded(T0 + HOUR)
    late = Request(**resource_of("a")).sum("x", T0, T0 + S, 6).decoded(T0 + HOUR + S)
    store.put([write(tmp_path, [late]), write(tmp_path, [early])])
    assert store.query("points", {"metric": "x"}).column("value_int").to_pylist() == [5]


def test_a_window_that_comes_in_two_halves_is_whole_and_numbered_by_either(store, tmp_path):
    first = Request(**resource_of("a")).sum("x", T0, T0 + S, 5).decoded(T0 + HOUR)
    second = Request(**resource_of("a")).sum("y", T0, T0 + S, 6).window(T0, T0 + S, 4).decoded(T0 + HOUR + S)
    store.put([write(tmp_path, [first])])
    result = store.put([write(tmp_path, [second])])
    assert (result.points, result.duplicate_points) == (4, 0)
    device = store.query("devices").to_pylist()[0]
    assert (device["windows_received"], device["windows_due"]) == (1, 5)


def test_a_copy_more_than_a_day_after_its_window_was_first_seen_is_dropped_as_late(store, tmp_path):
    first = Request(**resource_of("a")).sum("x", T0, T0 + S, 5)
    store.put([write(tmp_path, [first.decoded(T0 + HOUR)])])
    within = Request(**resource_of("a")).sum("y", T0, T0 + S, 6)
    assert store.put([write(tmp_path, [within.decoded(T0 + HOUR + DAY)])]).points == 1
    after = Request(**resource_of("a")).sum("z", T0, T0 + S, 7)
    result = store.put([write(tmp_path, [first.decoded(T0 + HOUR + DAY + 1), after.decoded(T0 + HOUR + DAY + 1)])])
    assert (result.points, result.late_points) == (0, 2)
    assert store.query("ingest_outcomes").to_pylist() == [{"reason": "late", "n": 2}]


def test_devices_that_share_values_and_times_are_kept_apart(store, tmp_path):
    batches = [device_window(device, T0, T0 + 900 * S).decoded(T0 + HOUR) for device in ("a", "b", "c")]
    assert store.put([write(tmp_path, batches)]).points == 21
    assert total_runs(store) == 30


def test_foreign_points_without_window_numbers_dedup_by_the_same_key(store, tmp_path):
    request = Request(**{"service.name": "other"}).gauge("temp", T0, 21.5).decoded(T0)
    store.put([write(tmp_path, [request])])
    assert store.put([write(tmp_path, [request])]).duplicate_points == 1
    device = store.query("devices").to_pylist()[0]
    assert device["device_id"].startswith("unknown:")
    assert device["windows_due"] == 0


def test_logs_are_stored_once_by_uid(store, tmp_path):
    one = decoded_logs(session_end("a", T0, uid="a-1:7"), T0 + HOUR)
    two = decoded_logs(session_end("a", T0, uid="a-1:7"), T0 + 2 * HOUR)
    unnamed = decoded_logs(session_end("a", T0 + S), T0 + HOUR)
    result = store.put([write(tmp_path, [one, two, unnamed])])
    assert (result.logs, result.duplicate_logs) == (2, 1)
    result = store.put([write(tmp_path, [two, unnamed])])
    assert (result.logs, result.duplicate_logs) == (0, 2)
    assert store.query("ingest_outcomes").to_pylist() == [{"reason": "duplicate_log", "n": 3}]
    assert [hour.hour_ns for hour in store.dirty_hours()] == [T0 - HOUR, T0]


def test_a_torn_segment_stores_nothing_of_its_batch(store, tmp_path):
    good = write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0)])
    bad = write(tmp_path, [device_window("b", T0, T0 + 900 * S).decoded(T0)])
    bad.write_bytes(bad.read_bytes()[:-9])
    with pytest.raises(CorruptSegmentError):
        store.put([good, bad])
    assert stored(store)["points"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_totals_are_exact_under_splits_copies_reordering_rebatching_and_replay(tmp_path, seed):
    rng = random.Random(seed)
    store = open_store(tmp_path / "data", clock_ns=Clock(), threads=1)
    truth: dict[tuple[str, str], int] = {}
    pieces = []
    for device in "abcd":
        for number in range(8):
            start, end = T0 + number * 900 * S, T0 + (number + 1) * 900 * S
            halves = [Request(**resource_of(device)), Request(**resource_of(device))]
            for series in range(5):
                value = rng.randrange(1, 50)
                metric = f"m{series}"
                truth[device, metric] = truth.get((device, metric), 0) + value
                half = halves[rng.random() < 0.4]
                if series % 2:
                    half.exponential(metric, start, end, [value, 0], offset=series)
                else:
                    half.sum(metric, start, end, value)
            halves[rng.random() < 0.5].window(start, end, number)
            received = T0 + DAY // 2 + rng.randrange(HOUR)
            for half in halves:
                copies = 1 + (rng.random() < 0.4) + (rng.random() < 0.2)
                pieces += [half.decoded(received + copy * rng.randrange(1, HOUR)) for copy in range(copies)]
    rng.shuffle(pieces)
    segments = []
    while pieces:
        size = rng.randrange(1, 9)
        segments.append(write(tmp_path, pieces[:size]))
        pieces = pieces[size:]
    replays = segments + rng.sample(segments, len(segments) // 2)
    while replays:
        size = rng.randrange(1, 5)
        store.put(replays[:size])
        replays = replays[size:]
    found: dict[tuple[str, str], int] = {}
    for series in range(5):
        metric = f"m{series}"
        for row in store.query("points", {"metric": metric, "limit": 10_000}).to_pylist():
            value = row["value_int"] if row["value_int"] is not None else row["count"]
            found[row["device_id"], metric] = found.get((row["device_id"], metric), 0) + value
    completeness = {
        row["device_id"]: row["windows_received"] / row["windows_due"] for row in store.query("devices").to_pylist()
    }
    store.close()
    assert found == truth
    assert completeness == dict.fromkeys("abcd", 1.0)


KILLED = """
import os, signal, sys
from pathlib import Path
from collector.storage import open_store, put
from collector.storage.writer import Drain
data, moment = Path(sys.argv[1]), sys.argv[2]
store = open_store(data, threads=1)
if moment == "inside":  # in the transaction, all points written, nothing committed
    original = put.put_tables
    def dying(*args, **named):
        original(*args, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    put.put_tables = dying
else:  # committed, the segment not yet deleted
    original = type(store).put
    def dying(self, paths):
        original(self, paths)
        os.kill(os.getpid(), signal.SIGKILL)
    type(store).put = dying
Drain(store, data / "segments").drain_once()
"""


@pytest.mark.parametrize(("moment", "duplicates"), [("inside", 0), ("committed", 35)])
def test_a_store_killed_while_draining_neither_loses_nor_doubles(tmp_path, moment, duplicates):
    data = tmp_path / "data"
    batches = [device_window(device, T0, T0 + 900 * S).decoded(T0) for device in "abcde"]
    path = write(data / "segments", batches)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(data), moment], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.exists()
    store = open_store(data, threads=1)
    result = store.put([path])
    assert result.duplicate_points == duplicates
    assert result.points + result.duplicate_points == 35
    assert total_runs(store) == 50
    store.close()


def test_a_directory_held_by_another_process_is_refused_with_its_pid(tmp_path):
    code = (
        "import sys, time; from collector.storage import open_store; s = open_store(sys.argv[1]); "
        "print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(DataDirectoryError, match=rf"held by process {holder.pid}"):
            open_store(tmp_path)
        (tmp_path / "run.json").write_text(json.dumps({"pid": 4242}))
        with pytest.raises(DataDirectoryError, match="held by process 4242"):
            open_store(tmp_path, read_only=True)
    finally:
        holder.communicate(timeout=20)


def test_a_newer_schema_is_refused_and_says_what_to_do(tmp_path):
    open_store(tmp_path).close()
    with duckdb.connect(str(tmp_path / "fleetpulse.duckdb")) as connection:
        connection.execute("insert into schema_migrations values (99, 'future', 'x', 0)")
    with pytest.raises(DataDirectoryError, match=r"schema version 99.*install the newer fleetpulse"):
        open_store(tmp_path)


def test_an_edited_migration_is_refused(tmp_path):
    open_store(tmp_path).close()
    with duckdb.connect(str(tmp_path / "fleetpulse.duckdb")) as connection:
        connection.execute("update schema_migrations set checksum = 'edited' where version = 1")
    with pytest.raises(DataDirectoryError, match="must never be edited"):
        open_store(tmp_path)


def test_migrations_run_forward_once_and_a_failing_one_leaves_nothing(tmp_path):
    steps = [migrate.Migration(1, "one", "create table a (x integer)")]
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        assert migrate.migrate(connection, steps, 7, "here") == 1
        steps.append(migrate.Migration(2, "two", "create table b (x integer); create table a (x integer)"))
        with pytest.raises(duckdb.Error):
            migrate.migrate(connection, steps, 8, "here")
        assert connection.execute("select count(*) from duckdb_tables() where table_name = 'b'").fetchall() == [(0,)]
        steps[1] = migrate.Migration(2, "two", "create table b (x integer)")
        assert migrate.migrate(connection, steps, 9, "here") == 2
        assert connection.execute("select version, applied_ns from schema_migrations").fetchall() == [(1, 7), (2, 9)]


def test_a_damaged_file_is_one_clear_error(tmp_path):
    (tmp_path / "fleetpulse.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(DataDirectoryError, match="cannot be opened"):
        open_store(tmp_path)


def test_data_survive_closing_and_opening(tmp_path):
    with_data = open_store(tmp_path / "data", threads=1)
    with_data.put([write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0)])])
    with_data.close()
    with_data.close()
    again = open_store(tmp_path / "data", read_only=True, threads=1)
    assert total_runs(again) == 10
    assert again.health().engine == "duckdb"
    assert again.health().size_bytes > 0
    again.close()
    with pytest.raises(DataDirectoryError, match="closed"):
        again.query("totals")


def test_an_unknown_query_lists_the_known_ones(store):
    with pytest.raises(UnknownQueryError, match="device_hours"):
        store.query("drop table points")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "'metric' .str. is missing"),
        ({"metric": 3}, "must be of type str"),
        ({"metric": "x", "limit": True}, "must be of type int"),
        ({"metric": "x", "where": "1=1"}, "unknown parameters"),
    ],
)
def test_wrong_parameters_say_which(store, params, message):
    with pytest.raises(ValueError, match=message):
        store.query("points", params)


def test_quotes_in_parameters_stay_values(store, tmp_path):
    name = 'it\'s "quoted"; drop table points; --'
    store.put([write(tmp_path, [Request(**resource_of(name)).sum(name, T0, T0 + S, 1).decoded(T0)])])
    assert store.query("points", {"metric": name, "device": name}).num_rows == 1


def test_every_named_query_runs_on_an_empty_store(store):
    values = {"int": 0, "float": 0.5, "str": "x", "bool": True}
    for name, query in QUERIES.items():
        params = {key: values[param.kind] for key, param in query.params.items()}
        table = store.query(name, params)
        assert not any(pa.types.is_binary(kind) for kind in table.schema.types), name
        used = set(re.findall(r"\$(\w+)", query.sql))
        assert used == set(query.params), name


def test_a_runaway_query_is_interrupted(tmp_path, monkeypatch):
    from collector.storage import queries
    from collector.storage.named import NamedQuery

    endless = NamedQuery("select sum(a.range * b.range % 7) from range(1000000) a, range(1000000) b")
    monkeypatch.setattr(queries, "QUERIES", {"endless": endless})
    store = open_store(tmp_path, query_timeout_s=0.2)
    with pytest.raises(QueryTimeoutError, match="shorter time range"):
        store.query("endless")
    store.close()


def test_append_refuses_unknown_tables_wrong_columns_and_nulls(store):
    with pytest.raises(ValueError, match="takes no rows"):
        store.append("points", pa.table({}))
    with pytest.raises(ValueError, match="need"):
        store.append("job_runs", pa.table({"job": ["x"]}))
    row = {name: [None] for name in rows.JOB_RUNS.names}
    with pytest.raises(ValueError, match="holds nulls"):
        store.append("job_runs", pa.table(row, schema=pa.schema([pa.field(f.name, f.type) for f in rows.JOB_RUNS])))


def test_what_was_acknowledged_days_ago_but_drained_now_arrives_today(tmp_path):
    clock = Clock(T0)
    store = open_store(tmp_path / "data", clock_ns=clock, threads=1)
    store.put([write(tmp_path, [device_window("a", T0, T0 + 900 * S).decoded(T0)])])
    store.recompute(store.dirty_hours(), [], 1)
    clock.now_ns = T0 + 10 * DAY
    store.expire(clock.now_ns)
    left_behind = write(tmp_path, [device_window("b", T0, T0 + 900 * S).decoded(T0 + HOUR)])
    assert store.put([left_behind]).points == 7
    assert store.put([left_behind]).duplicate_points == 7
    received = store.query("points", {"metric": "edge.session.time"}).column("received_ns").to_pylist()
    assert received == [clock.now_ns]
    store.recompute(store.dirty_hours(), [], 2)
    hours = store.query("session_hours", {"from_ns": 0, "to_ns": T0 + DAY}).to_pylist()
    assert {row["device_id"]: row["observed_s"] for row in hours} == {"a": 900.0, "b": 900.0}
    store.close()
