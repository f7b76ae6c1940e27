"""What a runtime's adapter is, and what it gives and gets.

An adapter is a module with the members of ``Runtime``. It never imports its runtime (devices carry these under vendor
names): it recognises sessions by what they can do. ``device_sdk.runtimes.RUNTIMES`` lists the known ones in the order
they are asked.
"""

from __future__ import annotations

import functools
import hashlib
import math
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from device_sdk.contract import attributes as a
from device_sdk.errors import ModelNameError, guard
from device_sdk.points import AttributePairs
from device_sdk.runtimes.failures import classify
from device_sdk.runtimes.loading import Load, Request
from device_sdk.signals.adapter import Adapter
from device_sdk.signals.recorder import Recorder

_HASH_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What a session says about itself, asked once.

    ``requested`` are the execution providers (devices, delegates) that were asked for, the preferred one first;
    ``nodes`` says how many graph nodes each provider was given, and is empty where the runtime does not tell.
    ``nameable`` are all inputs that a run may be given, optional ones too; empty where a run may name them otherwise.
    ``sample_bytes`` are the bytes of one sample's inputs, None where they are not the same for every sample.
    """

    model: str
    version: str
    runtime: str
    runtime_version: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batched: bool
    providers: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    nodes: tuple[tuple[str, int], ...] = ()
    model_path: str | None = None
    digest: str = ""
    nameable: tuple[str, ...] = ()
    sample_bytes: int | None = None

    @property
    def provider(self) -> str:
        """The provider with most nodes; without placement the first one that is registered."""
        if self.nodes:
            return max(self.nodes, key=lambda item: item[1])[0]
        return self.providers[0] if self.providers else "unknown"

    @property
    def run(self) -> AttributePairs:
        """Attributes of every run."""
        return (
            (a.MODEL_NAME, self.model),
            (a.MODEL_VERSION, self.version),
            (a.RUNTIME_NAME, self.runtime),
            (a.RUNTIME_VERSION, self.runtime_version),
            (a.PROVIDER_NAME, self.provider),
        )

    def samples_of(self, feed: Mapping[str, Any], result: Sequence[Any] | Mapping[str, Any] | None) -> int:
        """Return the number of samples of one run: the length of the batch axis, 1 without such an axis."""
        first = feed.get(self.inputs[0]) if self.inputs else None
        if not isinstance(first, np.ndarray) or first.ndim < 2:
            return 1
        if self.batched:
            return int(first.shape[0])
        listed = result.values() if isinstance(result, Mapping) else result
        answers: list[Any] = []
        if isinstance(listed, Iterable) and not isinstance(listed, Iterator):  # an iterator is the host's to use up
            answers = list(listed)
        same = bool(answers) and isinstance(answers[0], np.ndarray) and answers[0].shape[:1] == first.shape[:1]
        return int(first.shape[0]) if same else 1


class Probe:
    """What an adapter hands the calls of one session to, to be measured.

    Its recorder, made by ``new_recorder``, retires when the last function (or session) that holds the probe is let go
    of.
    """

    def __init__(self, new_recorder: Callable[[], Recorder], facts: Facts, route: str = "") -> None:
        self._new_recorder = new_recorder
        self._route = route
        self.recorder = recorder = new_recorder()
        self.facts = facts
        recorder.rings.route, recorder.rings.sample_bytes = route, facts.sample_bytes or 0
        self._sizes = recorder.rings.sizes.append if facts.sample_bytes is None else None
        self.reading = Adapter(facts.inputs, facts.outputs, classify, facts.samples_of)
        self._watch = recorder.watcher(self.reading)
        self._left = 0
        weakref.finalize(self, setattr, recorder, "retired", True).atexit = False

    def bind(self, inner: Callable[..., Any], names: Sequence[str] | None = None) -> Callable[..., Any]:
        """Return ``run(output_names, feed, run_options=None)`` that calls and measures ``inner``, tensors included.

        ``names`` is what ``inner`` is asked for where the caller asks for None.
        """
        return self._held(self.recorder.bind(self._sized(inner), self.reading, names))

    def renamed(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Probe:
        """Return this probe for a way to run that has other names for its tensors."""
        return Probe(self._new_recorder, replace(self.facts, inputs=inputs, outputs=outputs), self._route)

    def ran(self, elapsed_ns: int, asked: Sequence[str] | None, feed: Mapping[str, Any], result: Any) -> None:
        """Record a run that has succeeded elsewhere: on another thread, or of tensors that had to be fetched."""
        with guard("recording a run"):
            self._left, _ = self._watch(self._left, elapsed_ns, asked, feed, result)
            if self._sizes is not None:
                self._sizes(size_of(feed))

    def failed(self, elapsed_ns: int, error: BaseException | str, feed: Mapping[str, Any] | None = None) -> None:
        """Record a run that has failed elsewhere: with an exception, or with a runtime's message in a callback."""
        self.recorder.raised(elapsed_ns, error, feed, self.reading)

    def _sized(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``inner``, where it has to be seen how many bytes each of its runs is given."""
        note = self._sizes
        if note is None:
            return inner

        def sized(names: Any, feed: Any, options: Any) -> Any:
            result = inner(names, feed, options)
            with guard("counting input bytes"):
                note(size_of(feed))
            return result

        return sized

    def _held(self, function: Callable[..., Any]) -> Callable[..., Any]:
        vars(function)["_probe"] = self
        return function


@dataclass(frozen=True, slots=True)
class Label:
    """What the caller said about a session when it was wrapped; empty where nothing was said."""

    model: str = ""
    version: str = ""
    path: str | None = None
    requested: tuple[str, ...] = ()


Predict = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Runs a model once, unmeasured: inputs by name to outputs by name."""


class Runtime(Protocol):
    """One runtime: how its sessions are recognised and measured."""

    NAME: str

    def recognises(self, session: object) -> bool:
        """Say whether ``session`` is one of this runtime's."""
        ...

    def attach(self, session: Any, label: Label, desk: Desk) -> Any:
        """Return what behaves as ``session`` and is measured.

        ``desk`` is told the session's facts as soon as they are known. Raises ``ModelNameError`` when neither session
        nor label name the model.
        """
        ...

    def facts_of(self, session: Any, label: Label) -> Facts:
        """Return what an unmeasured session, ready to run, says about itself."""
        ...

    def predictor(self, session: Any) -> Predict:
        """Return what runs an unmeasured session once: a self-test is no inference of the host's."""
        ...

    def request(self, factory: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
        """Return what a call is about to load when it is one of this runtime's, else None."""
        ...

    def version_of(self, session: Any) -> str:
        """Return the version that a session's model declares, '' for none."""
        ...

    def cached(self, session: Any) -> bool | None:
        """Say whether a loaded session came from the runtime's cache of compiled models, None where it cannot know."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an adapter tells what it finds out.

    ``start`` takes a session's facts and returns the probe to measure with, ``loaded`` takes a stage of its loading,
    ``moved`` the facts of a session whose providers have changed since. ``perf_ns`` is the clock to time with.
    """

    start: Callable[[Facts], Probe]
    loaded: Callable[[Load], None]
    moved: Callable[[Probe, Facts], None]
    perf_ns: Callable[[], int]


def sample_bytes(inputs: Iterable[tuple[Sequence[object], int]]) -> int | None:
    """Return the bytes of one sample from each input's (declared shape, bytes an element), None where they may vary.

    A dimension that is not fixed is no positive int. The first one is the batch axis: 1 in all inputs, or open; of
    several inputs only a name in common says that they are of one length.
    """
    total, leading = 0, []
    for shape, element_bytes in inputs:
        rest = [extent for extent in shape[1:] if isinstance(extent, int) and extent > 0]
        if len(shape) < 2 or len(rest) < len(shape) - 1 or element_bytes <= 0:
            return None
        leading.append(shape[0])
        total += math.prod(rest) * element_bytes
    if not leading or any(isinstance(extent, int) and extent > 1 for extent in leading):
        return None
    together = len(leading) == 1 or ((leading[0] == 1 or isinstance(leading[0], str)) and len(set(leading)) == 1)
    return total if together else None


def size_of(feed: Mapping[str, Any]) -> int:
    """Return the bytes of a run's input tensors; text counts by its characters."""
    return sum(_bytes_of(value) for value in feed.values())


def _bytes_of(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return sum(map(_text_length, value.flat)) if value.dtype.kind == "O" else int(value.nbytes)
    if isinstance(value, str | bytes):
        return len(value)
    return sum(map(_bytes_of, value)) if isinstance(value, list | tuple) else np.asarray(value).nbytes


def _text_length(item: object) -> int:
    return len(item) if isinstance(item, str | bytes) else 0


def module_version(module: str, session: object) -> str:
    """Return the version of the runtime's package, or of the one that the session's class is from."""
    found = sys.modules.get(module) or sys.modules.get(type(session).__module__.partition(".")[0])
    return str(getattr(found, "__version__", "unknown"))


def distinct(names: Iterable[str], prefix: str) -> tuple[str, ...]:
    """Return names of tensors that are all there and differ: models may leave them out or use one twice."""
    given = [name or f"{prefix}_{place}" for place, name in enumerate(names)]
    return tuple(name if given.index(name) == place else f"{name}_{place}" for place, name in enumerate(given))


def name_of(path: str | None, label: Label, declared_version: str = "") -> tuple[str, str, str]:
    """Return (model, version, SHA-256 of the file or '') by the label, else the file's stem, its version, its hash."""
    if path is None and not (label.model and label.version):
        missing = [f"{word}=" for word, given in (("model", label.model), ("version", label.version)) if not given]
        raise ModelNameError(
            f"this session does not say which file it was made from: pass {' and '.join(missing)} to wrap()"
        )
    model, version = label.model or Path(path or "").stem, label.version or declared_version
    if version:
        return model, version, ""
    try:
        facts = Path(path or "").stat()
        digest = _sha256(path or "", facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise ModelNameError(f"model file {path}: {error.strerror}; pass version= to wrap()") from None
    return model, digest[:8], digest


@functools.lru_cache(maxsize=16)
def _sha256(path: str, _size: int, _changed_ns: int) -> str:
    """Return a file's SHA-256; of a gigabyte it takes a second, so once for loading and wrapping together."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
