"""Between the Monitor and the runtimes: names a session, begins to measure it, tells of its loading and placement."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from device_sdk.contract import attributes as a
from device_sdk.contract import events as e
from device_sdk.contract.attributes import LoadStage, Route
from device_sdk.contract.events import Severity
from device_sdk.engine import Engine
from device_sdk.errors import ConfigError, DeviceSdkError, ModelNameError, guard, log_rationed, nearest, swallow
from device_sdk.points import EventAttributes
from device_sdk.runtimes import RUNTIMES, runtime_of
from device_sdk.runtimes.adapter import Desk, Facts, Label, Probe, Runtime, name_of
from device_sdk.runtimes.loading import Load, Request, load_error
from device_sdk.runtimes.placement import fell_back, placed
from device_sdk.selftest.subjects import Subjects, Wrapped
from device_sdk.signals import Signals

SignalsFor = Callable[[str, str | None], Signals]
"""What to watch of a model by name and file."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a caller said about a session."""

    label: Label
    signals: Signals | None = None
    route: str = ""


def given(
    model: str | None,
    version: str | None,
    signals: Signals | None,
    route: str | None,
    requested: str | Sequence[str] | None,
) -> Given:
    """Return what a caller said, checked; raise ``ConfigError`` for what cannot be."""
    listed = () if requested is None else (requested,) if isinstance(requested, str) else requested
    if not isinstance(listed, (list, tuple)):
        raise ConfigError(f"requested={requested!r:.80}: give a provider's name, or a list, the preferred one first")
    if not isinstance(signals, Signals | None):
        raise ConfigError(f"signals={signals!r:.80}: give a Signals, like Signals(output='logits')")
    name, said = ("" if word is None else str(word) for word in (model, version))
    return Given(Label(name, said, requested=tuple(map(str, listed))), signals, route_of(route))


def route_of(route: str | None) -> str:
    """Return a route, '' for none; raise ``ConfigError`` for one that does not exist."""
    try:
        return Route(route) if route else ""
    except ValueError:
        raise ConfigError(f"route={route!r}: {nearest(str(route), list(Route))}") from None


def stage_of(stage: str | None) -> LoadStage | None:
    """Return a stage of loading; raise ``ConfigError`` for one that does not exist."""
    try:
        return LoadStage(stage) if stage else None
    except ValueError:
        raise ConfigError(f"stage={stage!r}: {nearest(str(stage), list(LoadStage))}") from None


@dataclass(frozen=True, slots=True)
class Attacher:
    """Wraps and loads sessions for one Monitor; a disabled one has no engine, and hands back what it is given."""

    engine: Engine | None
    signals_for: SignalsFor
    subjects: Subjects
    shared: object = None
    """What is declared for all models and need not fit each."""

    def wrap(self, session: Any, said: Given) -> Any:
        """Return the session, measured.

        Raises ``ConfigError`` for what is no session, ``ModelNameError`` for one without a name.
        """
        runtime = runtime_of(session)
        if runtime is None:
            known = ", ".join(known.NAME for known in RUNTIMES)
            raise ConfigError(
                f"wrap() takes a session of one of {known}, not {type(session).__name__}; "
                "measure() times any other callable"
            )
        if self.engine is not None and session in self.subjects:  # as load() returns it: runs would count twice
            log_rationed(
                logging.WARNING, "this %s is measured already; it is not wrapped again", type(session).__name__
            )
            return session
        wrapped = Wrapped(runtime, session, said.label)
        if self.engine is None:
            self.subjects.add(session, wrapped)
            return session
        engine = self.engine
        start, moved = functools.partial(self._start, engine, said, wrapped), functools.partial(_place, engine)
        desk = Desk(start, engine.models.loads.add, moved, engine.clock.perf_ns)
        try:
            measured = runtime.attach(session, said.label, desk)
            self.subjects.add(measured, wrapped)
            return measured
        except DeviceSdkError:
            raise
        except Exception as error:  # noqa: BLE001 - the host keeps its working session whatever goes wrong in here
            swallow("wrapping a session", error)
            return session

    def _start(self, engine: Engine, said: Given, wrapped: Wrapped, facts: Facts) -> Probe:
        """Begin to measure a session: its recorder, and its placement."""
        wrapped.facts = facts
        watched = said.signals or self.signals_for(facts.model, facts.model_path)
        if facts.nameable and watched is not self.shared:
            watched.refuse_unknown_names(facts.nameable, facts.outputs)
        probe = Probe(functools.partial(engine.recorder, facts.run, watched), facts, said.route)
        _place(engine, probe, facts)
        return probe

    def load(
        self,
        factory: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        said: Given,
        stage: LoadStage | None,
    ) -> tuple[Any, Given | None]:
        """Call ``factory`` and count how long that took or how it failed.

        Returns what it made and, when that is a session to be wrapped, what is known of it now. ``stage`` is what the
        call is; None leaves it to the runtime's adapter.
        """
        runtime, request = _request(factory, args, kwargs)
        if self.engine is None:
            made = factory(*args, **kwargs)
            label = replace(said.label, path=request.path, requested=said.label.requested or request.requested)
            return made, None if runtime_of(made) is None else replace(said, label=label)
        request, label = _warming(factory) or (request, said.label)
        stage, label = stage or request.stage, _labelled(request, label)
        perf_ns = self.engine.clock.perf_ns
        started = perf_ns()
        name = label.model or Path(label.path or "unknown").stem
        provider = next(iter(label.requested), "")
        try:
            with self.engine.session.loading(name, label.version or "unknown", request.runtime, provider):
                made = factory(*args, **(kwargs if request.kwargs is None else request.kwargs))
        except BaseException as error:
            with guard("counting a failed load"):
                load = Load("", "", request.runtime, label.requested, stage, perf_ns() - started)
                self.engine.models.loads.add(replace(_titled(load, label), error=load_error(error)))
            raise
        elapsed_ns = perf_ns() - started
        session_of = None if stage is LoadStage.WARM_UP else runtime_of(made)
        with guard("counting a load"):
            known = runtime or session_of
            if runtime is None and session_of is not None:  # made by a function of the caller's own
                request = replace(request, runtime=session_of.NAME)
            cached = known.cached(made) if known is not None else None
            load = Load("", "", request.runtime, label.requested, stage, elapsed_ns, cached=cached)
            self.engine.models.loads.add(
                _titled(load, label, "" if session_of is None else session_of.version_of(made))
            )
        return made, None if session_of is None else replace(said, label=label)


def _place(engine: Engine, probe: Probe, facts: Facts) -> None:
    """Tell where the nodes of a graph are: in every window from here on, and in an event."""
    requested, nodes = ",".join(facts.requested), placed(facts.requested, facts.nodes)
    probe.recorder.runs.place(requested, nodes)
    told: EventAttributes = [*facts.run, (a.PROVIDER_REQUESTED, requested)]
    if nodes:
        told.append((a.PROVIDER_NODES, tuple(f"{provider}={count}" for provider, count in nodes)))
    if facts.digest:
        told.append((a.ARTIFACT_HASH, facts.digest))
    elsewhere = fell_back(facts.requested, facts.providers, facts.nodes)
    engine.emit_event(e.MODEL_LOADED, told, severity=Severity.WARN if elsewhere else None)


def _titled(load: Load, label: Label, declared_version: str = "") -> Load:
    """Return the load with the model's name and version, as far as they can be known."""
    try:
        model, version, _ = name_of(label.path, label, declared_version)
    except ModelNameError:  # the file that could not be loaded could not be read for its hash either
        model, version = label.model or Path(label.path or "unknown").stem, label.version or "unknown"
    return replace(load, model=model, version=version)


def _request(
    factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Runtime | None, Request]:
    """Return whose load a call is and what it is about to load."""
    with guard("reading what is loaded"):
        for runtime in RUNTIMES:
            request = runtime.request(factory, args, kwargs)
            if request is not None:
                return runtime, request
    return None, Request("callable", LoadStage.CREATE)


def _labelled(request: Request, label: Label) -> Label:
    """Return the label, completed by what is loaded; raise ``ModelNameError`` when that has no name."""
    path = request.path or label.path
    completed = Label(label.model, label.version, path, label.requested or request.requested)
    if path is None:
        name_of(None, completed)
    return completed


def _warming(factory: Callable[..., Any]) -> tuple[Request, Label] | None:
    """Return what a call of a measured session's own method warms up."""
    probe = getattr(factory, "__dict__", {}).get("_probe")
    if not isinstance(probe, Probe):
        return None
    facts = probe.facts
    label = Label(facts.model, facts.version, requested=facts.requested)
    return Request(facts.runtime, LoadStage.WARM_UP), label
