"""Verdict rows of drift: multiplicity over the table, the verdict ladder, and what a page needs to explain a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from analytics.baseline import Reference, SignalReference
from analytics.drift import MIN_DEVICES, DriftTest
from analytics.drift_counts import Chunk, ModelVersion
from analytics.drift_judge import WINDOW_HOURS, Judged
from analytics.mix import MIX_ALPHA
from analytics.multiplicity import benjamini_hochberg
from analytics.options import AnalyticsOptions
from analytics.rows import VerdictRows, cohort_json, finite
from analytics.sequential import Alarm
from analytics.signals import CATEGORICAL, HOUR_NS
from device_sdk.contract.attributes import TIER

Skews = Mapping[tuple[int, str, str], Mapping[str, Any]]
"""Training-serving skew by (T, signal, tier)."""

_DIGITS: Final = 5
_LOG_E_MAX: Final = 690.0


def cohort_of_tier(tier: str) -> str:
    """Return the canonical cohort of a device tier; the fleet for devices that name none."""
    return cohort_json(**{TIER: tier}) if tier else cohort_json()


def add_rows(
    rows: VerdictRows,
    reference: Reference,
    judged: Sequence[Judged],
    skews: Skews,
    options: AnalyticsOptions,
    alerts_from_ns: int,
) -> None:
    """Append the rows of one model version; q-values are over its streams at the same instant.

    Nothing is said of a tier from which the model version sent no signal at all for a day: it may never have run there.
    """
    by_instant: dict[int, list[Judged]] = {}
    for one in judged:
        by_instant.setdefault(one.at_ns, []).append(one)
    for at_ns in sorted(by_instant):
        heard = {one.tier for one in by_instant[at_ns] if one.reason != "no_data"}
        table = [one for one in by_instant[at_ns] if one.tier in heard]
        q_values = benjamini_hochberg([_p(one) for one in table])
        for one, q in zip(table, q_values.tolist(), strict=True):
            _add(rows, reference, one, q, skews.get((at_ns, one.signal, one.tier)), options, alerts_from_ns)


def _p(one: Judged) -> float:
    return one.test.p if one.test is not None and not one.reason else float("nan")


def verdict_of(one: Judged, q: float, floor: float, *, provisional: bool = False) -> str:
    """Return the drift verdict: significant in the table and no smaller than the floor, else the mix, else ok.

    A provisional reference is one day: it cannot say who usually reports, so it never yields ``mix_shift``.
    """
    if one.reason or one.test is None:
        return "insufficient"
    if q <= 0.05 and one.test.effect >= floor:
        return "drift"
    if not provisional and one.mix_p <= MIX_ALPHA and one.mix_effect >= floor:
        return "mix_shift"
    return "ok"


def _add(
    rows: VerdictRows,
    reference: Reference,
    one: Judged,
    q: float,
    skew: Mapping[str, Any] | None,
    options: AnalyticsOptions,
    alerts_from_ns: int,
) -> None:
    verdict = verdict_of(one, q, options.drift_floor, provisional=reference.provisional)
    reason = one.reason or ("provisional" if reference.provisional else "")
    if not reason and verdict == "ok" and skew is not None and skew["effect"] >= options.drift_page_floor:
        reason = "skew"
    signal = reference.signals[one.signal]
    detail: dict[str, Any] = {
        "unit": "tvd" if signal.bins.kind == CATEGORICAL else "sd",
        "q": _short(q),
        "mix_share": _short(one.mix_share),
        "mix_effect": _short(one.mix_effect),
        "mix_p": _short(one.mix_p),
        "floor": options.drift_floor,
        "strength": _strength(verdict, one.test, options.drift_page_floor),
        "reference": {
            "baseline_id": reference.baseline_id,
            "source": reference.source,
            "start_ns": reference.start_ns,
            "end_ns": reference.end_ns,
            "provisional": reference.provisional,
        },
        "alerts_from_ns": alerts_from_ns,
        "sr": _detector(one, signal),
        **_of_test(one.test, signal, one.scale.center, one.scale.spread),
    }
    if skew is not None:
        detail["skew"] = skew
    test = one.test
    rows.add(
        at_ns=one.at_ns,
        name=one.signal,
        verdict=verdict,
        reason=reason,
        window_ns=one.window_ns,
        cohort=cohort_of_tier(one.tier),
        model=reference.model,
        version=reference.version,
        # Short of the last digits, which depend on where a run began: the same data must give the same row.
        value=_short(test.effect) if test else None,
        low=_short(test.effect_low) if test else None,
        high=_short(test.effect_high) if test else None,
        n=test.rows if test else 0.0,
        devices=test.devices if test else 0,
        target=options.drift_floor,
        detail=detail,
    )


def _strength(verdict: str, test: DriftTest | None, page_floor: float) -> str | None:
    if verdict != "drift" or test is None:
        return None
    return "major" if test.effect >= page_floor else "minor"


def _of_test(test: DriftTest | None, signal: SignalReference, center: float, spread: float) -> dict[str, Any]:
    """Return effects and pictures of a test; the keys are there, and empty, when there was none."""
    bins = signal.bins
    shape = {"edges": _list(bins.edges.tolist()), "labels": list(bins.labels), "scores": _list(bins.scores.tolist())}
    if test is None:
        none = dict.fromkeys(("p", "method", "psi", "js", "ks", "tvd", "shift_sd", "shift_se_sd", "detectable_sd"))
        return {**none, **shape, "m": 0, "neff": 0.0, "reference_share": [], "current_share": []}
    return {
        **shape,
        "p": finite(test.p, _DIGITS),
        "method": test.method or None,
        "psi": _short(test.psi),
        "js": _short(test.js),
        "ks": _short(test.ks),
        "tvd": _short(test.tvd),
        "shift_sd": _short(test.shift),
        "shift_se_sd": _short(test.shift_se),
        # Two-sided 5 %, power 90 %: what this many devices could have seen.
        "detectable_sd": _short(3.24 * test.shift_se),
        "m": test.devices,
        "neff": _short(test.effective_devices),
        "min_devices": MIN_DEVICES,
        "center": _short(center),
        "spread": _short(spread),
        "reference_share": _list(test.reference_share),
        "current_share": _list(test.current_share),
    }


def _detector(one: Judged, signal: SignalReference) -> dict[str, Any] | None:
    """Return the alert detector's state; None while it does not run (provisional, too few devices, no k1)."""
    alarm: Alarm | None = one.alarm
    if alarm is None:
        return None
    bins = signal.bins
    label = None
    if bins.kind == CATEGORICAL:
        label = bins.scored_labels()[alarm.score]
    return {
        "e": _short(math.exp(min(alarm.log_e, _LOG_E_MAX))),
        "log10_e": _short(alarm.log_e / math.log(10.0)),
        "threshold": _short(math.exp(alarm.log_threshold)),
        "alarm": alarm.alarm,
        "crossed": alarm.crossed,
        "onset_ns": one.onset_ns,
        "shift_sd": _short(alarm.shift),
        "hours": alarm.hours,
        "label": label,
        "k1": _short(one.scale.k1[alarm.score]),
    }


def add_unreferenced(
    rows: VerdictRows,
    key: ModelVersion,
    chunks: Iterable[Chunk],
    instants: Sequence[int],
    known: frozenset[str],
    skews: Skews,
    alerts_from_ns: int,
) -> None:
    """Append ``insufficient: reference`` for signals with data in the last day that no reference knows."""
    present: dict[tuple[int, str, str], tuple[float, set[str]]] = {}
    for one in (one for chunk in chunks for one in chunk.rows.get(key, ()) if one.signal not in known):
        weight = np.asarray(one.entries.sum(axis=1), dtype=np.float64).ravel()
        for at_ns in instants:
            mine = (one.hours_ns >= at_ns - WINDOW_HOURS * HOUR_NS) & (one.hours_ns < at_ns)
            for tier in np.unique(one.tier[mine]).tolist():
                chosen = mine & (one.tier == tier)
                n, devices = present.setdefault((at_ns, one.signal, one.tier_names[tier]), (0.0, set()))
                devices.update(one.device_names[device] for device in np.unique(one.device[chosen]).tolist())
                present[at_ns, one.signal, one.tier_names[tier]] = (n + float(weight[chosen].sum()), devices)
    for (at_ns, signal, tier), (n, devices) in sorted(present.items()):
        skew = skews.get((at_ns, signal, tier))
        detail: dict[str, Any] = {"alerts_from_ns": alerts_from_ns, "reference": None, "sr": None}
        rows.add(
            at_ns=at_ns,
            name=signal,
            verdict="insufficient",
            reason="reference",
            window_ns=(at_ns - WINDOW_HOURS * HOUR_NS, at_ns),
            cohort=cohort_of_tier(tier),
            model=key[0],
            version=key[1],
            n=n,
            devices=len(devices),
            detail={**detail, "skew": skew} if skew is not None else detail,
        )


def _short(value: float) -> float | None:
    return finite(value, _DIGITS)


def _list(values: Iterable[float]) -> list[float | None]:
    return [finite(value, _DIGITS) for value in values]
