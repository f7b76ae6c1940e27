"""Which device gets which settings: selectors over cohorts, and the file by which ingest workers know them.

Workers never touch the database: the store process publishes ``DIR/settings.json``, replaced as a whole on every
change, and workers read it again when it changes. ``{"documents": [{"selector": {}, "id": "", "document": ""}]}``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from collector.errors import ConfigError
from device_sdk.contract import attributes as a
from device_sdk.contract import settings as wire

FILE_NAME: Final = "settings.json"
DEVICE: Final = "device"
LABEL: Final = "label."
DIMENSIONS: Final[Mapping[str, str]] = {
    "site": a.SITE,
    "ring": a.RING,
    "firmware": a.FIRMWARE_VERSION,
    "tier": a.TIER,
    "chipset": a.CHIPSET,
    "region": a.REGION,
    "service": a.SERVICE_NAME,
    "service_version": a.SERVICE_VERSION,
    "environment": a.ENVIRONMENT,
}
"""Names of conditions by resource attribute; of two selectors with as many conditions the one that names an earlier
one wins."""
_ORDER: Final = tuple(DIMENSIONS)
_CACHE_MAX: Final = 100_000

Selector = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Document:
    """A document and whom it is for."""

    selector: tuple[tuple[str, str], ...]
    id: str
    text: str

    @property
    def rank(self) -> tuple[Any, ...]:
        """Sorts the most specific first: a device, then more conditions, then the earlier dimensions, then the text."""
        names = [name for name, _ in self.selector]
        places = sorted(_ORDER.index(name) if name in _ORDER else len(_ORDER) for name in names)
        return DEVICE not in names, -len(names), places, self.selector

    def fits(self, device_id: str, cohort: Mapping[str, Any]) -> bool:
        """Say whether every condition holds for a device."""
        return all(_value(name, device_id, cohort) == value for name, value in self.selector)


def _value(name: str, device_id: str, cohort: Mapping[str, Any]) -> str:
    if name == DEVICE:
        return device_id
    key = a.LABEL_PREFIX + name.removeprefix(LABEL) if name.startswith(LABEL) else DIMENSIONS.get(name, "")
    value = cohort.get(key)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def check_selector(selector: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return a selector in canonical order; raises ``ValueError`` that names what may be selected by."""
    for name, value in selector.items():
        label = name.startswith(LABEL) and len(name) > len(LABEL)
        if name != DEVICE and name not in DIMENSIONS and not label:
            known = ", ".join((DEVICE, *DIMENSIONS, LABEL + "<key>"))
            raise ValueError(f"{name!r} is nothing that devices are selected by; known are {known}")
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} = {value!r}: give the text that the device sends, for example tier=cam-v2")
    return tuple(sorted(selector.items()))


def check_document(document: Mapping[str, Any]) -> str:
    """Return a document as it will be served; raises ``ValueError`` that names every entry at fault."""
    if not document:
        raise ValueError(f"a document without settings says nothing; give one of {', '.join(wire.KEYS)}, or remove it")
    problems = [found for key, value in document.items() if (found := wire.problem_with(key, value))]
    if problems:
        raise ValueError("; ".join(problems))
    return wire.canonical(document).decode()


def choose(documents: Iterable[Document], device_id: str, cohort: Mapping[str, Any]) -> Document | None:
    """Return the document of a device: the most specific that fits, None when none does."""
    return min((item for item in documents if item.fits(device_id, cohort)), key=lambda item: item.rank, default=None)


def publish(path: Path, documents: Iterable[Document]) -> None:
    """Replace the file that workers read; raises ``OSError``."""
    listed = [{"selector": dict(item.selector), "id": item.id, "document": item.text} for item in documents]
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump({"documents": listed}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read(path: Path) -> tuple[Document, ...] | None:
    """Return the published documents, the most specific first; None when none ever were; raises ``ConfigError``."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["documents"]
        found = [Document(check_selector(item["selector"]), str(item["id"]), str(item["document"])) for item in listed]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not a readable settings file ({error}); `fleetpulse up` writes it anew") from error
    return tuple(sorted(found, key=lambda item: item.rank))


class SettingsBook:
    """The published documents as one worker knows them; read again when the file changes, kept when it breaks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._documents: tuple[Document, ...] | None = None
        self._chosen: dict[tuple[str, str], str] = {}

    def _renew(self) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            stamp = None
        if stamp == self._stamp:
            return
        try:
            self._documents = read(self._path)
        except ConfigError:
            return  # read again at the next export: it may be this process that could not
        self._stamp = stamp
        self._chosen = {}

    def text_of(self, document_id: str) -> str | None:
        """Return a document by its id."""
        self._renew()
        if document_id == wire.NOTHING_ID:
            return wire.NOTHING.decode()
        return next((item.text for item in self._documents or () if item.id == document_id), None)

    def id_for(self, device_id: str, cohort: str) -> str:
        """Return the id of a device's document; '' when settings were never used here.

        ``cohort`` is canonical JSON of the operator's dimensions. A device that no selector fits gets the id of
        nothing.
        """
        self._renew()
        if self._documents is None:
            return ""
        found = self._chosen.get((device_id, cohort))
        if found is None:
            chosen = choose(self._documents, device_id, json.loads(cohort))
            found = chosen.id if chosen else wire.NOTHING_ID
            if len(self._chosen) >= _CACHE_MAX:
                self._chosen.clear()
            self._chosen[device_id, cohort] = found
        return found
