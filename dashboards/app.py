"""The entry script: navigation, filters, the state of the query API; each run draws one page."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, tzinfo
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboards import cards, findings, formats, markup, stylesheet
from dashboards.data import Reader, api_token, api_url
from dashboards.formats import HOUR_NS
from dashboards.rows import Verdict
from dashboards.scope import RANGE_DEFAULT, RANGES, Scope
from dashboards.views import alerts, devices, drift, fleet, latency, runbook, slo, stability
from dashboards.views.parts import reporting_count

PAGES = (
    ("Fleet", "", fleet.draw),
    ("Latency", "latency", latency.draw),
    ("Drift", "drift", drift.draw),
    ("Stability", "stability", stability.draw),
    ("SLOs", "slo", slo.draw),
    ("Devices", "devices", devices.draw),
    ("Alerts", "alerts", alerts.draw),
)
NEVER_ANSWERED = (
    "The collector has not answered since this dashboard started. The page fills itself as soon as it does."
)
REFRESH_S = 10
WAIT_S = 3
AMBER_NS = 2 * HOUR_NS
RED_NS = 10 * HOUR_NS


@st.cache_resource
def _reader(url: str, token: str) -> Reader:
    return Reader(url, token)


def _zone() -> tzinfo:
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def _options(latest: tuple[Verdict, ...]) -> tuple[list[str], list[str]]:
    return sorted({row.model for row in latest if row.model}), sorted({row.tier for row in latest if row.tier})


def _filters(latest: tuple[Verdict, ...]) -> tuple[str, str, str]:
    """Draw the filter row; the address bar is its state. Returns range, model and tier ('' for all)."""
    models, tiers = _options(latest)
    span = st.segmented_control(
        "Range",
        list(RANGES),
        default=RANGE_DEFAULT,
        required=True,
        key="range",
        bind="query-params",
        label_visibility="collapsed",
        width="content",
    )
    model = st.selectbox(
        "Model",
        models,
        index=None,
        placeholder="All models",
        key="model",
        bind="query-params",
        label_visibility="collapsed",
        width=180,
    )
    tier = st.selectbox(
        "Tier",
        tiers,
        index=None,
        placeholder="All tiers",
        key="tier",
        bind="query-params",
        label_visibility="collapsed",
        width=160,
    )
    return span or RANGE_DEFAULT, model or "", tier or ""


def _status(scope: Scope) -> None:
    """Draw `as of, complete, devices`: how far behind and how whole everything below is."""
    behind = scope.now_ns - scope.anchor_ns
    style = "bad" if behind > RED_NS else "warn" if behind > AMBER_NS else ""
    old = f" ({formats.duration(behind)} behind)" if style else ""
    complete = next(iter(findings.scoped_or_fleet(scope, scope.named("telemetry_completeness"))[0]), None)
    reporting = next(iter(findings.scoped_or_fleet(scope, scope.named("devices_reporting"))[0]), None)
    known = (
        f"<span><b>{formats.number(reporting_count(reporting))}</b> of {formats.number(reporting.n)} devices</span>"
        if reporting
        else ""
    )
    zone = formats.moment(scope.anchor_ns, scope.zone).tzname() or ""
    st.html(
        f'<div class="fp-asof" data-as-of="{scope.anchor_ns}">'
        f'<span class="fp-{style}">as of <b>{scope.clock(scope.anchor_ns)}</b> {zone}{old}</span>'
        f"<span>complete <b>{formats.percent(complete.value if complete else None)}</b></span>{known}</div>"
    )


@st.fragment(run_every=WAIT_S)
def _waiting(reader: Reader) -> None:
    if reader.verdicts("kpis") or reader.devices():
        st.rerun()


def _first_start(reader: Reader) -> None:
    host = reader.url.split("//", 1)[-1].rsplit(":", 1)[0]
    code = (
        "import onnxruntime\nfrom device_sdk import Monitor\n\n"
        f'monitor = Monitor(endpoint="http://{host}:4318")\n'
        'session = monitor.wrap(onnxruntime.InferenceSession("model.onnx"), model="digits", version="1")'
    )
    cards.html(
        markup.state(
            "No device has reported yet",
            "The collector runs and has no data. Three steps bring the first device in:",
            (
                ("Install the SDK where the model runs, from your copy of the repository.", "pip install ./device_sdk"),
                ("Wrap the inference session; nothing else in your code changes.", code),
                ("Or try it now with a simulated fleet.", "fleetpulse demo"),
            ),
            "Waiting for the first window; this page looks every 3 s.",
        )
    )
    _waiting(reader)


def _down(reader: Reader, zone: tzinfo) -> None:
    """Say what is wrong with the query API; the page below keeps the last good answers."""
    outage = reader.outage
    if outage is None:
        return
    if outage.forbidden:
        title, text = (
            "The collector refuses this dashboard.",
            (
                f"It said: {outage.message}. Give the dashboard a read token: `fleetpulse "
                "token create --scope read`, then set FLEETPULSE_API_TOKEN_FILE."
            ),
        )
    else:
        at = formats.moment(outage.since_ns, zone)
        title = f"Collector not answering since {at:%H:%M:%S}, retrying every 5 s."
        said = f"{reader.url} said: {outage.message.rstrip('.')}."
        text = f"{said} Below is the last good answer; what was never read is empty."
    cards.html(markup.banner(title, text))


def _newest(reader: Reader) -> int:
    """Return the newest judged instant (SLOs are judged every 5 min, the rest every hour), 0 before the first."""
    return max((row.at_ns for row in (*reader.verdicts("kpis"), *reader.verdicts("slo"))), default=0)


@st.fragment(run_every=REFRESH_S)
def _watch(reader: Reader, seen: tuple[int, bool]) -> None:
    """Rerun the page when the collector has judged something newer, went away or came back."""
    now = (_newest(reader), reader.outage is not None)
    if now != seen:
        st.rerun()


def _frame(reader: Reader) -> Scope | None:
    """Draw what every page has above it: outage, filters, status. None when there is nothing a page could show.

    It runs in the entry script, outside the pages: only so do the filters outlive a change of page.
    """
    zone = _zone()
    _down(reader, zone)
    latest = tuple(reader.verdicts("kpis"))
    anchor = _newest(reader)
    if not latest and not anchor:
        if reader.outage is None and not reader.devices():
            _first_start(reader)
            return None
        if reader.outage is not None:
            cards.html(markup.state("Nothing to show yet", NEVER_ANSWERED))
            _watch(reader, (0, True))
            return None
    with st.container(horizontal=True, key="filters", vertical_alignment="center"):
        span, model, tier = _filters(latest)
        now_ns = time.time_ns()
        scope = Scope(reader, span, model, tier, anchor or now_ns, now_ns, zone, latest)
        _status(scope)
    return scope


def _page(draw: Callable[[Scope], None], held: list[Scope]) -> None:
    """Draw one page, or say that the filters leave nothing to draw."""
    if not held:
        return
    scope = held[0]
    if (scope.model or scope.tier) and not findings.anything(scope):
        text = f"Nothing was judged for {findings.filter_words(scope)}. Clear the filters to see the fleet."
        cards.html(markup.state("No device matches", text))
        st.button("Clear the filters", on_click=_clear)
    else:
        draw(scope)


def _clear() -> None:
    st.session_state["model"] = None
    st.session_state["tier"] = None


def main() -> None:
    """Run the page the address names."""
    st.set_page_config(
        page_title="FleetPulse", page_icon=str(Path(__file__).parent / "static" / "icon.png"), layout="wide"
    )
    st.html(stylesheet.css())
    reader = _reader(api_url(), api_token())
    held: list[Scope] = []
    pages = [
        st.Page(partial(_page, draw, held), title=title, url_path=path or None, default=not path)
        for title, path, draw in PAGES
    ]
    reading = st.Page(runbook.draw, title="Runbook", url_path="runbook", visibility="hidden")
    chosen = st.navigation([*pages, reading], position="top")
    if chosen is reading:
        chosen.run()
        return
    scope = _frame(reader)
    if scope is not None:
        held.append(scope)
        chosen.run()
        _watch(reader, (_newest(reader), reader.outage is not None))


main()
