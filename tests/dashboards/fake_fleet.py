"""The judged rows of a made-up fleet, in the shapes of the query API; ``fake_api`` serves them.

Scenarios: ``busy`` (drift on one tier, a crash-looping firmware, a burning SLO, silent devices, thin cohorts),
``calm`` (everything holds), ``first`` (no data at all), ``young`` (provisional drift), ``broken`` (503 to everything).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from typing import Any

NS = 1_000_000_000
HOUR, DAY, SLOT = 3600 * NS, 86400 * NS, 300 * NS
TIER, FIRMWARE, REGION = "edge.device.tier", "edge.firmware.version", "edge.region"
TIERS = {"cam-v2": 988, "cam-v3": 640, "edge-mini": 361, "kiosk": 12}
FIRMWARES = {"2.1.0": 1400, "2.2.0": 401, "2.0.4": 188}
MODELS = {("digits", "3"): 0.021, ("digits", "4"): 0.034, ("magika", "1.0"): 0.0087}
SIGNALS = (
    ("input:brightness", 0.46),
    ("input:contrast", 0.31),
    ("output:confidence", 0.22),
    ("output:entropy", 0.17),
    ("classes", 0.14),
    ("input:saturation", 0.06),
    ("output:margin", 0.05),
    ("input:noise", 0.04),
    ("input:sharpness", 0.03),
    ("input:red", 0.02),
)
SLOS = {
    "inference-latency": (0.99, 0.13, 15.2),
    "crash-free": (0.999, 0.61, 0.7),
    "inference-success": (0.995, 0.88, 0.2),
}
XSS = "cam-<script>alert(1)</script>"


def noise(*key: object) -> float:
    return random.Random(repr(key)).gauss(0, 1)


def row(kind: str, name: str, at: int, span: int, value: float | None, **more: Any) -> dict[str, Any]:
    width = more.pop("width", abs(value or 0) * 0.03)
    base = {
        "kind": kind,
        "name": name,
        "kpi": name,
        "model": "",
        "version": "",
        "cohort": {},
        "value": value,
        "low": None if value is None else max(0.0, value - width),
        "high": None if value is None else value + width,
        "n": 120000,
        "devices": 1989,
        "target": None,
        "verdict": "met",
        "reason": "",
        "completeness": 0.987,
        "at_ns": at,
        "window": {"start_ns": at - span, "end_ns": at},
        "detail": {},
    }
    return {**base, **more}


class Judged:
    """Verdict rows of one scenario; all times are before ``now_ns``."""

    def __init__(self, scenario: str = "busy", now_ns: int | None = None) -> None:
        self.scenario = scenario
        wall = time.time_ns() if now_ns is None else now_ns
        self.now = wall // SLOT * SLOT
        self.hour = self.now // HOUR * HOUR
        self.bad = scenario in ("busy", "young")

    def latency(self, at: int) -> Iterator[dict[str, Any]]:
        age = (self.hour - at) / HOUR
        for (model, version), base in MODELS.items():
            for tier in ("", *TIERS):
                if (version == "4" and age > 9) or (5 <= age - 11 < 7 and self.bad):
                    continue
                slow = 1.9 if self.bad and version == "4" and tier in ("", "cam-v2") else 1.0
                weak = {"cam-v2": 1.15, "cam-v3": 0.8, "edge-mini": 1.05}.get(tier, 1.0)
                p95 = base * slow * weak * (1 + 0.02 * noise(model, version, tier, at))
                thin = tier == "kiosk"
                target = {"digits": 0.045, "magika": 0.02}[model]
                verdict = "insufficient" if thin else "missed" if p95 * 0.97 > target else "met"
                yield row(
                    "latency",
                    "latency_p95",
                    at,
                    HOUR,
                    None if thin else p95,
                    model=model,
                    version=version,
                    cohort={TIER: tier} if tier else {},
                    target=target,
                    verdict=verdict,
                    reason="devices" if thin else "",
                    devices=TIERS.get(tier, 1989),
                    n=21 if thin else 84000,
                    detail={} if thin else {"p50": p95 * 0.42, "p95": p95, "p99": p95 * 1.7},
                )

    def crashes(self, at: int) -> Iterator[dict[str, Any]]:
        yield from self.crash(at)
        yield from self.loops(at)

    def crash(self, at: int) -> Iterator[dict[str, Any]]:
        cells: list[tuple[str, str]] = [("", "")]
        cells += [(tier, "") for tier in TIERS] + [("", fw) for fw in FIRMWARES]
        cells += [(tier, fw) for tier in TIERS for fw in FIRMWARES]
        growing = max(0.0, 1 - (self.hour - at) / (30 * HOUR)) if self.bad else 0.0
        for tier, fw in cells:
            hit = growing * {"2.2.0": 1.0, "": 0.22}.get(fw, 0.0) * (0.4 if tier == "cam-v3" else 1.0)
            for name, loss, target in (
                ("crash_free_time", 0.0006 + 0.004 * hit, 0.999),
                ("crash_free_sessions", 0.0029 + 0.11 * hit, 0.99),
                ("crash_free_devices", 0.012 + 0.2 * hit, 0.98),
            ):
                thin = tier == "kiosk"
                value = 1 - loss * (1 + 0.08 * noise(name, tier, fw, at // (6 * HOUR)))
                width = loss * (0.5 if thin else 0.12)
                high = min(1.0, value + width)
                word = "insufficient" if thin else "missed" if high < target else "met"
                cohort = {k: v for k, v in ((TIER, tier), (FIRMWARE, fw)) if v}
                reasons = (
                    {"watchdog": 41, "native_crash": 9, "oom_kill": 4}
                    if hit > 0.1
                    else {"native_crash": 3, "power_loss": 2}
                )
                yield row(
                    "crash_free",
                    name,
                    at,
                    DAY,
                    None if thin else value,
                    width=width,
                    high=None if thin else high,
                    cohort=cohort,
                    target=target,
                    verdict=word,
                    reason="devices" if thin else "",
                    devices=TIERS.get(tier, 1989) if not fw else FIRMWARES[fw] // (3 if tier else 1),
                    n=4100,
                    detail={
                        "crashes": sum(reasons.values()),
                        "device_hours": 41250.5,
                        "reasons": reasons,
                        "crashing_devices": [f"cam-{i:04d}" for i in range(6)] if hit > 0.1 else [],
                    },
                )

    def loops(self, at: int) -> Iterator[dict[str, Any]]:
        for fw in FIRMWARES:
            bad = self.bad and fw == "2.2.0"
            yield row(
                "crash_free",
                "crash_loop",
                at,
                6 * HOUR,
                6 if bad else 0,
                cohort={FIRMWARE: fw},
                n=FIRMWARES[fw],
                target=0.0,
                low=None,
                high=None,
                devices=6 if bad else 0,
                verdict="missed" if bad else "met",
                detail={"looping_devices": [f"cam-v2-{i:04d}" for i in range(6)] if bad else [], "ends": 54},
            )

    def silence(self, at: int) -> Iterator[dict[str, Any]]:
        for tier, known in TIERS.items():
            names = self.silent() if tier == "edge-mini" else []
            yield row(
                "silence",
                "silent_devices",
                at,
                14 * DAY,
                len(names) / known,
                cohort={TIER: tier},
                n=known,
                target=0.0,
                low=None,
                high=None,
                devices=len(names),
                verdict="missed" if names else "met",
                detail={"silent": names[:20], "since_ns": at - 5 * HOUR if names else None},
            )

    def kpis(self, at: int) -> Iterator[dict[str, Any]]:
        silent = 24 if self.bad and at > self.hour - 5 * HOUR else 0
        yield row("kpi", "inference_failure_rate", at, HOUR, 0.0008 + 0.0001 * noise("f", at), target=0.002)
        complete = 0.987 + 0.004 * noise("c", at // HOUR) - (0.02 if silent else 0)
        yield row(
            "kpi",
            "telemetry_completeness",
            at,
            HOUR,
            min(complete, 1.0),
            target=0.99 if self.bad else 0.95,
            verdict="missed" if self.bad and complete < 0.985 else "met",
        )
        dip = 420 if self.bad and 5 <= (self.hour - at) / HOUR - 11 < 7 else 0
        reporting = 1989 - silent - dip
        yield row("kpi", "devices_reporting", at, HOUR, reporting / 2001, n=2001, devices=2001, target=0.95, width=0)

    def slo(self, at: int) -> Iterator[dict[str, Any]]:
        for name, (objective, left, burn) in SLOS.items():
            left, burn = (left, burn) if self.bad else (0.85, 0.3)
            age = (self.now - at) / HOUR
            hot = burn > 14 and age < 11
            spent = left + (burn / 720 * min(age, 11) if burn > 14 else (1 - left) * age / 720)
            for tier in ("", *TIERS):
                thin = tier == "kiosk"
                b = burn * (1 + 0.05 * noise(name, tier, at)) if hot or burn < 14 else 0.6 + 0.1 * noise(name, at)
                if tier == "cam-v3":
                    b *= 0.1
                windows = {
                    "1h": b,
                    "5m": b * 1.02,
                    "6h": b * (min(1, (11 - age) / 6) if hot else 1),
                    "30m": b,
                    "1d": b * 0.5,
                    "2h": b,
                    "3d": b * 0.3,
                    "6h_": b,
                }
                word = "too_few_events" if thin else "fast_burn" if b > 14.4 else "rising" if b > 1 else "on_pace"
                yield row(
                    "slo",
                    name,
                    at,
                    30 * DAY,
                    None if thin else 1 - (1 - objective) * b,
                    slo=name,
                    target=objective,
                    cohort={TIER: tier} if tier else {},
                    verdict=word,
                    reason="events" if thin else "",
                    detail={
                        "burn": windows,
                        "severity": "page" if word == "fast_burn" else None,
                        "objective": objective,
                        "budget_left": min(1.0, spent),
                        "forecast": self.forecast(at, spent, b),
                        "bad_devices": ["cam-0007", "cam-0011"] if b > 1 else [],
                    },
                )

    def forecast(self, at: int, left: float, burn: float) -> dict[str, int] | None:
        span = left / burn * 30 * DAY
        if span > 30 * DAY:
            return None
        return {"empty_ns": at + int(span), "earliest_ns": at + int(span * 0.8), "latest_ns": at + int(span * 1.5)}

    def drift(self, at: int) -> Iterator[dict[str, Any]]:
        grow = max(0.0, 1 - max(0, (self.hour - at) / HOUR) / 60)
        young = self.scenario == "young"
        for model, version in (("digits", "3"), ("magika", "1.0")):
            for tier in TIERS:
                for signal, effect in SIGNALS:
                    if model == "magika" and signal.startswith("input:") and signal != "input:noise":
                        continue
                    hit = self.bad and model == "digits" and tier == "cam-v2" and effect > 0.1
                    value = max(0.0, (effect * grow if hit else 0.02) + 0.008 * noise(signal, tier, model, at))
                    thin = tier == "kiosk"
                    word = "insufficient" if thin else "ok"
                    if hit and not thin and value > 0.1:
                        word = "mix_shift" if signal == "output:entropy" else "drift"
                    alarm = hit and word == "drift" and not young
                    yield row(
                        "drift",
                        signal,
                        at,
                        DAY,
                        value,
                        signal=signal,
                        width=0.14 if thin else 0.03,
                        target=0.1,
                        model=model,
                        version=version,
                        cohort={TIER: tier},
                        verdict=word,
                        reason="provisional" if young else "devices" if thin else "",
                        devices=TIERS[tier],
                        detail=self.drift_detail(signal, value, alarm, young),
                    )

    def drift_detail(self, signal: str, value: float, alarm: bool, young: bool) -> dict[str, Any]:
        reference = {
            "source": "field",
            "start_ns": self.hour - 15 * DAY,
            "end_ns": self.hour - DAY,
            "provisional": young,
        }
        detail: dict[str, Any] = {
            "p": 0.0004,
            "q": 0.003,
            "psi": value * 0.8,
            "js": value * 0.5,
            "ks": value * 0.7,
            "shift_sd": value,
            "m": 940,
            "neff": 803.2,
            "reference": reference,
            "alerts_from_ns": self.hour + 13 * DAY if young else None,
            "mix_share": 0.08,
            "sr": None
            if young
            else {
                "e": 41.0 if alarm else 0.3,
                "threshold": 20,
                "alarm": alarm,
                "onset_ns": self.hour - 30 * HOUR if alarm else None,
            },
        }
        if signal == "classes":
            labels = [str(i) for i in range(10)]
            ref = [0.1] * 10
            cur = [0.1 + (value / 2 if i == 1 else -value / 18) for i in range(10)]
            return {**detail, "labels": labels, "edges": [], "reference_share": ref, "current_share": cur}
        edges = [i / 24 for i in range(25)]
        mids = [(i + 0.5) / 24 for i in range(24)]
        ref = [math.exp(-(((x - 0.53) / 0.16) ** 2) / 2) for x in mids]
        cur = [
            (1 - value) * r + value * 1.6 * math.exp(-(((x - 0.22) / 0.07) ** 2) / 2)
            for x, r in zip(mids, ref, strict=True)
        ]
        return {
            **detail,
            "edges": edges,
            "labels": [],
            "reference_share": [r / sum(ref) for r in ref],
            "current_share": [c / sum(cur) for c in cur],
        }
