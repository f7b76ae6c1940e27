"""The wire contract in words, generated from its tables; docs/contract.md is this text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from device_sdk.contract import attributes as a
from device_sdk.contract.buckets import N1_BOUNDS, RANDOMISED_FIRST, RANDOMISED_LAST, RANDOMISED_SCALE, U1_BOUNDS
from device_sdk.contract.emitting import EMITTING
from device_sdk.contract.events import COMMON_KEYS, EVENTS
from device_sdk.contract.metrics import CONTRACT_VERSION, INSTRUMENTS, SCOPE_NAME, Instrument, Kind
from device_sdk.contract.vocabulary import WORDS

_KINDS = {
    Kind.EXPONENTIAL: "exponential histogram",
    Kind.EXPLICIT: "histogram",
    Kind.COUNTER: "counter",
    Kind.UP_DOWN: "level",
    Kind.GAUGE: "gauge",
}


def contract_document() -> str:
    """Return the contract as Markdown: metrics, events, attributes, words and bucket schemes."""
    sent = [instrument for instrument in INSTRUMENTS if not instrument.reserved]
    reserved = [instrument for instrument in INSTRUMENTS if instrument.reserved]
    intro = (
        "Generated from `device_sdk/contract`; do not edit. Everything a device sends is listed here and nothing else:"
        " OTLP metrics and log records, delta temporality, scope"
        f" `{SCOPE_NAME}`. Only mergeable quantities travel; ratios, means and percentiles are computed by the server."
        " No input, no output, no raw minimum or maximum of an input, no host name and no address is ever sent."
    )
    resource = (
        f"{_codes(sorted(a.RESOURCE_KEYS))}, and at most {a.LABEL_COUNT_MAX} operator labels `{a.LABEL_PREFIX}<key>` of"
        f" at most {a.LABEL_LENGTH_MAX} characters. Any other key stays on the device and is counted in"
        f" `edge.privacy.refused`. The server's `device_id` is the first of {_codes(a.DEVICE_ID_KEYS)}."
    )
    schemes = (
        "Exponential: bucket i at scale s holds values in (base^i, base^(i+1)], base = 2^(2^-s); at most 160 buckets a"
        " side, coarsened beyond. A feature is bucketed as (x - c) / u of its grid `c=<centre>;u=<unit>` with zero"
        " threshold 1/50, both signs, clipped to 2^10 units."
    )
    besides = (
        f"Texts have at most {a.VALUE_LENGTH_MAX} characters. A process has at most {a.SERIES_MAX} series; beyond that,"
        f" or a metric's own bound, points become one with `{a.OVERFLOW}` = true and {_codes(a.MODEL_KEYS)}. Counts"
        f" that were randomised on the device also carry {_codes(a.RANDOMISED_KEYS)}: k-ary randomised response (`krr`)"
        f" of every observation, over so many categories: the buckets of a histogram (a feature's at scale"
        f" {RANDOMISED_SCALE}, indices {RANDOMISED_FIRST} to {RANDOMISED_LAST} a side, and zero), or a counter's words."
    )
    events = [(f"`{e.name}`", e.severity.name, _codes(e.attributes), e.meaning + _mark(e.reserved)) for e in EVENTS]
    words = [(f"`{key}`", ", ".join(f"`{word}`" for word in values)) for key, values in _words()]
    parts = [
        f"# The wire contract, version {CONTRACT_VERSION}",
        intro,
        EMITTING.rstrip(),
        "## Metrics",
        besides,
        _metric_table(sent),
        "Reserved names (not sent yet):",
        _metric_table(reserved),
        "## Events",
        f"Every event also carries {_codes(COMMON_KEYS)}.",
        _table(("event", "severity", "attributes", "meaning"), events),
        "## Resource attributes",
        resource,
        "## Words",
        _table(("attribute", "values"), words),
        "## Buckets",
        schemes,
        f"U1 (shares): {_numbers(U1_BOUNDS)}.",
        f"N1 (small counts): {_numbers(N1_BOUNDS)}.",
    ]
    return "\n\n".join(parts) + "\n"


def _metric_table(instruments: Sequence[Instrument]) -> str:
    rows = [
        (f"`{i.name}`", _kind(i), f"`{i.unit}`", _codes(i.attributes), str(i.series_max), i.meaning)
        for i in instruments
    ]
    return _table(("metric", "kind", "unit", "attributes", "series at most", "meaning"), rows)


def _kind(instrument: Instrument) -> str:
    word = _KINDS[instrument.kind]
    if instrument.max_scale is not None:
        word += f", scale {instrument.max_scale}" + ("" if instrument.summed else ", no sum, minimum or maximum")
    elif instrument.bounds:
        word += ", bounds U1" if instrument.bounds == U1_BOUNDS else ", bounds N1"
    return word


def _words() -> list[tuple[str, list[str]]]:
    told = {key: list(words) for key, words in WORDS.items()}
    told[a.SESSION_END_REASON] = [f"{r} (expected)" if r in a.EXPECTED_ENDS else str(r) for r in a.EndReason]
    return list(told.items())


@cache
def closed_words() -> dict[str, frozenset[str]]:
    """Return the values that each attribute with a closed vocabulary may have."""
    return {key: frozenset(word.removesuffix(" (expected)") for word in words) for key, words in _words()}


def _mark(reserved: bool) -> str:
    return " (reserved)" if reserved else ""


def _codes(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys) or "none"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
