"""From what a runtime raised to the contract's word for it, by class name first and message second.

Messages are read, never sent: all that leaves the device is the word, and the name of an operator that a runtime does
not know.
"""

from __future__ import annotations

import re
from typing import Final

from device_sdk.contract.attributes import OTHER, ErrorType
from device_sdk.locks import SafeLock

OPERATORS_MAX: Final = 16
"""Most names of unsupported operators a process tells apart; further ones are told as ``_OTHER``."""
_OPERATOR_LENGTH_MAX: Final = 64

_BY_CLASS: Final[dict[str, ErrorType]] = {
    "NoSuchFile": ErrorType.LOAD_FAILED,
    "NoModel": ErrorType.LOAD_FAILED,
    "InvalidGraph": ErrorType.LOAD_FAILED,
    "InvalidProtobuf": ErrorType.LOAD_FAILED,
    "ModelRequiresCompilation": ErrorType.LOAD_FAILED,
    "FileNotFoundError": ErrorType.LOAD_FAILED,
    "ModelLoadCanceled": ErrorType.CANCELLED,
    "KeyboardInterrupt": ErrorType.CANCELLED,
    "CancelledError": ErrorType.CANCELLED,
    "GeneratorExit": ErrorType.CANCELLED,
    "NotImplemented": ErrorType.UNSUPPORTED_OPERATOR,
    "EPFail": ErrorType.PROVIDER_FAILED,
    "EngineError": ErrorType.PROVIDER_FAILED,
    "DeviceReset": ErrorType.PROVIDER_FAILED,
    "MemoryError": ErrorType.OUT_OF_MEMORY,
    "TimeoutError": ErrorType.TIMEOUT,
}
_OPERATORS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"could not find an implementation for ([\w.:/-]+)",  # onnxruntime: known operator, no kernel
        r"fatal error: ([\w.:/-]+)\(-?\d+\) is not a registered function/op",  # onnxruntime: unknown operator
        r"no op registered for ([\w.:/-]+)",  # onnxruntime: unknown to the schema
        r"unresolved custom op: ([\w.:/-]+)",  # litert
        r"didn't find op for builtin opcode '([\w.:/-]+)'",  # litert
        r"does not support the following onnx operations: ([\w.:/-]+)",  # openvino
        r"no conversion rule found for operations: ([\w.:/]+(?:-(?!\d)[\w.:/]+)*)",  # openvino: without -<opset>
        r"unsupported operation of type: ([\w.:/-]+)",  # openvino's plugins
    )
)
_BY_MESSAGE: Final[tuple[tuple[str, ErrorType], ...]] = (
    ("unexpected input data type", ErrorType.TYPE_MISMATCH),
    ("got value of type", ErrorType.TYPE_MISMATCH),
    ("element type", ErrorType.TYPE_MISMATCH),
    ("could not convert string", ErrorType.TYPE_MISMATCH),
    ("input must be a list of dictionaries or a single numpy array", ErrorType.TYPE_MISMATCH),
    ("invalid dimensions", ErrorType.SHAPE_MISMATCH),
    ("invalid rank", ErrorType.SHAPE_MISMATCH),
    ("shape mismatch", ErrorType.SHAPE_MISMATCH),
    ("dimension mismatch", ErrorType.SHAPE_MISMATCH),
    ("incompatible dimensions", ErrorType.SHAPE_MISMATCH),
    ("shape is not compatible", ErrorType.SHAPE_MISMATCH),
    ("shape.compatible", ErrorType.SHAPE_MISMATCH),
    ("iscompatible(dims)", ErrorType.SHAPE_MISMATCH),
    ("failed to reshape", ErrorType.SHAPE_MISMATCH),
    ("out of memory", ErrorType.OUT_OF_MEMORY),
    ("failed to allocate", ErrorType.OUT_OF_MEMORY),
    ("bad_alloc", ErrorType.OUT_OF_MEMORY),
    ("terminate flag", ErrorType.CANCELLED),
    ("infer request was canceled", ErrorType.CANCELLED),
    ("timed out", ErrorType.TIMEOUT),
    ("not implemented", ErrorType.UNSUPPORTED_OPERATOR),
    ("cannot load library", ErrorType.PROVIDER_FAILED),
    ("cannot open shared object file", ErrorType.PROVIDER_FAILED),
    ("failed to load delegate", ErrorType.PROVIDER_FAILED),
    ("delegate failed", ErrorType.PROVIDER_FAILED),
    ("not registered in the openvino runtime", ErrorType.PROVIDER_FAILED),
)


class _Vocabulary:
    """Names of operators this process has told, bounded: a hostile model must not make series without end."""

    def __init__(self) -> None:
        self._lock = SafeLock()
        self._told: set[str] = set()

    def bounded(self, name: str) -> str:
        """Return ``name`` while there is room for it, else ``_OTHER``."""
        short = name.strip(".:/-")[:_OPERATOR_LENGTH_MAX]
        with self._lock:
            if short in self._told or len(self._told) < OPERATORS_MAX:
                self._told.add(short)
                return short
        return OTHER


_vocabulary = _Vocabulary()


def classify(error: BaseException | str) -> str:
    """Return the contract's word for what a runtime raised (or, from a callback, said).

    For an operator that the runtime does not support the word is followed by a space and the operator's name.
    """
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an exception of the host's own may not be able to say what it is
        message = ""
    for pattern in _OPERATORS:
        if found := pattern.search(message):
            return f"{ErrorType.UNSUPPORTED_OPERATOR} {_vocabulary.bounded(found.group(1))}"
    if isinstance(error, BaseException):
        for kind in type(error).__mro__:
            if kind.__name__ in _BY_CLASS:
                return _BY_CLASS[kind.__name__]
    lower = message.lower()
    for fragment, word in _BY_MESSAGE:
        if fragment in lower:
            return word
    return ErrorType.OTHER
