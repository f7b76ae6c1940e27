"""ONNX Runtime: a session that measures itself and otherwise is the session it wraps.

The package is never imported here: devices carry it under vendor names. All ways to run are measured: ``run``,
``run_with_iobinding``, ``run_with_ort_values`` and ``run_async``, whose callback comes on a thread of the runtime's.
"""

from __future__ import annotations

import contextlib
import math
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from device_sdk.contract.attributes import LoadStage
from device_sdk.errors import guard
from device_sdk.runtimes.adapter import Desk, Facts, Label, Predict, Probe, module_version, name_of, sample_bytes
from device_sdk.runtimes.loading import Request, argument, module_of, path_in
from device_sdk.runtimes.proxy import MeasuredProxy

NAME: Final = "onnxruntime"
_INT64_MAX: Final = 2**63 - 1
_RECORD_PLACEMENT: Final = "session.record_ep_graph_assignment_info"
_ELEMENT_BYTES: Final = {
    f"tensor({name})": width
    for width, names in {
        1: "bool int8 uint8 float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz",
        2: "float16 bfloat16 int16 uint16",
        4: "float int32 uint32",
        8: "double int64 uint64 complex64",
        16: "complex128",
    }.items()
    for name in names.split()
}
_VIEWED_ELEMENTS_MAX: Final = 1 << 20
"""Largest ``OrtValue`` that is looked at."""


def recognises(session: object) -> bool:
    """Say whether an object looks like an inference session of ONNX Runtime or of one of its vendor builds."""
    return all(callable(getattr(session, name, None)) for name in ("run", "get_inputs", "get_outputs"))


def attach(session: Any, label: Label, desk: Desk) -> MeasuredProxy:
    """Return the session, measured."""
    probe = desk.start(facts_of(session, label))
    members = {"run": probe.bind(session.run, _all_outputs(session, probe.facts))}
    for name, measured in (
        ("run_with_iobinding", _measured_iobinding),
        ("run_with_ort_values", _measured_ort_values),
        ("run_async", _measured_async),
    ):
        original = getattr(session, name, None)
        if callable(original):
            members[name] = measured(original, probe)
    if callable(getattr(type(session), "set_providers", None)):
        members["set_providers"] = _watched_providers(session, probe, label, desk.moved)
    return MeasuredProxy(session, members)


def _watched_providers(
    session: Any, probe: Probe, label: Label, moved: Callable[[Probe, Facts], None]
) -> Callable[..., None]:
    """Return ``set_providers`` that tells where the graph is then.

    ONNX Runtime calls its session's own when a provider fails in a run, and goes on with fewer: that one is watched in
    the session's place, and what was asked for stays what it was.
    """
    mine, kind, before = weakref.ref(session), type(session), replace(label, requested=probe.facts.requested)

    def told(again: Label, providers: Any, provider_options: Any) -> None:
        kind.set_providers(mine(), providers, provider_options)
        with guard("reading a session's new placement"):
            moved(probe, replace(facts_of(mine(), again), model=probe.facts.model, version=probe.facts.version))

    with contextlib.suppress(AttributeError):  # a session with slots keeps its own, unwatched
        session.set_providers = lambda providers=None, provider_options=None: told(before, providers, provider_options)

    def set_providers(providers: Any = None, provider_options: Any = None) -> None:
        told(replace(label, requested=_provider_names(providers)), providers, provider_options)

    return set_providers


def _provider_names(providers: Any) -> tuple[str, ...]:
    """Return the names in a list of providers, which may be (name, options) pairs."""
    listed = (providers,) if isinstance(providers, str) else providers or ()
    return tuple(str(item[0] if isinstance(item, tuple) else item) for item in listed)


def predictor(session: Any) -> Predict:
    """Return what runs a session once, unmeasured."""
    names = [item.name for item in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(None, dict(feed)), strict=True))


def request(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
    """Return what ``InferenceSession(...)`` is about to load; it is asked to record which nodes each provider gets."""
    if not isinstance(factory, type) or "InferenceSession" not in {kind.__name__ for kind in factory.__mro__}:
        return None
    requested = _provider_names(argument(args, kwargs, 2, "providers"))
    options, more = argument(args, kwargs, 1, "sess_options"), dict(kwargs)
    if options is None and len(args) < 2:
        module = sys.modules.get(module_of(factory).partition(".")[0])
        make = getattr(module, "SessionOptions", None)
        more["sess_options"] = options = make() if callable(make) else None
    if hasattr(options, "add_session_config_entry"):
        options.add_session_config_entry(_RECORD_PLACEMENT, "1")
    return Request(NAME, LoadStage.CREATE, path_in(argument(args, kwargs, 0, "path_or_bytes")), requested, more)


def version_of(session: Any) -> str:
    """Return the version in the model's metadata, '' for a converter's 0 or int64 maximum."""
    with guard("reading the model's metadata"):
        declared = int(session.get_modelmeta().version)
        return "" if declared in (0, _INT64_MAX) else str(declared)
    return ""


def cached(session: Any) -> bool | None:  # noqa: ARG001 - part of the interface
    """Return None: the runtime does not say."""
    return None


def facts_of(session: Any, label: Label) -> Facts:
    """Return what a session says about itself."""
    path = getattr(session, "_model_path", None)
    model, version, digest = name_of(str(path) if path else None, label, version_of(session))
    inputs, outputs = session.get_inputs(), session.get_outputs()
    first_axis = inputs[0].shape[0] if inputs and inputs[0].shape else None
    providers = _providers(session)
    return Facts(
        model=model,
        version=version,
        runtime=NAME,
        runtime_version=module_version("onnxruntime", session),
        inputs=tuple(item.name for item in inputs),
        outputs=tuple(item.name for item in outputs),
        batched=not isinstance(first_axis, int) or first_axis == 1,
        providers=providers,
        requested=label.requested or providers,
        model_path=str(path) if path else None,
        digest=digest,
        nameable=_nameable(session, inputs),
        nodes=_nodes(session),
        sample_bytes=sample_bytes((item.shape, _ELEMENT_BYTES.get(item.type, 0)) for item in inputs),
    )


def _nodes(session: Any) -> tuple[tuple[str, int], ...]:
    """Return the nodes by provider; empty unless the session was asked to record them, and by builds that cannot."""
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    counts: dict[str, int] = {}
    try:
        for part in ask() if callable(ask) else ():
            counts[str(part.ep_name)] = counts.get(str(part.ep_name), 0) + len(part.get_nodes())
    except Exception:  # noqa: BLE001 - the runtime's own error class: it was not asked to record
        return ()
    return tuple(counts.items())


def _nameable(session: Any, inputs: list[Any]) -> tuple[str, ...]:
    """Return the names of the inputs and of those that have a value in the model and may be given another."""
    optional = getattr(session, "get_overridable_initializers", None)
    if optional is None:  # a vendor's build may not tell
        return ()
    with guard("reading the session's optional inputs"):
        return tuple(item.name for item in (*inputs, *optional()))
    return ()


def _providers(session: Any) -> tuple[str, ...]:
    with guard("reading the session's providers"):
        return tuple(str(name) for name in session.get_providers())
    return ()


def _all_outputs(session: Any, facts: Facts) -> list[str] | None:
    """Return the names that ONNX Runtime's own ``run`` makes of None in every call: to give them costs it less."""
    module = getattr(getattr(type(session), "run", None), "__module__", None) or ""
    replaced = "run" in getattr(session, "__dict__", ())
    return list(facts.outputs) if module.partition(".")[0] == "onnxruntime" and not replaced else None


def _measured_async(original: Callable[..., Any], probe: Probe) -> Callable[..., Any]:
    """Return ``run_async`` that is timed from the call to the callback; the caller's callback is called as before."""
    perf_ns, lane = probe.recorder.perf_ns, probe.recorder.lane

    def run_async(output_names: Any, input_feed: Any, callback: Any, user_data: Any, run_options: Any = None) -> Any:
        started = perf_ns()

        def called_back(results: Any, user_data: Any, error: str) -> None:
            elapsed = perf_ns() - started
            lane.leave()
            if error:
                probe.failed(elapsed, error, input_feed)
            else:
                probe.ran(elapsed, output_names, input_feed, results)
            callback(results, user_data, error)

        lane.enter()
        try:
            return original(output_names, input_feed, called_back, user_data, run_options)
        except BaseException as error:
            lane.leave(error)
            probe.failed(perf_ns() - started, error, input_feed)
            raise

    return run_async


def _measured_ort_values(original: Callable[..., Any], probe: Probe) -> Callable[..., Any]:
    """Return ``run_with_ort_values`` whose values are looked at in place where they lie in the processor's memory."""
    inner = probe.bind(lambda names, feed, options: _Values(original(names, feed.values_by_name, options)))

    def run_with_ort_values(output_names: Any, input_dict_ort_values: Any, run_options: Any = None) -> Any:
        return inner(output_names, _ValueFeed(input_dict_ort_values), run_options).values

    return run_with_ort_values


def _measured_iobinding(original: Callable[..., Any], probe: Probe) -> Callable[..., Any]:
    """Return ``run_with_iobinding`` whose bound values are looked at in place, once the run is over."""

    def bound_outputs(_names: object, feed: _BoundFeed, options: Any) -> _Values:
        original(feed.binding, options)
        return _Values(feed.binding.get_outputs)

    inner = probe.bind(bound_outputs)

    def run_with_iobinding(iobinding: Any, run_options: Any = None) -> None:
        names = list(getattr(iobinding, "_bound_outputs", ())) or None
        inner(names, _BoundFeed(iobinding), run_options)

    return run_with_iobinding


class _Values(Sequence[Any]):
    """``OrtValue`` results as arrays, made on demand without a copy; None where they cannot be looked at cheaply."""

    __slots__ = ("_fetch", "_values")

    def __init__(self, values: Any) -> None:
        self._fetch = values if callable(values) else None
        self._values = None if callable(values) else values

    @property
    def values(self) -> Any:
        """What the runtime returned."""
        if self._values is None and self._fetch is not None:
            self._values = self._fetch()
        return self._values

    def __getitem__(self, at: Any) -> Any:
        return _viewed(self.values[at])

    def __len__(self) -> int:
        return len(self.values)


class _ValueFeed(Mapping[str, Any]):
    """A feed of ``OrtValue`` as arrays, made on demand and without a copy."""

    __slots__ = ("values_by_name",)

    def __init__(self, values_by_name: Mapping[str, Any]) -> None:
        self.values_by_name = values_by_name

    def __getitem__(self, name: str) -> Any:
        return _viewed(self.values_by_name[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


class _BoundFeed(Mapping[str, Any]):
    """The inputs of a binding as arrays, as far as it shows them: arrays of the caller's and bound ``OrtValue``."""

    __slots__ = ("_arrays", "_bound", "binding")

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self._bound: Mapping[str, Any] = getattr(binding, "_bound_inputs", {})
        self._arrays: Mapping[str, Any] = getattr(binding, "_numpy_obj_references", {})

    def __getitem__(self, name: str) -> Any:
        value = self._bound[name]
        return self._arrays.get(name) if value is None else _viewed(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._bound)

    def __len__(self) -> int:
        return len(self._bound)


def _viewed(value: Any) -> Any:
    """Return an ``OrtValue`` as an array over its own memory.

    None when it lies on a device, is no plain tensor, or of a type that numpy does not have (bfloat16, float8).
    """
    if not value.is_tensor() or value.device_name() != "cpu" or math.prod(value.shape()) > _VIEWED_ELEMENTS_MAX:
        return None
    try:
        return value.numpy()
    except RuntimeError:
        return None
