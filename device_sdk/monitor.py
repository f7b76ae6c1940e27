"""The one object a device program uses: wrap a session, run as before, close."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

from device_sdk.attaching import Attacher, Given, given, route_of, stage_of
from device_sdk.clock import Clock
from device_sdk.config import Config, resolve
from device_sdk.consent import LaterMeasure, Switches, asking, behind, discard_state
from device_sdk.contract import attributes as a
from device_sdk.contract.attributes import EndReason, SelftestTrigger
from device_sdk.engine import Engine
from device_sdk.errors import ConfigError, DeviceSdkError, guard, nearest, swallow
from device_sdk.lifecycle.leaving import close_at_exit
from device_sdk.lifecycle.updates import Untold, Update, new_pending
from device_sdk.meters import ApplicationMeter
from device_sdk.pipeline import Pipeline
from device_sdk.points import AttributePairs
from device_sdk.privacy import sendable_names
from device_sdk.runtimes.callables import CallableMeasure, Measure, Unmeasured, told_apart
from device_sdk.selftest import Golden, PreProcess, SelftestResult
from device_sdk.selftest.standing import untold
from device_sdk.selftest.subjects import Subjects, checked
from device_sdk.signals import Signals, load_signals, signals_beside
from device_sdk.signals.recorder import Recorder
from device_sdk.stated import clock_of

_S = TypeVar("_S")


class Monitor:
    """Observes this program's inferences and session, and sends summaries of them; never data.

    ``endpoint`` is the collector's base address, ``token`` its bearer token, ``state_dir`` a directory of this
    Monitor's own, ``window_s`` the length of a summary window, ``device_id`` an opt-in stable id, ``resource``
    attributes such as ``edge.device.tier``, ``signals`` what to watch (one ``Signals`` for all models or a mapping by
    model name; default: ``<model>.signals.toml`` beside the model file), ``spool`` is ``memory`` or ``durable``,
    ``overhead_budget`` the share of inference time that the SDK may cost before it looks at fewer tensors, ``budgets``
    limits by name (``cpu`` in cores, ``memory`` in bytes, ``temperature`` in Celsius, ``power`` in watts, ``latency``
    in seconds): how long each was kept is counted. The ``privacy_*`` arguments and ``identity_rotation_s`` send less
    than the contract allows (docs/device-sdk.md). Each argument may also come from ``FLEETPULSE_DEVICE_<ARGUMENT>``;
    OpenTelemetry's exporter variables are honoured.

    Construction raises ``ConfigError`` for a value that cannot work and ``StateDirError`` when another Monitor holds
    the directory. Afterwards nothing here raises into, blocks or grows inside the host program.
    """

    meter = ApplicationMeter()

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        window_s: float | None = None,
        device_id: str | None = None,
        resource: Mapping[str, object] | None = None,
        signals: Signals | Mapping[str, Signals] | None = None,
        enabled: bool | None = None,
        spool: Literal["memory", "durable"] | None = None,
        clock: Clock | None = None,
        overhead_budget: float | None = None,
        budgets: Mapping[str, float] | None = None,
        *,
        privacy_min_count: int | None = None,
        privacy_clip: int | None = None,
        privacy_epsilon: float | None = None,
        privacy_epsilon_day: float | None = None,
        identity_rotation_s: int | None = None,
        consent: bool | None = None,
    ) -> None:
        self.config: Config = resolve(
            endpoint=endpoint,
            token=token,
            state_dir=state_dir,
            window_s=window_s,
            device_id=device_id,
            resource=resource,
            enabled=enabled,
            spool=spool,
            overhead_budget=overhead_budget,
            budgets=budgets,
            privacy_min_count=privacy_min_count,
            privacy_clip=privacy_clip,
            privacy_epsilon=privacy_epsilon,
            privacy_epsilon_day=privacy_epsilon_day,
            identity_rotation_s=identity_rotation_s,
            consent=consent,
        )
        self._signals = _declared(signals, self.config)
        self._subjects = Subjects()
        self._clock: Clock = clock_of(clock)
        self._switches = Switches() if self.config.consent is not None else None
        self._turning = threading.Lock()
        self._go(on=self.config.consent is not False)

    def _go(self, *, on: bool) -> None:
        """Observe from here on, or be as one that is disabled."""
        self._engine: Engine | None = _start(self.config, self._clock) if on and self.config.enabled else None
        self._measured: dict[tuple[str, str], Recorder] = {}  # after the engine: see _current_measure
        self._attacher = Attacher(self._engine, self._signals_for, self._subjects, self._signals)
        if self._engine is not None and not self._engine.clock.manual:
            close_at_exit(self._engine)

    # --- what to measure --------------------------------------------------------------------------------------

    def wrap(
        self,
        session: _S,
        model: str | None = None,
        version: str | None = None,
        *,
        signals: Signals | None = None,
        route: str | None = None,
        requested: str | Sequence[str] | None = None,
    ) -> _S:
        """Return a session that behaves as ``session`` and is measured.

        ``model`` defaults to the file's stem, ``version`` to the metadata's unless 0 or the int64 maximum, else to the
        first 8 hex digits of the file's SHA-256. A session that does not know its file must be given both
        (``ModelNameError``). ``signals`` is what to watch of this session, before what the Monitor was given
        (``SignalsError`` names an input or output that the session does not have); ``route`` where it is answered
        (``device``, ``gateway``, ``cloud``, ``fallback``); ``requested`` the execution providers that were asked for,
        the preferred one first, which ``load`` sees by itself.
        """
        return cast(_S, self._switched(session, given(model, version, signals, route, requested)))

    def load(
        self,
        factory: Callable[..., _S],
        /,
        *args: Any,
        model: str | None = None,
        version: str | None = None,
        stage: str | None = None,
        signals: Signals | None = None,
        route: str | None = None,
        requested: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> _S:
        """Call ``factory(*args, **kwargs)``, time it as loading of a model, and return what it made, wrapped.

        ``factory`` is a runtime's own constructor or method, ``InferenceSession`` or ``core.compile_model``; anything
        else needs ``model`` and ``version``. What it raises is counted by its type and passes on unchanged. ``stage``
        is ``create``, ``read``, ``compile`` or ``warm_up`` where the call itself does not say. The other arguments are
        those of ``wrap``.
        """
        said, part = given(model, version, signals, route, requested), stage_of(stage)
        made, known = self._attacher.load(factory, args, kwargs, said, part)
        return cast(_S, made if known is None else self._switched(made, known))

    def measure(self, model: str, version: str = "0", *, samples: int = 1, route: str | None = None) -> Measure:
        """Time any block, function or async function as an inference of ``model``, in ``with`` or as a decorator.

        An exception is counted by its type and passes on unchanged. The run that ``with`` gives takes ``samples``,
        ``route`` and ``input_bytes`` of its own; of a function the bytes are those of its array and bytes arguments.
        """
        current = functools.partial(self._current_measure, model, version, samples, route_of(route))
        return current() if self._switches is None else LaterMeasure(current)

    def _current_measure(self, model: str, version: str, samples: int, route: str) -> Measure:
        measured = self._measured  # before the engine: one of an engine that is gone must not stay in a new book
        engine = self._engine
        if engine is None:
            return Unmeasured()
        model, version = key = told_apart(measured, str(model), str(version))
        recorder = measured.get(key)
        if recorder is None:
            run: AttributePairs = ((a.MODEL_NAME, model), (a.MODEL_VERSION, version), (a.RUNTIME_NAME, "callable"))
            recorder = measured.setdefault(key, engine.recorder(run, Signals(output="none")))
        return CallableMeasure(recorder, samples, route)

    def pipeline(self, model: str, version: str | None = None) -> Pipeline:
        """Time answers of ``model`` from end to end, in ``with`` (then by stages) or as a decorator.

        ``with monitor.pipeline("digits") as answer:`` and inside it blocks ``with answer.pre:``, ``answer.run`` and
        ``answer.post``, in async functions too. An exception is counted by its type under the stage it came from, and
        passes on. ``version`` defaults to that of the model wrapped last under this name, else to 0. Raises
        ``ModelNameError`` for names that cannot be sent.
        """
        sendable_names(((a.MODEL_NAME, model), (a.MODEL_VERSION, "0" if version is None else version)))
        return Pipeline(
            lambda: engine.models.answers.of(str(model), version) if (engine := self._engine) is not None else None,
            self._clock.perf_ns,
        )

    def outcome(
        self, model: str, *, correct: bool, version: str | None = None, output: str | None = None, samples: int = 1
    ) -> None:
        """Say that the true label of ``samples`` answers of a measured model is known by now, and whether it agreed.

        ``version`` defaults to the one wrapped last, ``output`` to the model's first watched one. Never raises: what
        cannot be counted is said in the log.
        """
        if self._engine is not None:
            with guard("counting an outcome"):
                self._engine.models.answers.label(model, version, output, correct=bool(correct), samples=int(samples))

    def selftest(
        self,
        golden: Golden | str | os.PathLike[str],
        session: object,
        model: str | None = None,
        version: str | None = None,
        *,
        preprocess: PreProcess | None = None,
        every_s: float | None = None,
    ) -> SelftestResult:
        """Run a golden set through a model and say whether this device still answers as at release.

        ``golden`` is a ``Golden`` or the path of its ``.npz``; ``session`` a wrapped session, or any callable from
        inputs by name to outputs by name (then ``model`` and ``version`` name it). ``preprocess`` makes inputs from
        the set's raw samples. The runs are not counted as inferences. The test is repeated after each successful
        ``update`` and, when given, every ``every_s`` seconds (at least 60) on a thread of its own. Raises
        ``GoldenError`` for a set that cannot be judged and ``ConfigError`` for what cannot be run; a model that fails
        is a result that failed.
        """
        chosen, subject = checked(golden, preprocess, every_s), self._subjects.of(behind(session), model, version)
        if self._engine is None:
            return untold().perform(subject, chosen, preprocess, SelftestTrigger.MANUAL)
        return self._engine.selftests.perform_and_stand(subject, chosen, preprocess, every_s)

    def _signals_for(self, model: str, path: str | None) -> Signals:
        if isinstance(self._signals, Signals):
            return self._signals
        if self._signals is not None and model in self._signals:
            return self._signals[model]
        beside = signals_beside(path) if path else None
        return beside or Signals()

    # --- consent ----------------------------------------------------------------------------------------------

    def enable(self) -> None:
        """Say that the user agrees: observe from here on, what was wrapped before too.

        Only for a Monitor that was made with ``consent=False`` or ``True`` (``ConfigError``); raises ``StateDirError``
        when another Monitor holds the directory. Harmless when it is on.
        """
        with self._turning:
            switches = asking(self._switches, "enable")
            if self._engine is None and self.config.enabled:
                self._go(on=True)
                switches.turn(self._engine is not None)

    def disable(self) -> None:
        """Say that the user does not agree, or no longer: observe nothing, and discard what is not sent.

        Deletes what waits, the session's marks and the installation's identity, so that consent given later is that of
        another device. A request that is under way at this moment may still arrive. Raises as ``enable`` does.
        """
        with self._turning:
            asking(self._switches, "disable").turn(on=False)
            engine = self._engine
            self._go(on=False)
            if engine is not None:
                with guard("stopping after consent was withdrawn"):
                    engine.abandon()
            discard_state(self.config.state_dir)

    def _switched(self, session: Any, said: Given) -> Any:
        """Return a session behind the switch of consent."""
        if self._switches is None:
            return self._attacher.wrap(session, said)
        if self._engine is None:
            self._attacher.wrap(session, said)  # notes it for self-tests; says what is no session
        return self._switches.add(session, lambda: self._attacher.wrap(session, said), on=self._engine is not None)

    # --- driving and ending -----------------------------------------------------------------------------------

    def step(self) -> int:
        """With a manual clock: fold what was recorded and close every window that is due; return how many.

        Sends nothing. With the machine's clock the background thread does this by itself.
        """
        if self._engine is not None:
            with guard("stepping"):
                return self._engine.step()
        return 0

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Send everything queued and say whether all of it was taken within ``timeout_s``.

        With the machine's clock the open window is closed first; with a manual clock only closed windows are sent.
        """
        if self._engine is not None:
            with guard("flushing"):
                return self._engine.flush(timeout_s)
            return False
        return True

    def session_end(self, reason: str) -> None:
        """Say, before ``close``, why the session is about to end: ``update``, ``reboot``, ``low_power``, ``sigterm``.

        Should the process die before ``close``, the next start tells of the end with this reason.
        """
        try:
            known = EndReason(reason)
        except ValueError:
            raise ConfigError(f"session_end({reason!r}): {nearest(str(reason), list(EndReason))}") from None
        if self._engine is not None:
            with guard("declaring the session's end"):
                self._engine.tell(lambda session: session.declare_end(known))

    def update(
        self,
        target: str,
        from_version: object,
        to_version: object,
        *,
        name: str = "",
        phase: str | None = None,
        update_id: str | None = None,
        artifact_hash: str = "",
        deployment_id: str = "",
        confirm: bool = False,
    ) -> Update:
        """Tell that an update of ``firmware``, ``app``, ``model``, ``runtime`` or ``settings`` began.

        Say by the returned ``Update`` how it ended, or use it in ``with``. One that is under way when the process ends
        is judged by the next start: the new version runs (succeeded), the old one (rolled back; failed when nothing had
        been replaced), another (failed). The version is ``edge.firmware.version``, ``service.version``, or that of the
        model or runtime that is wrapped, of that ``name`` if one is given. With ``confirm`` success is left to the
        program to say: the same call after the restart returns the same update again. Raises ``ConfigError`` for a
        target or phase that does not exist.
        """
        begun = new_pending(
            target,
            from_version,
            to_version,
            name=name,
            phase=phase,
            update_id=update_id,
            artifact_hash=artifact_hash,
            deployment_id=deployment_id,
            confirm=confirm,
        )
        engine = self._engine
        if engine is None:
            return Untold()
        with guard("telling of an update"):
            begun = engine.session.updates.start(begun, engine.emit_event)
        return Update(engine.session.updates, begun, engine.emit_event)

    def flag(self, key: str, variant: object, provider: str = "") -> None:
        """Say which variant of a feature flag is in force; told when it changes, and part of the resource from then on.

        At most 16 flags; key and variant of at most 64 characters. What is outside that is refused and logged.
        """
        if self._engine is not None:
            named = str(variant).lower() if isinstance(variant, bool) else str(variant)
            try:
                self._engine.tell(lambda session: session.flag(str(key), named, provider))
            except Exception as error:  # noqa: BLE001 - a flag service decides at run time what is passed here
                swallow("noting a feature flag", error)

    def close(self, timeout_s: float = 5.0) -> bool:
        """End the session: close the last window, send, keep on disk what could not be sent; say whether all was sent.

        Takes about ``timeout_s`` at most, 0 sends nothing; a second call does nothing. Runs by itself at exit.
        """
        if self._engine is not None:
            with guard("closing"):
                return self._engine.close(timeout_s)
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _declared(signals: object, config: Config) -> Signals | Mapping[str, Signals] | None:
    if signals is None:
        return load_signals(config.signals_path) if config.signals_path else None
    if isinstance(signals, Signals):
        return signals
    if isinstance(signals, Mapping) and all(isinstance(item, Signals) for item in signals.values()):
        return signals
    raise ConfigError(f"signals={signals!r}: give a Signals, or a mapping of model name to Signals")


def _start(config: Config, clock: Clock) -> Engine | None:
    """Start the engine; only declared errors reach the host, anything else leaves it unobserved and is counted."""
    try:
        return Engine(config, clock)
    except DeviceSdkError:
        raise
    except Exception as error:  # noqa: BLE001 - a program must start whatever state its device is in
        swallow("starting the monitor", error)
        return None
