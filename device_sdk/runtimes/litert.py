"""LiteRT (and TensorFlow Lite): an interpreter whose ``invoke`` and signature runners are measured.

Tensors are read where the interpreter keeps them, after the clock has stopped; no view of them outlives the recording,
because an interpreter refuses to run while somebody holds one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from device_sdk.contract.attributes import LoadStage
from device_sdk.errors import guard
from device_sdk.locks import SafeLock
from device_sdk.runtimes.adapter import (
    Desk,
    Facts,
    Label,
    Predict,
    Probe,
    distinct,
    module_version,
    name_of,
    sample_bytes,
)
from device_sdk.runtimes.loading import Load, Request, argument, load_error, path_in
from device_sdk.runtimes.proxy import MeasuredProxy

NAME: Final = "litert"
_DELEGATE: Final = "DELEGATE"
_DEQUANTISED_ELEMENTS_MAX: Final = 1 << 16


def recognises(session: object) -> bool:
    """Say whether an object looks like an interpreter."""
    members = ("invoke", "allocate_tensors", "get_input_details", "get_output_details", "tensor")
    return all(callable(getattr(session, name, None)) for name in members)


def attach(session: Any, label: Label, desk: Desk) -> MeasuredProxy:
    """Return the interpreter, measured; its facts are asked when its tensors are allocated, or first needed."""
    name_of(label.path, label)  # a nameless model is said now, not at the first run
    measured = _Interpreter(session, label, desk)
    members: dict[str, Any] = {
        "invoke": measured.invoke,
        "allocate_tensors": measured.allocate_tensors,
        "set_tensor": measured.set_tensor,
    }
    if callable(getattr(session, "get_signature_runner", None)):
        members["get_signature_runner"] = measured.signature_runner
    return MeasuredProxy(session, members)


def predictor(session: Any) -> Predict:
    """Return what runs an interpreter once, unmeasured; the caller sees to it that nobody else runs it meanwhile."""
    session.allocate_tensors()
    inputs, outputs = session.get_input_details(), session.get_output_details()
    names = distinct((str(item["name"]) for item in inputs), "input")
    told = distinct((str(item["name"]) for item in outputs), "output")

    def predict(feed: Mapping[str, Any]) -> dict[str, Any]:
        for name, item in zip(names, inputs, strict=True):
            session.set_tensor(item["index"], feed[name])
        session.invoke()
        return {name: session.get_tensor(item["index"]) for name, item in zip(told, outputs, strict=True)}

    return predict


def request(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
    """Return what ``Interpreter(...)`` is about to load."""
    if not isinstance(factory, type) or "Interpreter" not in {kind.__name__ for kind in factory.__mro__}:
        return None
    delegates = argument(args, kwargs, 2, "experimental_delegates") or ()
    path = path_in(argument(args, kwargs, 0, "model_path"))
    return Request(NAME, LoadStage.CREATE, path, tuple(map(_delegate_name, delegates)), kwargs)


def version_of(session: Any) -> str:  # noqa: ARG001 - part of the interface
    """Return '': these models declare none."""
    return ""


def cached(session: Any) -> bool | None:  # noqa: ARG001 - part of the interface
    """Return None: the runtime does not say."""
    return None


def _delegate_name(delegate: Any) -> str:
    """Return the file name of a delegate's library without its endings."""
    library = str(getattr(getattr(delegate, "_library", None), "_name", "") or type(delegate).__name__)
    return Path(library).name.partition(".")[0]


class _Interpreter:
    """The measured members of one interpreter."""

    def __init__(self, session: Any, label: Label, desk: Desk) -> None:
        self._session = session
        self._label = label
        self._desk = desk
        self._delegated = 0 if _allocated(session) else _delegate_nodes(session)
        self._lock = SafeLock()
        self._probe: Probe | None = None
        self._run: Callable[..., Any] | None = None
        self._feed: _Tensors | None = None
        self._runners: dict[str | None, MeasuredRunner] = {}

    def allocate_tensors(self) -> Any:
        perf_ns = self._desk.perf_ns
        started = perf_ns()
        try:
            result = self._session.allocate_tensors()
        except BaseException as error:
            with guard("counting a failed load"):
                self._tell(perf_ns() - started, load_error(error))
            raise
        with guard("reading an interpreter"):
            elapsed_ns = perf_ns() - started
            if self._probe is None:
                self._began()
                self._tell(elapsed_ns)
        return result

    def _tell(self, elapsed_ns: int, error: str = "") -> None:
        model, version, _ = name_of(self._label.path, self._label)
        requested = self._label.requested or ("CPU",)
        self._desk.loaded(Load(model, version, NAME, requested, LoadStage.COMPILE, elapsed_ns, error=error))

    def invoke(self) -> None:
        run = self._run
        if run is None:
            with guard("reading an interpreter"):
                self._began()
            run = self._run
            if run is None:
                self._session.invoke()
                return
        run(None, self._feed, None)

    def set_tensor(self, tensor_index: int, value: Any) -> None:
        """Set a tensor; one of the wrong shape or type fails here, and counts as the failed run it ends in."""
        try:
            self._session.set_tensor(tensor_index, value)
        except BaseException as error:
            with guard("counting a failed run"):
                self._began().failed(0, error)
            raise

    def signature_runner(self, signature_key: str | None = None) -> Any:
        known = self._runners.get(signature_key)
        if known is not None:  # some programs ask for it at every run: that must not start a recorder each
            return known
        with guard("reading an interpreter"):
            if self._probe is None and not _allocated(self._session):
                # As the runner does at its first call: placement is known only then. What fails here fails there.
                with contextlib.suppress(RuntimeError, ValueError):
                    self._session.allocate_tensors()
        runner = self._session.get_signature_runner(signature_key)
        with guard("reading an interpreter"):
            return self._runners.setdefault(signature_key, _measured_runner(runner, self._began()))
        return runner

    def _began(self) -> Probe:
        """Return the probe; the first call asks the interpreter for its facts."""
        with self._lock:
            if self._probe is None:
                session = self._session
                facts = facts_of(session, self._label, self._delegated)
                self._probe = self._desk.start(facts)
                self._feed = _Tensors(session, facts.inputs, session.get_input_details())
                answers = _Answers(session, session.get_output_details())
                self._run = self._probe.bind(_inner(session, answers))
            return self._probe


def _inner(session: Any, answers: _Answers) -> Callable[..., Any]:
    invoke = session.invoke

    def inner(_names: object, _feed: object, _options: object) -> _Answers:
        invoke()
        return answers

    return inner


def _allocated(session: Any) -> bool:
    try:
        session.tensor(session.get_input_details()[0]["index"])()
    except (ValueError, IndexError):  # no memory yet, or no input
        return False
    return True


def facts_of(session: Any, label: Label, delegated: int = 0) -> Facts:
    """Return what a session says about itself; ``delegated`` as for ``_nodes``."""
    model, version, digest = name_of(label.path, label)
    inputs = session.get_input_details()
    signature = _declared(inputs[0]) if inputs else []
    return Facts(
        model=model,
        version=version,
        runtime=NAME,
        runtime_version=module_version("ai_edge_litert", session),
        inputs=distinct((str(item["name"]) for item in inputs), "input"),
        outputs=distinct((str(item["name"]) for item in session.get_output_details()), "output"),
        batched=bool(signature) and signature[0] in (-1, 1),
        providers=("CPU",),
        requested=label.requested or ("CPU",),
        model_path=label.path,
        digest=digest,
        nodes=_nodes(session, label.requested[0] if label.requested else "", delegated),
        sample_bytes=sample_bytes((_declared(item), np.dtype(item["dtype"]).itemsize) for item in inputs),
    )


def _declared(item: Mapping[str, Any]) -> list[int]:
    signature = item.get("shape_signature")
    return [int(extent) for extent in (item["shape"] if signature is None or not len(signature) else signature)]


def _operators(session: Any) -> list[Mapping[str, Any]]:
    ask = getattr(session, "_get_ops_details", None)
    return list(ask()) if callable(ask) else []


def _delegate_nodes(session: Any) -> int:
    return sum(item["op_name"] == _DELEGATE for item in _operators(session))


def _nodes(session: Any, delegate: str, delegated: int) -> tuple[tuple[str, int], ...]:
    """Return how many operators of the model the caller's delegate, XNNPACK and the plain kernels were given.

    A delegate's node stands for the operators between its inputs and its outputs. The first ``delegated`` of these
    nodes were there before tensors were allocated: the caller's delegate made them, XNNPACK comes with allocation.
    """
    operators = _operators(session)
    plain = [item for item in operators if item["op_name"] != _DELEGATE]
    makers = {int(tensor): at for at, item in enumerate(plain) for tensor in item["outputs"]}
    counts: dict[str, int] = {}
    for place, node in enumerate(item for item in operators if item["op_name"] == _DELEGATE):
        name = delegate if delegate and place < delegated else "XNNPACK"
        counts[name] = counts.get(name, 0) + len(_between(node, plain, makers))
    left = len(plain) - sum(counts.values())
    if left > 0 and operators:
        counts["CPU"] = left
    return tuple(counts.items())


def _between(node: Mapping[str, Any], plain: list[Mapping[str, Any]], makers: Mapping[int, int]) -> set[int]:
    """Return the operators that lead from a node's inputs to its outputs."""
    given, found = {int(tensor) for tensor in node["inputs"]}, set()
    open_tensors = [int(tensor) for tensor in node["outputs"]]
    while open_tensors:
        tensor = open_tensors.pop()
        maker = makers.get(tensor)
        if tensor not in given and maker is not None and maker not in found:
            found.add(maker)
            open_tensors += [int(item) for item in plain[maker]["inputs"]]
    return found


class _Tensors(Mapping[str, Any]):
    """The input tensors by name, as views made on demand."""

    def __init__(self, session: Any, names: Sequence[str], details: Sequence[Mapping[str, Any]]) -> None:
        self._views = {name: session.tensor(item["index"]) for name, item in zip(names, details, strict=True)}

    def __getitem__(self, name: str) -> Any:
        try:
            return self._views[name]()
        except ValueError:  # not allocated
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


@dataclass(frozen=True, slots=True)
class _Scale:
    """How a quantised tensor's integers are read as numbers."""

    scale: float
    zero: int

    @staticmethod
    def of(details: Mapping[str, Any]) -> _Scale | None:
        """Return the scale of a tensor that has one for all its elements."""
        scale, zero = details.get("quantization", (0.0, 0))
        integer = np.dtype(details["dtype"]).kind in "iu"
        return _Scale(float(scale), int(zero)) if scale and integer else None

    def read(self, tensor: Any) -> Any:
        if tensor.size > _DEQUANTISED_ELEMENTS_MAX:
            return tensor
        return (tensor.astype(np.float32) - self.zero) * np.float32(self.scale)


class _Answers(Sequence[Any]):
    """The output tensors in order, as views made on demand; quantised ones as the numbers they stand for."""

    def __init__(self, session: Any, details: Sequence[Mapping[str, Any]]) -> None:
        self._views = [session.tensor(item["index"]) for item in details]
        self._scales = [_Scale.of(item) for item in details]

    def __getitem__(self, at: Any) -> Any:
        view, scale = self._views[at](), self._scales[at]
        return view if scale is None else scale.read(view)

    def __len__(self) -> int:
        return len(self._views)


class _Named(Mapping[str, Any]):
    """What a signature runner answered, quantised outputs as the numbers they stand for."""

    __slots__ = ("_scales", "whole")

    def __init__(self, whole: Mapping[str, Any], scales: Mapping[str, _Scale | None]) -> None:
        self.whole = whole
        self._scales = scales

    def __getitem__(self, name: str) -> Any:
        value, scale = self.whole[name], self._scales.get(name)
        return value if scale is None else scale.read(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)


def _measured_runner(runner: Any, probe: Probe) -> MeasuredRunner:
    """Return a signature runner that is measured under the signature's own names."""
    inputs = tuple(runner.get_input_details())
    scales = {name: _Scale.of(item) for name, item in runner.get_output_details().items()}
    named = probe.renamed(inputs, tuple(scales))
    inner = named.bind(lambda _names, feed, _options: _Named(runner(**feed), scales))
    return MeasuredRunner(runner, inner)


class MeasuredRunner(MeasuredProxy):
    """A signature runner that is measured."""

    def __init__(self, runner: Any, run: Callable[..., Any]) -> None:
        super().__init__(runner, {"_run": run})

    def __call__(self, **inputs: Any) -> Any:
        """Run the signature."""
        return self._run(None, inputs, None).whole
