"""Builders and readers for the SDK's tests: real models, real sessions, parsed OTLP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from device_sdk import Monitor
from device_sdk.testing import ManualClock, MemorySink

START_NS = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def classifier(path: Path, *, columns: int = 64, classes: int = 10, softmax: bool = True, version: int = 0) -> Path:
    """Write a small real classifier: one matrix product, with or without a softmax."""
    weights = np.random.default_rng(7).normal(size=(columns, classes)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z" if softmax else "p"])]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["z"], ["p"], axis=1))
    graph = helper.make_graph(
        nodes,
        "converter_made_this_up",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, classes])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )
    return save(graph, path, version)


def save(graph: Any, path: Path, version: int = 0) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    model.model_version = version
    onnx.save(model, str(path))
    return path


def session_of(source: Path | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    made_from = source if isinstance(source, bytes) else str(source)
    return onnxruntime.InferenceSession(made_from, options, providers=["CPUExecutionProvider"])


@dataclass
class Bench:
    """A Monitor on a manual clock that sends into a list."""

    monitor: Monitor
    clock: ManualClock
    sink: MemorySink

    def window(self, seconds: float = 60) -> None:
        self.clock.advance(int(seconds * SECOND))
        assert self.monitor.step() >= 1

    def sent(self) -> list[tuple[str, dict[str, Any], Any]]:
        """Flush, and return (metric name, attributes, point) of everything that ever arrived, envelopes included."""
        assert self.monitor.flush(5)
        return points(self.sink.metrics())

    def named(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        return [(attributes, point) for metric, attributes, point in self.sent() if metric == name]

    def events(self) -> list[tuple[str, dict[str, Any], Any]]:
        assert self.monitor.flush(5)
        return events(self.sink.logs())


def attributes_of(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def points(requests: list[Any]) -> list[tuple[str, dict[str, Any], Any]]:
    found = []
    for request in requests:
        for resource in request.resource_metrics:
            for metric in resource.scope_metrics[0].metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                found += [(metric.name, attributes_of(point.attributes), point) for point in data.data_points]
    return found


def events(requests: list[Any]) -> list[tuple[str, dict[str, Any], Any]]:
    return [
        (record.event_name, attributes_of(record.attributes), (record, attributes_of(resource.resource.attributes)))
        for request in requests
        for resource in request.resource_logs
        for record in resource.scope_logs[0].log_records
    ]
