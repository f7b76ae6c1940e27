"""Telemetry as it was sent: metrics, points, quantiles, logs, devices, distributions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Annotated, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.convertors import PathConvertor, register_url_convertor

from collector.api import device_settings, quantiles, shapes
from collector.api.paging import (
    INT64_MAX,
    INT64_MIN,
    LIMIT_DEFAULT,
    Cursor,
    From,
    Limit,
    To,
    arrow_response,
    decode_cursor,
    encode_cursor,
    json_response,
    list_response,
    respond,
    wants_arrow,
)
from collector.api.problems import ApiProblemError
from collector.api.schemas import DevicePage, LogPage, MetricPage, PointPage, QuantilePage, listing
from collector.storage.base import Parameter, Store
from collector.storage.fold import group_ids, ints
from device_sdk.contract.attributes import FEATURE_GRID, FEATURE_NAME

Device = Annotated[str, Query(description="Only this `device_id`.")]
Text = Annotated[str, Query()]

LEDGER_KEPT_NS: Final = 44 * 86_400_000_000_000
"""Streams that began before this are counted from the oldest window the ledger still has."""


def router(store: Store, clock_ns: Callable[[], int]) -> APIRouter:
    """Return the routes over stored telemetry."""
    routes = APIRouter(prefix="/api/v1", tags=["telemetry"])
    for add in (_add_metrics, _add_points, _add_quantiles, _add_logs, _add_devices, _add_distributions):
        add(routes, store, clock_ns)
    return routes


def _add_metrics(routes: APIRouter, store: Store, clock_ns: Callable[[], int]) -> None:
    @routes.get("/metrics", response_model=None, responses=listing(MetricPage))
    def metrics(request: Request, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Response:
        """List metrics by name: kind, unit, temporality and how many points are kept."""
        after = decode_cursor(cursor, (str, str))
        rows = store.query("metrics", {"after_metric": after[0] if after else ""}).to_pylist()
        keyed = [([row["name"], json.dumps([row[name] for name in _METRIC_KEY])], row) for row in rows]
        if after:
            position = next((at for at, (key, _) in enumerate(keyed) if key == after), -1)
            keyed = keyed[position + 1 :]
        page = [row for _, row in keyed[:limit]]
        following = encode_cursor(keyed[limit - 1][0]) if len(keyed) > limit else None
        return respond(request, page, following, clock_ns())


class _AnyText(PathConvertor):
    """A path parameter of any characters: Starlette's own ends at a line feed."""

    regex = "(?s:.*)"


register_url_convertor("any", _AnyText())


def _add_points(routes: APIRouter, store: Store, clock_ns: Callable[[], int]) -> None:
    @routes.get("/metrics/{name:any}/points", response_model=None, responses=listing(PointPage))
    def points(
        request: Request,
        name: str,
        device: Device = "",
        from_ns: From = INT64_MIN,
        to: To = INT64_MAX,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = "",
    ) -> Response:
        """Return datapoints exactly as stored, by time, then series; `from` <= time < `to`."""
        after = decode_cursor(cursor, (int, str, str, int))
        params: dict[str, Parameter] = {"metric": name, "device": device, "from_ns": from_ns, "to_ns": to}
        if after:
            params |= dict(zip(("after_ns", "after_series", "after_stream", "after_start_ns"), after, strict=True))
        table = store.query("points", {**params, "limit": limit + 1})
        following = None
        if table.num_rows > limit:
            table = table.slice(0, limit)
            last = table.slice(limit - 1).to_pylist()[0]
            following = encode_cursor([last["time_ns"], last["series"], last["stream"], last["start_ns"]])
        if wants_arrow(request):
            return arrow_response(table, following, clock_ns())
        return list_response([shapes.point(row) for row in table.to_pylist()], following, clock_ns())


def _add_quantiles(routes: APIRouter, store: Store, clock_ns: Callable[[], int]) -> None:
    @routes.get("/metrics/{name:any}/quantiles", response_model=None, responses=listing(QuantilePage))
    def quantile_list(
        request: Request,
        name: str,
        q: Annotated[str, Query(description="Comma-separated ranks, 0..1.")] = "0.5,0.95,0.99",
        by: Annotated[str, Query(description="Comma-separated attribute names, of point or resource.")] = "",
        device: Device = "",
        from_ns: From = INT64_MIN,
        to: To = INT64_MAX,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = "",
    ) -> Response:
        """Return quantiles of a histogram metric, merged from raw points; one item a combination of `by`."""
        ranks = _ranks(q)
        names = [part.strip() for part in by.split(",") if part.strip()]
        after = decode_cursor(cursor, (int,))
        items = _quantile_items(store, name, ranks, names, (device, from_ns, to))
        start = after[0] if after else 0
        following = encode_cursor([start + limit]) if len(items) > start + limit else None
        return respond(request, items[start : start + limit], following, clock_ns())


def _add_logs(routes: APIRouter, store: Store, clock_ns: Callable[[], int]) -> None:
    def log_page(
        request: Request,
        device: Device = "",
        event_name: Text = "",
        from_ns: From = INT64_MIN,
        to: To = INT64_MAX,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = "",
    ) -> Response:
        """Return log records (events) by time; `from` <= time < `to`."""
        after = decode_cursor(cursor, (int, str))
        params: dict[str, Parameter] = {"device": device, "event_name": event_name, "from_ns": from_ns, "to_ns": to}
        if after:
            params |= {"after_ns": after[0], "after_uid": after[1]}
        table = store.query("logs", {**params, "limit": limit + 1})
        following = None
        if table.num_rows > limit:
            table = table.slice(0, limit)
            last = table.slice(limit - 1).to_pylist()[0]
            following = encode_cursor([last["time_ns"], last["uid"]])
        if wants_arrow(request):
            return arrow_response(table, following, clock_ns())
        return list_response([shapes.log(row) for row in table.to_pylist()], following, clock_ns())

    routes.get("/logs", response_model=None, responses=listing(LogPage), operation_id="logs")(log_page)
    routes.get("/events", response_model=None, responses=listing(LogPage), operation_id="events")(log_page)


def _add_devices(routes: APIRouter, store: Store, clock_ns: Callable[[], int]) -> None:
    @routes.get("/devices", response_model=None, responses=listing(DevicePage))
    def devices(request: Request, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Response:
        """List devices by id, with the resource each sent last and the completeness of its telemetry."""
        after = decode_cursor(cursor, (str,))
        horizon = clock_ns() - LEDGER_KEPT_NS
        params: dict[str, Parameter] = {"limit": limit + 1, "horizon_ns": horizon}
        rows = store.query("devices", params | ({"after_device": after[0]} if after else {})).to_pylist()
        following = encode_cursor([rows[limit - 1]["device_id"]]) if len(rows) > limit else None
        return respond(request, [shapes.device(row) for row in rows[:limit]], following, clock_ns())

    @routes.get("/devices/{device_id:any}", response_model=None)
    def device_page(device_id: str) -> Response:
        """Return one device, with the clock correction of each of its boots (newest first) and its settings."""
        horizon = clock_ns() - LEDGER_KEPT_NS
        rows = store.query("devices", {"device": device_id, "horizon_ns": horizon, "limit": 1}).to_pylist()
        if not device_id or not rows:
            raise ApiProblemError(404, f"no device {device_id!r} has reported; /api/v1/devices lists those that have")
        clocks = store.query("clocks", {"device": device_id}).to_pylist()
        answer = shapes.device(rows[0])
        settings = device_settings.of_device(store, device_id, answer["cohort"])
        return json_response({**answer, "clocks": clocks, "settings": settings, "as_of_ns": clock_ns()})


def _add_distributions(routes: APIRouter, store: Store, clock_ns: Callable[[], int]) -> None:
    @routes.get("/distributions/{name:any}", response_model=None)
    def distributions(
        request: Request,
        name: str,
        from_ns: From = INT64_MIN,
        to: To = INT64_MAX,
        model: Text = "",
        version: Text = "",
        feature: Text = "",
        tier: Text = "",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = "",
    ) -> Response:
        """Return hourly bucket counts of a histogram metric by cohort, for pictures."""
        after = decode_cursor(cursor, (int,))
        params: dict[str, Parameter] = {"metric": name, "from_ns": from_ns, "to_ns": to}
        table = store.query("distribution_hours", {**params, "model": model, "version": version})
        if tier:
            table = table.filter(pc.equal(table.column("tier"), tier))
        items = [shapes.distribution(row) for row in table.to_pylist()]
        if feature:
            items = [item for item in items if item["attributes"].get(FEATURE_NAME) == feature]
        start = after[0] if after else 0
        following = encode_cursor([start + limit]) if len(items) > start + limit else None
        return respond(request, items[start : start + limit], following, clock_ns())


_METRIC_KEY: Final = ("kind", "unit", "temporality", "monotonic")


def _ranks(text: str) -> list[float]:
    ranks: list[float] = []
    for part in text.split(","):
        try:
            rank = float(part)
        except ValueError:
            rank = math.nan
        if not 0 <= rank <= 1:
            raise ApiProblemError(422, f"q: {part[:40]!r} is not a rank between 0 and 1; pass for example q=0.5,0.95")
        ranks.append(rank)
    return ranks


def _quantile_items(
    store: Store, metric: str, ranks: list[float], names: list[str], where: tuple[str, int, int]
) -> list[dict[str, Any]]:
    device, from_ns, to_ns = where
    series = {row["sid"]: row for row in store.query("raw_series", {"metric": metric}).to_pylist()}
    raw = store.query("raw_distribution", {"metric": metric, "device": device, "from_ns": from_ns, "to_ns": to_ns})
    if any(row["temporality"] == "cumulative" for row in series.values()):
        if from_ns > INT64_MIN:
            before = store.query("raw_distribution_before", {"metric": metric, "device": device, "from_ns": from_ns})
            raw = pa.concat_tables([before, raw])
        raw = quantiles.increments(raw, from_ns)
    if not raw.num_rows:
        return []
    resources = {row["rid"]: shapes.parsed(row["attributes"]) for row in store.query("raw_resources").to_pylist()}
    pair, first = group_ids(ints(raw.column("sid")), ints(raw.column("rid")))
    sids, rids = ints(raw.column("sid"))[first], ints(raw.column("rid"))[first]
    keys: dict[str, int] = {}
    about: list[dict[str, Any]] = []
    group_of = np.zeros(len(first), np.int64)
    for number, (sid, rid) in enumerate(zip(sids.tolist(), rids.tolist(), strict=True)):
        row = series[sid]
        attributes = shapes.parsed(row["attributes"])
        by = {name: attributes.get(name, resources[rid].get(name)) for name in names}
        grid = attributes.get(FEATURE_GRID)
        key = json.dumps([by, row["kind"], row["unit"], row["bounds"], grid], sort_keys=True)
        if key not in keys:
            keys[key] = len(about)
            about.append({"row": row, "by": by, "grid": grid})
        group_of[number] = keys[key]
    merged = quantiles.merge(raw, group_of[pair], len(about), [item["row"]["bounds"] for item in about])
    items = [_quantile_item(metric, item, histogram, ranks) for item, histogram in zip(about, merged, strict=True)]
    items.sort(key=lambda item: json.dumps([item["by"], item["kind"], item.get("grid")], sort_keys=True))
    return items


def _quantile_item(
    metric: str, about: dict[str, Any], histogram: quantiles.Histogram, ranks: list[float]
) -> dict[str, Any]:
    center, step = grid_of(about["grid"])
    values = [quantiles.quantile(histogram, rank) for rank in ranks]
    item = {
        "metric": metric,
        "kind": about["row"]["kind"],
        "unit": about["row"]["unit"],
        "by": about["by"],
        "count": histogram.count,
        "sum": shapes.number(histogram.sum),
        "quantiles": [
            {"q": rank, "value": None if value is None else shapes.number(center + step * value)}
            for rank, value in zip(ranks, values, strict=True)
        ],
    }
    return {**item, "grid": about["grid"]} if about["grid"] else item


def grid_of(text: object) -> tuple[float, float]:
    """Return (centre, unit) of a feature grid ``c=<centre>;u=<unit>``; (0, 1) for none or one that says nothing."""
    parts = dict(part.partition("=")[::2] for part in text.split(";")) if isinstance(text, str) else {}
    try:
        center, step = float(parts.get("c", 0)), float(parts.get("u", 1))
    except ValueError:
        return 0.0, 1.0
    return (center, step) if math.isfinite(center) and math.isfinite(step) and step > 0 else (0.0, 1.0)
