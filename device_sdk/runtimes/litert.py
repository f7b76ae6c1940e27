"""LiteRT (and TensorFlow Lite): an interpreter whose ``invoke`` and signature runners are measured.

Tensors are read where the interpreter keeps them, after the clock has stopped; no view of them outlives the recording,
because an interpreter refuses to run while somebody holds one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from device_sdk.errors import guard
from device_sdk.locks import SafeLock
from device_sdk.runtimes.adapter import Facts, Label, Predict, Probe, distinct, module_version, name_of
from device_sdk.runtimes.proxy import MeasuredProxy

NAME: Final = "litert"
_DEQUANTISED_ELEMENTS_MAX: Final = 1 << 16


def recognises(session: object) -> bool:
    """Say whether an object looks like an interpreter."""
    members = ("invoke", "allocate_tensors", "get_input_details", "get_output_details", "tensor")
    return all(callable(getattr(session, name, None)) for name in members)


def attach(session: Any, label: Label, start: Callable[[Facts], Probe]) -> MeasuredProxy:
    """Return the interpreter, measured; its facts are asked when its tensors are allocated, or first needed."""
    name_of(label.path, label)  # a nameless model is said now, not at the first run
    measured = _Interpreter(session, label, start)
    members: dict[str, Any] = {"invoke": measured.invoke, "allocate_tensors": measured.allocate_tensors}
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


class _Interpreter:
    """The measured members of one interpreter."""

    def __init__(self, session: Any, label: Label, start: Callable[[Facts], Probe]) -> None:
        self._session = session
        self._label = label
        self._start = start
        self._lock = SafeLock()
        self._probe: Probe | None = None
        self._run: Callable[..., Any] | None = None
        self._feed: _Tensors | None = None

    def allocate_tensors(self) -> Any:
        result = self._session.allocate_tensors()
        with guard("reading an interpreter"):
            self._began()
        return result

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

    def signature_runner(self, signature_key: str | None = None) -> Any:
        with guard("reading an interpreter"):
            if self._probe is None and not _allocated(self._session):
                # As the runner does at its first call: placement is known only then. What fails here fails there.
                with contextlib.suppress(RuntimeError, ValueError):
                    self._session.allocate_tensors()
        runner = self._session.get_signature_runner(signature_key)
        with guard("reading an interpreter"):
            return _measured_runner(runner, self._began())
        return runner

    def _began(self) -> Probe:
        """Return the probe; the first call asks the interpreter for its facts."""
        with self._lock:
            if self._probe is None:
                session = self._session
                facts = facts_of(session, self._label)
                self._probe = self._start(facts)
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


def facts_of(session: Any, label: Label) -> Facts:
    """Return what a session says about itself."""
    model, version, digest = name_of(label.path, label)
    inputs = session.get_input_details()
    signature = list(inputs[0].get("shape_signature", inputs[0]["shape"])) if inputs else []
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
    )


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
