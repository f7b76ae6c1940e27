"""A query API over real HTTP with a made-up fleet: what the pages are drawn from in tests. See ``fake_fleet``."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlparse

from fake_fleet import DAY, FIRMWARE, FIRMWARES, HOUR, NS, REGION, SLOT, TIER, TIERS, XSS, Judged, noise

ALERTS = [
    ("slo_fast_burn_page", "firing", "page", {TIER: "cam-v2"}, 7.2, "slo", "inference-latency", "", 988, "slo"),
    ("crash_loop", "firing", "page", {FIRMWARE: "2.2.0"}, 21.0, "crash_free", "crash_loop", "", 6, "stability"),
    ("drift", "firing", "page", {TIER: "cam-v2"}, 30.0, "drift", "input:brightness", "digits", 940, "drift"),
    (
        "silent_devices",
        "firing",
        "ticket",
        {TIER: "edge-mini"},
        3.0,
        "silence",
        "silent_devices",
        "",
        24,
        "devices",
    ),
    (
        "crash_free_missed",
        "pending",
        "ticket",
        {TIER: "cam-v3"},
        0.2,
        "crash_free",
        "crash_free_time",
        "",
        3,
        "stability",
    ),
    (
        "slo_fast_burn_page",
        "resolved",
        "page",
        {TIER: "edge-mini"},
        15.0,
        "slo",
        "inference-latency",
        "",
        40,
        "slo",
    ),
]


class Fleet(Judged):
    """Every answer of one scenario."""

    def distributions(self, start: int, end: int, tier: str) -> Iterator[dict[str, Any]]:
        first = start // HOUR * HOUR
        for hour in range(first, end, HOUR):
            age = (self.hour - hour) / HOUR
            if 5 <= age - 11 < 7 and self.bad:
                continue
            for bucket in range(-34, -2):
                seconds = 2 ** ((bucket + 0.5) / 4)
                mass = math.exp(-((math.log(seconds / 0.016) / 0.35) ** 2) / 2)
                if self.bad and age < 9 and tier in ("", "cam-v2"):
                    mass += 0.3 * math.exp(-((math.log(seconds / 0.064) / 0.2) ** 2) / 2)
                n = int(4000 * mass)
                if n:
                    yield {
                        "hour_ns": hour,
                        "tier": tier or "cam-v2",
                        "model": "digits",
                        "version": "4",
                        "side": "positive",
                        "scale": 2,
                        "bucket_index": bucket,
                        "n": n,
                        "attributes": {},
                    }

    def alerts(self) -> list[dict[str, Any]]:
        if not self.bad:
            return []
        said = (
            "sure: both burn windows are over the threshold with their "
            "95 % lower bound, and still are without the worst device"
        )
        values = {"slo": (0.91, 0.99), "crash_free": (6, 0), "drift": (0.46, 0.1), "silence": (0.06, 0.0)}
        return [
            {
                "id": f"a{i:02d}",
                "rule": rule,
                "state": state,
                "severity": severity,
                "cohort": cohort,
                "summary": (
                    f"{name} in {next(iter(cohort.values()))} since 15:03 "
                    f"UTC on 21 Nov: {devices} of 1,989 devices; {said}."
                ),
                "onset_ns": self.now - int((hours + 1) * HOUR),
                "since_ns": self.now - int(hours * HOUR),
                "devices": devices,
                "evidence": {
                    "kind": kind,
                    "name": name,
                    "model": model,
                    "version": "3" if model else "",
                    "n": 84000,
                    "value": values[kind][0],
                    "target": values[kind][1],
                    "low": None,
                    "high": None,
                },
                "page_url": (
                    f"http://127.0.0.1:8501/{page}?{urlencode({'tier': cohort[TIER]} if TIER in cohort else {})}"
                ),
                "runbook_url": f"https://runbooks.example/{rule}.md",
            }
            for i, (rule, state, severity, cohort, hours, kind, name, model, devices, page) in enumerate(ALERTS)
        ]

    def history(self, start: int, end: int) -> list[dict[str, Any]]:
        found = []
        for alert in self.alerts():
            steps = [
                ("pending", alert["onset_ns"]),
                ("firing", alert["since_ns"]),
                ("notice_sent", alert["since_ns"] + SLOT),
            ]
            steps = steps[:1] if alert["state"] == "pending" else steps
            if alert["state"] == "resolved":
                steps.append(("resolved", alert["since_ns"] + 5 * HOUR))
            for action, at in steps:
                detail = {"receiver": "webhook"} if action == "notice_sent" else {}
                found.append({**alert, "alert_id": alert["id"], "at_ns": at, "action": action, "detail": detail})
        return [item for item in sorted(found, key=lambda item: item["at_ns"]) if start < item["at_ns"] <= end]

    def silent(self) -> list[str]:
        return [item["device_id"] for item in self.devices() if item["completeness"] == 0.71]

    def devices(self) -> Iterator[dict[str, Any]]:
        index = 0
        for tier, count in TIERS.items():
            for _ in range(min(count // 8 + 3, 60)):
                silent = self.bad and tier == "edge-mini" and index % 4 == 0
                name = XSS if index == 3 else f"{tier}-{index:04d}"
                yield {
                    "device_id": name,
                    "first_seen_ns": self.now - 20 * DAY,
                    "last_seen_ns": self.now - (5 * HOUR if silent else index % 7 * 60 * NS),
                    "completeness": 0.71 if silent else 0.999 - index % 5 / 1000,
                    "resource": {
                        TIER: tier,
                        REGION: ("eu", "us", "apac")[index % 3],
                        FIRMWARE: list(FIRMWARES)[index % 3],
                        "edge.rollout.ring": str(index % 4),
                        "service.version": "1.4.2",
                    },
                }
                index += 1

    def events(self, start: int, end: int, device: str) -> Iterator[dict[str, Any]]:
        for at in range(max(start, self.now - 9 * HOUR), end, 47 * 60 * NS):
            crash = device.endswith(("1", "4", "7"))
            name = "app.crash" if crash else "session.start"
            yield {
                "time_ns": at,
                "observed_ns": at,
                "received_ns": at,
                "device_id": device,
                "event_name": name,
                "severity_number": 17,
                "severity_text": "ERROR",
                "body": "",
                "trace_id": "",
                "span_id": "",
                "resource": {},
                "attributes": {"edge.session.end.reason": "watchdog"} if crash else {},
            }

    def points(self, start: int, end: int, device: str) -> Iterator[dict[str, Any]]:
        for at in range(start // SLOT * SLOT, end, 3 * SLOT):
            if at % (11 * HOUR) < 2 * HOUR:
                continue
            mean = 0.016 * (1 + 0.05 * noise(device, at))
            yield {
                "metric": "edge.inference.duration",
                "kind": "exponential_histogram",
                "unit": "s",
                "device_id": device,
                "attributes": {"edge.model.name": "digits"},
                "start_ns": at - 3 * SLOT,
                "time_ns": at,
                "count": 400,
                "sum": 400 * mean,
            }

    def judged(self, kinds: tuple[str, ...], query: dict[str, str]) -> list[dict[str, Any]]:
        makers = {
            "latency": self.latency,
            "crash_free": self.crashes,
            "kpi": self.kpis,
            "slo": self.slo,
            "drift": self.drift,
            "silence": self.silence,
        }
        found: list[dict[str, Any]] = []
        for kind in kinds:
            grid = SLOT if kind == "slo" else HOUR
            end = self.now // grid * grid
            step = max(grid, int(query.get("step_ns", 0)))
            instants = [end]
            if "to" in query and kind != "silence":
                first = max(int(query["from"]), self.now - 30 * DAY) // step * step + step
                instants = list(range(first, min(int(query["to"]), end) + 1, step))
            for at in instants:
                found += makers[kind](at)
        for key in ("name", "model", "version", "kind", "verdict"):
            if key in query:
                found = [item for item in found if item[key] == query[key]]
        if "tier" in query:
            found = [item for item in found if item["cohort"].get(TIER) == query["tier"]]
        return found

    def answer(self, path: str, query: dict[str, str]) -> list[dict[str, Any]] | dict[str, Any] | None:
        if self.scenario == "first":
            return []
        start, end = int(query.get("from", 0)), int(query.get("to", self.now))
        device = query.get("device", "")
        lists = {
            "kpis": lambda: self.judged(("kpi", "latency", "crash_free", "silence"), query),
            "crash-free": lambda: self.judged(("crash_free",), query),
            "slo": lambda: self.judged(("slo",), query),
            "drift": lambda: self.judged(("drift",), query),
            "alerts": self.alerts,
            "alerts/history": lambda: self.history(start, end),
            "devices": lambda: list(self.devices()),
            "events": lambda: list(self.events(start, end, device)),
            "distributions/edge.inference.duration": lambda: list(
                self.distributions(start, end, query.get("tier", ""))
            ),
            "metrics/edge.inference.duration/points": lambda: list(self.points(start, end, device)),
        }
        return lists[path]() if path in lists else None


def serve(fleet: Fleet, port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    """Start the API on a loopback port; returns the server (call ``shutdown`` and ``server_close``) and its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            parts = urlparse(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            path = unquote(parts.path).removeprefix("/api/v1/")
            current = self.server.fleet  # type: ignore[attr-defined]
            if current.scenario == "broken":
                return self.reply(503, {"title": "Unavailable", "detail": "the store is starting"})
            found = current.answer(path, query)
            if found is None:
                return self.reply(404, {"title": "Not Found"})
            start, limit = int(query.get("cursor", 0)), int(query.get("limit", 1000))
            page = found[start : start + limit]
            more = str(start + limit) if start + limit < len(found) else None
            return self.reply(200, {"items": page, "next": more, "as_of_ns": current.now if found else 0})

        def reply(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.fleet = fleet  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


if __name__ == "__main__":
    import sys

    held, url = serve(Fleet(sys.argv[1]), int(sys.argv[2]))
    print(url, flush=True)
    threading.Event().wait()
