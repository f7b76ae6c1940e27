"""A bench as it is kept: one JSON file a model, runtime and provider in the state directory."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from device_sdk.errors import LabError
from device_sdk.lab.measure import Measured

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured, of which model, where. ``hardware`` is what the machine says of itself."""

    model: str
    version: str
    runtime: str
    runtime_version: str
    provider: str
    hardware: dict[str, str]
    load_s: float
    golden: str | None
    measured: Measured

    @property
    def file_name(self) -> str:
        """The name its baseline is kept under."""
        parts = (self.model, self.runtime, self.provider)  # the version apart: a new one is held against the old
        return "-".join(re.sub(r"[^A-Za-z0-9._]", "_", part)[:64] for part in parts) + ".json"


def to_json(bench: Bench) -> dict[str, Any]:
    """Return a bench as JSON data."""
    return {"format": FORMAT, **asdict(bench)}


def save(bench: Bench, path: Path) -> None:
    """Write a bench where a later one finds it; raise ``LabError`` when the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(to_json(bench)), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise LabError(f"baseline {path}: {error.strerror}; name a writable place with --baseline") from None


def load(path: Path) -> Bench | None:
    """Return the bench of a file, None when there is none; raise ``LabError`` for one that cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise LabError(f"baseline {path}: format {data['format']!r}, this version reads {FORMAT}; make a new one")
        measured = Measured(**{item.name: data["measured"][item.name] for item in fields(Measured)})
        rest = {item.name: data[item.name] for item in fields(Bench) if item.name != "measured"}
        return Bench(measured=measured, **rest)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabError(f"baseline {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"baseline {path}: not a bench ({type(error).__name__}); delete it or make a new one") from None
