"""Adapters: one small module a runtime; none imports its runtime, all recognise a session by what it can do."""

from __future__ import annotations

from typing import Final

from device_sdk.runtimes import litert, onnxruntime, openvino
from device_sdk.runtimes.adapter import Runtime

RUNTIMES: Final[tuple[Runtime, ...]] = (onnxruntime, litert, openvino)
"""Every known runtime, in the order they are asked whose session an object is."""


def runtime_of(session: object) -> Runtime | None:
    """Return the runtime that recognises a session."""
    return next((runtime for runtime in RUNTIMES if runtime.recognises(session)), None)
