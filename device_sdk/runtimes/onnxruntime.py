"""ONNX Runtime: a session that measures itself and otherwise is the session it wraps.

The package is never imported here: devices carry it under vendor names. Sessions and errors are recognised by class
name.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, SupportsIndex

import numpy as np

from device_sdk.contract.attributes import ErrorType
from device_sdk.errors import ModelNameError, guard

RUNTIME_NAME: Final = "onnxruntime"
_INT64_MAX: Final = 2**63 - 1
_HASH_CHUNK_BYTES: Final = 1 << 20

_BY_CLASS: Final[dict[str, ErrorType]] = {
    "NoSuchFile": ErrorType.LOAD_FAILED,
    "NoModel": ErrorType.LOAD_FAILED,
    "InvalidGraph": ErrorType.LOAD_FAILED,
    "InvalidProtobuf": ErrorType.LOAD_FAILED,
    "ModelLoadCanceled": ErrorType.CANCELLED,
    "ModelRequiresCompilation": ErrorType.LOAD_FAILED,
    "NotImplemented": ErrorType.UNSUPPORTED_OPERATOR,
    "EPFail": ErrorType.PROVIDER_FAILED,
    "EngineError": ErrorType.PROVIDER_FAILED,
    "DeviceReset": ErrorType.PROVIDER_FAILED,
    "MemoryError": ErrorType.OUT_OF_MEMORY,
    "TimeoutError": ErrorType.TIMEOUT,
    "KeyboardInterrupt": ErrorType.CANCELLED,
    "CancelledError": ErrorType.CANCELLED,
}
_BY_MESSAGE: Final[tuple[tuple[str, ErrorType], ...]] = (
    ("unexpected input data type", ErrorType.TYPE_MISMATCH),
    ("invalid dimensions", ErrorType.SHAPE_MISMATCH),
    ("invalid rank", ErrorType.SHAPE_MISMATCH),
    ("shape mismatch", ErrorType.SHAPE_MISMATCH),
    ("dimension mismatch", ErrorType.SHAPE_MISMATCH),
    ("incompatible dimensions", ErrorType.SHAPE_MISMATCH),
    ("out of memory", ErrorType.OUT_OF_MEMORY),
    ("failed to allocate", ErrorType.OUT_OF_MEMORY),
    ("bad_alloc", ErrorType.OUT_OF_MEMORY),
    ("terminate flag", ErrorType.CANCELLED),
    ("timed out", ErrorType.TIMEOUT),
    ("not implemented", ErrorType.UNSUPPORTED_OPERATOR),
)


def classify_error(error: BaseException) -> ErrorType:
    """Return the contract's word for what a run raised, by class name first and message second."""
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_CLASS:
            return _BY_CLASS[kind.__name__]
    message = str(error).lower()
    for fragment, word in _BY_MESSAGE:
        if fragment in message:
            return word
    return ErrorType.OTHER


def is_session(session: object) -> bool:
    """Say whether an object looks like an inference session of ONNX Runtime or of one of its vendor builds."""
    return all(callable(getattr(session, name, None)) for name in ("run", "get_inputs", "get_outputs"))


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What a session says about itself, asked once when it is wrapped."""

    model: str
    version: str
    model_path: str | None
    runtime_version: str
    provider: str
    providers_requested: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    leading_axis_is_batch: bool

    def samples_of(self, feed: Mapping[str, Any], result: Sequence[Any] | None) -> int:
        """Return the number of samples of one run: the length of the batch axis, 1 without such an axis."""
        first = feed.get(self.inputs[0]) if self.inputs else None
        if not isinstance(first, np.ndarray) or first.ndim < 2:
            return 1
        if self.leading_axis_is_batch:
            return int(first.shape[0])
        answer = result[0] if result else None
        same = isinstance(answer, np.ndarray) and answer.ndim >= 1 and answer.shape[0] == first.shape[0]
        return int(first.shape[0]) if same else 1


def facts_of(session: Any, model: str | None, version: str | None) -> SessionFacts:
    """Ask a session for its facts; raise ``ModelNameError`` when it was made from bytes and no names were given."""
    path = _model_path(session)
    if path is None and (not model or not version):
        missing = "model= and version=" if not model and not version else "model=" if not model else "version="
        raise ModelNameError(
            f"this session was not made from a file, so it has no name of its own: pass {missing} to wrap()"
        )
    inputs = session.get_inputs()
    first_axis = inputs[0].shape[0] if inputs and inputs[0].shape else None
    providers = _providers(session)
    module = sys.modules.get("onnxruntime") or sys.modules.get(type(session).__module__.partition(".")[0])
    return SessionFacts(
        model=model or Path(path or "").stem,
        version=version or _version(session, path or ""),
        model_path=path,
        runtime_version=str(getattr(module, "__version__", "unknown")),
        provider=providers[0] if providers else "unknown",
        providers_requested=",".join(providers),
        inputs=tuple(item.name for item in inputs),
        outputs=tuple(item.name for item in session.get_outputs()),
        leading_axis_is_batch=not isinstance(first_axis, int) or first_axis == 1,
    )


def _providers(session: Any) -> list[str]:
    with guard("reading the session's providers"):
        return [str(name) for name in session.get_providers()]
    return []


def _model_path(session: Any) -> str | None:
    path = getattr(session, "_model_path", None)
    return str(path) if path else None


def _version(session: Any, path: str) -> str:
    """Return the metadata's version unless it is a converter's 0 or int64 maximum, else 8 hex digits of the file."""
    with guard("reading the model's metadata"):
        declared = int(session.get_modelmeta().version)
        if declared not in (0, _INT64_MAX):
            return str(declared)
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ModelNameError(f"model file {path}: {error.strerror}; pass version= to wrap()") from None
    return digest.hexdigest()[:8]


class WrappedSession:
    """An inference session whose ``run`` is measured; everything else is the wrapped session's own.

    ``isinstance(wrapped, InferenceSession)`` stays true. ``run_with_iobinding`` and ``run_with_ort_values`` are timed
    and counted without looking at tensors; ``run_async`` passes through unmeasured.
    """

    def __init__(
        self, session: Any, run: Callable[..., Any], timed: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        own = self.__dict__
        own["_session"] = session
        own["run"] = run
        for name in ("run_with_iobinding", "run_with_ort_values"):
            original = getattr(session, name, None)
            if callable(original):
                own[name] = timed(original)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._session)

    def __getattr__(self, name: str) -> Any:
        session = self.__dict__.get("_session")
        if session is None:  # half-made, by copy or pickle
            raise AttributeError(name)
        return getattr(session, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._session, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._session, name)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        """Copy and pickle as the wrapped session does: the copy is not measured."""
        return self._session.__reduce_ex__(protocol)

    def __dir__(self) -> list[str]:
        return dir(self._session)

    def __repr__(self) -> str:
        return f"<measured {self._session!r}>"
