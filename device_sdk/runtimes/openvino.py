"""OpenVINO: compiled models, infer requests (synchronous and asynchronous) and queues of them.

A measured model or request is an instance of a subclass made from the session's own class, so that it can be passed to
the runtime like any other. Tensors are read where the request keeps them.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from device_sdk.contract.attributes import LoadStage
from device_sdk.errors import guard
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
from device_sdk.runtimes.loading import Request, argument, module_of, path_in
from device_sdk.runtimes.proxy import MeasuredProxy

NAME: Final = "openvino"
_NOT_EXECUTED: Final = ("Input", "Output", "Const")


def recognises(session: object) -> bool:
    """Say whether an object looks like a compiled model, an infer request, or a queue of requests."""
    return any(
        all(callable(getattr(session, name, None)) for name in members)
        for members in (("create_infer_request", "get_property"), ("infer", "start_async"), ("start_async", "wait_all"))
    )


def attach(session: Any, label: Label, desk: Desk) -> Any:
    """Return the session, measured."""
    if hasattr(session, "create_infer_request"):
        return _measured_model(session, desk.start(facts_of(session, label)))
    if hasattr(session, "wait_all"):
        return MeasuredQueue(session, desk.start(facts_of(session[0].get_compiled_model(), label)))
    probe = desk.start(facts_of(session.get_compiled_model(), label))
    return _request_kind(type(session), probe, _bound(probe))(session)


def request(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
    """Return what ``Core.read_model``, ``compile_model`` (the function too) or ``import_model`` is about to load."""
    name = getattr(factory, "__name__", "")
    if module_of(factory).partition(".")[0] != NAME or name not in ("read_model", "compile_model", "import_model"):
        return None
    path = path_in(argument(args, kwargs, 0, "model"))
    if name == "read_model":
        return Request(NAME, LoadStage.READ, path, (), kwargs)
    device = str(argument(args, kwargs, 1, "device_name") or "AUTO")
    stage = LoadStage.COMPILE if name == "compile_model" and path is None else LoadStage.CREATE
    return Request(NAME, stage, path, (device,), kwargs)


def version_of(session: Any) -> str:  # noqa: ARG001 - part of the interface
    """Return '': these models declare none."""
    return ""


def cached(session: Any) -> bool | None:
    """Say whether the runtime took a compiled model from its cache; not every device tells."""
    with guard("reading whether the model was cached"):
        if hasattr(session, "get_property") and "LOADED_FROM_CACHE" in session.get_property("SUPPORTED_PROPERTIES"):
            return bool(session.get_property("LOADED_FROM_CACHE"))
    return None


def predictor(session: Any) -> Predict:
    """Return what runs a model (or a queue's, or a request's) once, unmeasured, on a request of its own."""
    session = session[0] if hasattr(session, "wait_all") else session
    compiled = session if hasattr(session, "create_infer_request") else session.get_compiled_model()
    request = compiled.create_infer_request()
    names, told = _names(compiled.inputs, "input"), _names(compiled.outputs, "output")

    def predict(feed: Mapping[str, Any]) -> dict[str, Any]:
        answers = request.infer({port: feed[name] for port, name in zip(compiled.inputs, names, strict=True)})
        return {name: answers[port] for port, name in zip(compiled.outputs, told, strict=True)}

    return predict


def facts_of(compiled: Any, label: Label) -> Facts:
    """Return what a compiled model says about itself."""
    model, version, digest = name_of(label.path, label)
    devices = _devices(compiled)
    return Facts(
        model=model,
        version=version,
        runtime=NAME,
        runtime_version=module_version("openvino", compiled).partition("-")[0],
        inputs=_names(compiled.inputs, "input"),
        outputs=_names(compiled.outputs, "output"),
        batched=_leading_axis_is_batch(compiled.inputs),
        providers=devices,
        requested=label.requested or devices,
        model_path=label.path,
        digest=digest,
        nodes=_nodes(compiled, devices),
        sample_bytes=sample_bytes(_declared(port) for port in compiled.inputs),
    )


def _nodes(compiled: Any, devices: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Return how many nodes the device executes; where several devices share a model the runtime does not tell."""
    if len(devices) != 1 or not hasattr(compiled, "get_runtime_model"):
        return ()
    with guard("counting a model's nodes"):
        nodes = compiled.get_runtime_model().get_ordered_ops()
        return ((devices[0], sum(node.get_rt_info()["layerType"].astype(str) not in _NOT_EXECUTED for node in nodes)),)
    return ()


def _declared(port: Any) -> tuple[list[object], int]:
    """Return a port's shape (None where it is open) and the bytes of an element."""
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return [], 0
    extents: list[object] = [None if extent.is_dynamic else extent.get_length() for extent in shape]
    return extents, int(port.get_element_type().size)


def _leading_axis_is_batch(ports: Sequence[Any]) -> bool:
    shape = ports[0].get_partial_shape() if ports else None
    if shape is None or shape.rank.is_dynamic:
        return shape is not None
    return len(shape) > 0 and (shape[0].is_dynamic or shape[0].get_length() == 1)


def _names(ports: Sequence[Any], prefix: str) -> tuple[str, ...]:
    """Return a name for each port: its node's where that is one of the tensor's names, else any of these."""
    names = []
    for port in ports:
        own, known = port.get_node().get_friendly_name(), port.get_names()
        names.append(own if own in known else min(known, default=""))
    return distinct(names, prefix)


def _devices(compiled: Any) -> tuple[str, ...]:
    """Return the devices that run the model; one in brackets only stands in until another is ready."""
    with guard("reading the model's devices"):
        return tuple(str(name).strip("()") for name in compiled.get_property("EXECUTION_DEVICES"))
    return ()


def _measured_model(compiled: Any, probe: Probe) -> Any:
    base: Any = type(compiled)
    kind_of: Callable[[Any], Any] = functools.cache(functools.partial(_request_kind, probe=probe, run=_bound(probe)))

    class MeasuredModel(base):  # type: ignore[misc]
        """A compiled model whose requests are measured."""

        def create_infer_request(self) -> Any:
            request = super().create_infer_request()
            return kind_of(type(request))(request)

    return _named_as(MeasuredModel, base)(compiled, getattr(compiled, "_weights", None))


def _named_as(kind: Any, base: Any) -> Any:
    kind.__name__, kind.__qualname__, kind.__module__ = base.__name__, base.__qualname__, base.__module__
    return kind


def _bound(probe: Probe) -> Callable[..., Any]:
    """Return the one measured way of all synchronous runs of a model, whichever request they are on."""
    return probe.bind(lambda _names, _feed, call: _Answer(call()))


def _request_kind(base: Any, probe: Probe, run: Callable[..., Any]) -> Any:
    """Return the class of measured requests of one model."""

    class MeasuredRequest(base):  # type: ignore[misc]
        """An infer request that is measured; an asynchronous run when it is waited for or its callback comes."""

        def __init__(self, other: Any) -> None:
            super().__init__(other)
            self._flight = _Flight(probe)

        def infer(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
            infer = super().infer
            return run(None, _Feed(self, inputs, probe), lambda: infer(inputs, *args, **kwargs)).whole

        def start_async(self, inputs: Any = None, *args: Any, **kwargs: Any) -> None:
            self._flight.abandoned(self, super().wait_for)
            self._flight.started(_Feed(self, inputs, probe))
            with self._flight.watching(self):
                super().start_async(inputs, *args, **kwargs)

        def wait(self) -> None:
            with self._flight.watching(self):
                super().wait()
            self._flight.landed(self)

        def wait_for(self, timeout: int) -> bool:
            with self._flight.watching(self):
                over = bool(super().wait_for(timeout))
            if over:
                self._flight.landed(self)
            return over

        def set_callback(self, callback: Any, userdata: Any) -> None:
            super().set_callback(_called_back(self, self._flight, callback), userdata)

    return _named_as(MeasuredRequest, base)


class _Flight:
    """The asynchronous run of one request that is under way; recorded once, whoever sees its end first."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._under_way: list[tuple[int, _Feed]] = []

    def started(self, feed: _Feed) -> None:
        self._probe.recorder.lane.enter()
        self._under_way.append((self._probe.recorder.perf_ns(), feed))

    def landed(self, request: Any, error: BaseException | None = None) -> None:
        """Record the run under way, if there is one, as ended with or without an error."""
        with guard("recording a run"):
            try:
                started_ns, feed = self._under_way.pop()
            except IndexError:
                return
            self._probe.recorder.lane.leave(error)
            if error is not None:
                self._probe.failed(self._probe.recorder.perf_ns() - started_ns, error, feed)
            else:
                self._probe.ran(_latency_ns(request), None, feed, _Outputs(request, self._probe))

    def abandoned(self, request: Any, wait_for: Callable[[int], bool]) -> None:
        """Record a run that nobody waited for; one that is not over has no latency and no outputs yet."""
        try:
            if self._under_way and wait_for(0):
                self.landed(request)
        except Exception as error:  # noqa: BLE001 - how the earlier run ended is no reason for the next not to start
            self.landed(request, error)

    @contextlib.contextmanager
    def watching(self, request: Any) -> Iterator[None]:
        """Record what the runtime raises inside as the end of the run."""
        try:
            yield
        except BaseException as error:
            self.landed(request, error)
            raise


def _called_back(request: Any, flight: _Flight, callback: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return a callback that records the run before the caller's own is called; it keeps no request alive."""
    mine = weakref.ref(request)

    def called_back(data: Any) -> None:
        if (alive := mine()) is not None:
            flight.landed(alive)
        callback(data)

    return called_back


def _latency_ns(request: Any) -> int:
    """Return how long the request's last run took, by the runtime's own clock (it says milliseconds)."""
    return int(request.latency * 1e6)


class _Answer(Sequence[Any]):
    """Results in the order of the outputs, and the dictionary that the runtime returned."""

    __slots__ = ("whole",)

    def __init__(self, whole: Any) -> None:
        self.whole = whole

    def __getitem__(self, at: Any) -> Any:
        return self.whole.to_tuple()[at]

    def __len__(self) -> int:
        return len(self.whole)


class _Outputs(Sequence[Any]):
    """Results of a request as views made on demand, good until its next run."""

    def __init__(self, request: Any, probe: Probe) -> None:
        self._request = request
        self._count = len(probe.facts.outputs)

    def __getitem__(self, at: Any) -> Any:
        return self._request.get_output_tensor(at).data

    def __len__(self) -> int:
        return self._count


class _Feed(Mapping[str, Any]):
    """The inputs of a run by name: what the caller passed where that is an array, else the request's own tensor."""

    __slots__ = ("_inputs", "_names", "_request")

    def __init__(self, request: Any, inputs: Any, probe: Probe) -> None:
        self._request = request
        self._inputs = inputs
        self._names = probe.facts.inputs

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        at = self._names.index(name)
        passed = _passed(self._inputs, at, name)
        return passed if hasattr(passed, "dtype") else self._request.get_input_tensor(at).data

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _passed(inputs: Any, at: int, name: str) -> Any:
    """Return one of the inputs that a caller passed: as one array, a sequence, or a mapping by name, place or port."""
    if isinstance(inputs, Mapping):
        by_port = (value for key, value in inputs.items() if hasattr(key, "get_names") and name in key.get_names())
        return inputs[name] if name in inputs else inputs[at] if at in inputs else next(by_port, None)
    if isinstance(inputs, list | tuple):
        return inputs[at] if at < len(inputs) else None
    return inputs if at == 0 else None


class _Job(NamedTuple):
    """What a queue carries along with one run."""

    feed: Any
    userdata: Any


class MeasuredQueue(MeasuredProxy):
    """A queue of requests that is measured; wrap it before ``set_callback``."""

    def __init__(self, queue: Any, probe: Probe) -> None:
        self.__dict__["_callback"] = None
        super().__init__(queue, {"_probe": probe})
        mine = weakref.ref(self)

        def called_back(request: Any, job: Any) -> None:
            probe.recorder.lane.leave()
            probe.ran(_latency_ns(request), None, _Feed(request, job.feed, probe), _Outputs(request, probe))
            owner = mine()
            if owner is not None and owner.__dict__["_callback"] is not None:
                owner.__dict__["_callback"](request, job.userdata)

        queue.set_callback(called_back)

    def set_callback(self, funct: Any) -> None:
        """Have ``funct(request, userdata)`` called at the end of each run."""
        self.__dict__["_callback"] = funct

    @property
    def userdata(self) -> list[Any]:
        """What was passed along with the last run of each request."""
        return [job.userdata if isinstance(job, _Job) else job for job in self._session.userdata]

    def start_async(self, inputs: Any = None, userdata: Any = None, share_inputs: bool = False) -> None:
        """Run on the next idle request."""
        self._probe.recorder.lane.enter()
        try:
            self._session.start_async(inputs, _Job(inputs, userdata), share_inputs)
        except BaseException as error:
            self._probe.recorder.lane.leave(error)
            self._probe.failed(0, error)
            raise

    def wait_all(self) -> None:
        """Wait for all runs under way; raise what one of them raised."""
        try:
            self._session.wait_all()
        except BaseException as error:
            self._probe.recorder.lane.leave(error)
            self._probe.recorder.lane.give_up()  # of others that failed no callback comes
            self._probe.failed(0, error)
            raise

    def __len__(self) -> int:
        return len(self._session)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._session)

    def __getitem__(self, at: int) -> Any:
        return self._session[at]
