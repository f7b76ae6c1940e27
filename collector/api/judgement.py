"""What the jobs judged and the alerts said: verdict rows, alerts, baselines, job runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from collector.api import shapes
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
    list_response,
    respond,
    wants_arrow,
)
from collector.api.schemas import AlertPage, VerdictPage, listing
from collector.storage.base import Store
from collector.storage.rows import VERDICTS
from device_sdk.contract.attributes import TIER

Text = Annotated[str, Query()]
At = Annotated[int, Query(ge=INT64_MIN, le=INT64_MAX, description="The newest rows at or before this instant.")]
Step = Annotated[int, Query(ge=1, le=INT64_MAX, description="Of a history, only instants that this divides.")]

VERDICT_LISTS: Final[dict[str, tuple[str, ...]]] = {
    "kpis": ("kpi", "latency", "crash_free", "silence"),
    "drift": ("drift",),
    "crash-free": ("crash_free",),
    "slo": ("slo",),
}
"""Verdict kinds by endpoint."""

EMPTY_LISTS: Final = ("rollouts", "compatibility")
"""Endpoints whose jobs do not exist yet: they answer an empty list."""


def router(store: Store, clock_ns: Callable[[], int]) -> APIRouter:
    """Return the routes over judgements."""
    routes = APIRouter(prefix="/api/v1", tags=["judgement"])
    for path, kinds in VERDICT_LISTS.items():
        _add_verdicts(routes, store, path, kinds)
    for path in EMPTY_LISTS:
        _add_empty(routes, path, clock_ns)
    _add_alerts(routes, store, clock_ns)
    _add_plain(routes, store, clock_ns)
    return routes


def _add_verdicts(routes: APIRouter, store: Store, path: str, kinds: Sequence[str]) -> None:
    def verdicts(
        request: Request,
        at: At = INT64_MAX,
        from_ns: From = INT64_MIN,
        to: To = INT64_MAX,
        name: Text = "",
        model: Text = "",
        version: Text = "",
        tier: Text = "",
        kind: Text = "",
        verdict: Text = "",
        step_ns: Step = 1,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = "",
    ) -> Response:
        """Return the newest row of each thing judged; with `from` or `to`, every row from the one to the other."""
        after = decode_cursor(cursor, (int, str, str))
        wanted = [one for one in kinds if kind in ("", one)]
        history = from_ns > INT64_MIN or to < INT64_MAX
        tables = []
        for one in wanted:
            if history:
                span = {"from_ns": max(from_ns - 1, INT64_MIN), "to_ns": min(to, at), "step_ns": step_ns}
                tables.append(store.query("verdicts_between", {"kind": one, "name": name, **span}))
            else:
                tables.append(store.query("verdicts_latest", {"kind": one, "name": name, "at_ns": at}))
        filters = {"model": model, "version": version, "verdict": verdict}
        table, as_of_ns = _matching(tables, filters, tier)
        if not history:  # a verdict taken back is part of the past, not of what holds now
            table = table.filter(pc.not_equal(table.column("reason"), "withdrawn"))
        rows = table.to_pylist()
        keyed = sorted((((row["at_ns"], row["kind"], row["key"]), row) for row in rows), key=lambda pair: pair[0])
        if after:
            keyed = [pair for pair in keyed if pair[0] > tuple(after)]
        following = encode_cursor(keyed[limit - 1][0]) if len(keyed) > limit else None
        page = [row for _, row in keyed[:limit]]
        if wants_arrow(request):
            return arrow_response(pa.Table.from_pylist(page, schema=table.schema), following, as_of_ns)
        return list_response([shapes.verdict(row) for row in page], following, as_of_ns)

    responses = listing(VerdictPage)
    routes.get(f"/{path}", response_model=None, responses=responses, operation_id=path.replace("-", "_"))(verdicts)


def _matching(tables: Sequence[pa.Table], filters: dict[str, str], tier: str) -> tuple[pa.Table, int]:
    """Return the rows that pass the filters, and the newest instant judged before filtering (0 when there is none)."""
    if not tables:
        return VERDICTS.empty_table(), 0
    table = pa.concat_tables(tables)
    newest = max(table.column("at_ns").to_pylist(), default=0)
    keep = [
        all(not value or row[name] == value for name, value in filters.items())
        and (not tier or shapes.parsed(row["cohort"]).get(TIER) == tier)
        for row in table.select([*filters, "cohort"]).to_pylist()
    ]
    return table.filter(pa.array(keep, pa.bool_())), newest


def _add_empty(routes: APIRouter, path: str, clock_ns: Callable[[], int]) -> None:
    def nothing(request: Request, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Response:
        """Return an empty list: nothing writes these rows yet."""
        del limit, cursor
        return respond(request, [], None, clock_ns())

    routes.get(f"/{path}", response_model=None, operation_id=path)(nothing)


def _add_alerts(routes: APIRouter, store: Store, clock_ns: Callable[[], int]) -> None:
    @routes.get("/alerts", response_model=None, responses=listing(AlertPage))
    def alerts(
        request: Request,
        state: Text = "",
        severity: Text = "",
        rule: Text = "",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = "",
    ) -> Response:
        """Return every alert in its newest state, by onset."""
        after = decode_cursor(cursor, (int, str))
        filters = {"state": state, "severity": severity, "rule": rule}
        items = [
            shapes.alert(row)
            for row in store.query("alerts_latest").to_pylist()
            if (not after or (row["onset_ns"], row["alert_id"]) > tuple(after))
            and all(not value or row[name] == value for name, value in filters.items())
        ]
        following = None
        if len(items) > limit:
            following = encode_cursor([items[limit - 1]["onset_ns"], items[limit - 1]["id"]])
        return respond(request, items[:limit], following, clock_ns())

    @routes.get("/alerts/history", response_model=None)
    def history(
        request: Request,
        from_ns: From = INT64_MIN,
        to: To = INT64_MAX,
        alert: Text = "",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = "",
    ) -> Response:
        """Return the alert ledger by time: what happened to which alert, what was sent, what was held back."""
        after = decode_cursor(cursor, (int, str))
        rows = store.query("alerts_history", {"from_ns": from_ns, "to_ns": min(to, INT64_MAX - 1) + 1}).to_pylist()
        items = [
            shapes.ledger_entry(row)
            for row in rows
            if (not after or (row["at_ns"], row["entry_id"]) > tuple(after)) and (not alert or row["alert_id"] == alert)
        ]
        following = None
        if len(items) > limit:
            following = encode_cursor([items[limit - 1]["at_ns"], items[limit - 1]["entry_id"]])
        return respond(request, items[:limit], following, clock_ns())


def _add_plain(routes: APIRouter, store: Store, clock_ns: Callable[[], int]) -> None:
    @routes.get("/baselines", response_model=None)
    def baselines(
        request: Request, model: Text = "", version: Text = "", limit: Limit = LIMIT_DEFAULT, cursor: Cursor = ""
    ) -> Response:
        """Return the references that drift is measured against, newest first."""
        rows = store.query("baselines", {"model": model, "version": version}).to_pylist()
        return _numbered(request, [_with_detail(row) for row in rows], limit, cursor, clock_ns())

    @routes.get("/jobs", response_model=None)
    def jobs(request: Request, job: Text = "", limit: Limit = LIMIT_DEFAULT, cursor: Cursor = "") -> Response:
        """Return the newest runs of the jobs, newest first."""
        rows = store.query("job_runs", {"job": job}).to_pylist()
        return _numbered(request, [_with_detail(row) for row in rows], limit, cursor, clock_ns())


def _with_detail(row: dict[str, Any]) -> dict[str, Any]:
    try:
        return {**row, "detail": shapes.parsed(row["detail"])}
    except ValueError:
        return row


def _numbered(request: Request, items: list[dict[str, Any]], limit: int, cursor: str, as_of_ns: int) -> Response:
    """Answer a short list by position."""
    after = decode_cursor(cursor, (int,))
    start = after[0] if after else 0
    following = encode_cursor([start + limit]) if len(items) > start + limit else None
    return respond(request, items[start : start + limit], following, as_of_ns)
