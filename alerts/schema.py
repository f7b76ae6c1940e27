"""What a rule may say: the model of one rule and its closed vocabularies. Pure; files are read in ``alerts.rules``."""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from alerts.state import Timing

Kind = Literal["kpi", "latency", "crash_free", "slo", "drift", "silence"]
Severity = Literal["page", "ticket"]
GroupField = Literal["name", "model", "version", "cohort"]
Page = Literal["fleet", "latency", "drift", "stability", "slo", "devices", "alerts"]

KPI_WORDS: Final = ("met", "missed", "insufficient", "no_data")
VERDICT_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "kpi": KPI_WORDS,
    "latency": KPI_WORDS,
    "crash_free": KPI_WORDS,
    "silence": KPI_WORDS,
    "slo": ("fast_burn", "recovering", "rising", "on_pace", "too_few_events", "no_data"),
    "drift": ("ok", "drift", "mix_shift", "sensor_fault", "insufficient"),
}
INDEFINITE: Final = frozenset({"insufficient", "no_data", "too_few_events"})
"""Verdicts that cannot tell: they neither fire nor resolve."""

PLACEHOLDERS: Final = (
    "affected", "burn", "count", "interval", "model", "name", "signals", "since", "sure", "target", "value", "version",
    "where",
)  # fmt: skip
"""What a summary template may name; ``alerts.message`` fills them."""

_DURATION: Final = re.compile(r"^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$")
DURATION_MAX_NS: Final = 90 * 86_400 * 1_000_000_000


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return ``did you mean ...?`` for a near word, else the list of valid ones."""
    choices = sorted(valid)
    close = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(choices)}"


def duration_ns(text: object) -> int:
    """Read ``15m``, ``1h30m``, ``2d`` or ``0s`` as ns; raises ``ValueError`` for anything else."""
    match = _DURATION.match(text) if isinstance(text, str) and text else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write it like 15m, 1h30m or 2d")
    parts = zip(match.groups(), (86400, 3600, 60, 1), strict=True)
    total_ns = sum(int(number or 0) * factor for number, factor in parts) * 1_000_000_000
    if total_ns > DURATION_MAX_NS:
        raise ValueError(f"{text!r} is longer than 90 days")
    return total_ns


def _words(value: object) -> object:
    return (value,) if isinstance(value, str) else value


DurationNs = Annotated[int, BeforeValidator(duration_ns)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Scalar = bool | int | float | str | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class When(_Strict):
    """A condition on one verdict row: one of the verdict words, and every named field of ``detail`` equal."""

    verdict: Words = ()
    detail: dict[str, Scalar] = {}

    @property
    def is_empty(self) -> bool:
        """Return whether it says nothing."""
        return not self.verdict and not self.detail


class InhibitedBy(_Strict):
    """While ``rule`` fires for an overlapping cohort (and equal ``same`` fields), this rule does not fire.

    ``names`` limits it to verdict names of this rule. It counts on for an hour (or the other rule's
    ``resolve_after``) after the other rule resolved: its bad events are still in the windows.
    """

    rule: str
    names: Words = ("*",)
    same: tuple[Literal["name", "model", "version"], ...] = ()


class Rule(_Strict):
    """One alert rule. Spans are ns inside and ``15m`` in files; the file's ``for`` is ``for_``."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    kind: Kind
    names: Words = ("*",)
    cohort: dict[str, str] = {}
    when: When = When()
    keep_while: When = When()
    min_devices: int = Field(default=0, ge=0)
    for_: DurationNs = Field(default=0, alias="for")
    specific_first: DurationNs = 0
    resolve_after: DurationNs = 0
    hold_max: DurationNs = 86_400 * 1_000_000_000
    severity: Severity
    group_by: tuple[GroupField, ...] = ("name", "model", "version", "cohort")
    most_specific: bool = True
    shared_devices: float = Field(default=1.0, gt=0.0, le=1.0)
    inhibited_by: tuple[InhibitedBy, ...] = ()
    summary: str = Field(min_length=1, max_length=400)
    page: Page = "alerts"
    runbook: str = Field(min_length=1, max_length=300)
    description: str = Field(default="", max_length=2000)
    enabled: bool = True

    @field_validator("summary")
    @classmethod
    def _known_placeholders(cls, text: str) -> str:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
        except ValueError as error:
            raise ValueError(f"{text!r} is not a template ({error}); double a literal brace") from None
        for field in fields:
            if field not in PLACEHOLDERS:
                raise ValueError(f"unknown placeholder {{{field}}}; {nearest(field, PLACEHOLDERS)}")
        return text

    @field_validator("runbook")
    @classmethod
    def _page_or_address(cls, text: str) -> str:
        if text.startswith(("https://", "http://")) or re.fullmatch(r"[a-z0-9][a-z0-9_-]*", text):
            return text
        raise ValueError(f"{text!r} is neither the name of a page under docs/runbooks nor an http(s) address")

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        if self.when.is_empty and not self.min_devices:
            raise ValueError("the rule has no condition; give when.verdict, when.detail or min_devices")
        for word in (*self.when.verdict, *self.keep_while.verdict):
            if word not in VERDICT_WORDS[self.kind]:
                raise ValueError(f"kind {self.kind} has no verdict {word!r}; {nearest(word, VERDICT_WORDS[self.kind])}")
            if word in INDEFINITE:
                raise ValueError(f"verdict {word!r} cannot tell, so it can neither fire nor keep an alert")
        if any(entry.rule == self.name for entry in self.inhibited_by):
            raise ValueError("the rule inhibits itself; use most_specific for rows of one rule")
        return self

    @property
    def timing(self) -> Timing:
        """Return the spans of the state machine."""
        return Timing(self.for_, self.resolve_after, self.hold_max, sparse=self.kind == "silence")

    def matches(self, name: str, cohort: Mapping[str, str]) -> bool:
        """Return whether the rule looks at a row of its kind with this name and cohort."""
        if not any(fnmatchcase(name, pattern) for pattern in self.names):
            return False
        return all(key in cohort and fnmatchcase(cohort[key], pattern) for key, pattern in self.cohort.items())


def field_names(model: type[BaseModel]) -> list[str]:
    """Return a model's field names as files write them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def model_at(loc: tuple[Any, ...]) -> type[BaseModel]:
    """Return the model that holds the field at a pydantic error's location."""
    parents = {str(part) for part in loc[:-1]}
    if parents & {"when", "keep_while"}:
        return When
    return InhibitedBy if "inhibited_by" in parents else Rule
