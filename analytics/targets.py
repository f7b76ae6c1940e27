"""KPI targets: packaged in ``targets.yaml``, replaced by the operator's file of the same name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from analytics.options import AnalyticsOptions
from analytics.yaml_source import Document, parse_documents, read_documents, validated
from collector.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Target:
    """What a KPI should reach; empty selectors fit anything. Latency in seconds, ratios 0..1."""

    name: str
    target: float
    model: str = ""
    version: str = ""
    tier: str = ""
    firmware: str = ""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal[
        "crash_free_time", "crash_free_sessions", "crash_free_devices", "inference_failure_rate",
        "telemetry_completeness", "devices_reporting", "latency_p50", "latency_p95", "latency_p99",
    ]  # fmt: skip
    target: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    model: str = ""
    version: str = ""
    tier: str = ""
    firmware: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    targets: list[_Entry]


def _parse(documents: Sequence[Document], path: str) -> tuple[Target, ...]:
    if len(documents) != 1:
        raise ConfigError(f"{path}:1: holds {len(documents)} YAML documents; write one, with a list `targets`")
    parsed = validated(_File, documents[0])
    for index, entry in enumerate(parsed.targets):
        if not entry.name.startswith("latency_") and entry.target >= 1:
            raise documents[0].error(
                ("targets", index, "target"), f"{entry.target:g} is not below 1; a ratio's target is 0..1, like 0.995"
            )
    return tuple(Target(**entry.model_dump()) for entry in parsed.targets)


def load_targets(options: AnalyticsOptions) -> tuple[Target, ...]:
    """Return the operator's targets when the file exists, else the packaged ones; raises ``ConfigError``."""
    path = options.targets_path
    if path is not None and path.is_file():
        return _parse(read_documents(path), str(path))
    text = files("analytics").joinpath("targets.yaml").read_text(encoding="utf-8")
    return _parse(parse_documents(text, "targets.yaml"), "targets.yaml")


def target_for(
    targets: Sequence[Target], name: str, *, model: str = "", version: str = "", tier: str = "", firmware: str = ""
) -> float | None:
    """Return the target of a row, None when no entry fits; the last that fits wins."""
    found = None
    for entry in targets:
        fits = all(
            wanted in ("", given)
            for wanted, given in (
                (entry.model, model), (entry.version, version), (entry.tier, tier), (entry.firmware, firmware)
            )
        )  # fmt: skip
        if entry.name == name and fits:
            found = entry.target
    return found
