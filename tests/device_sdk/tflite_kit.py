"""Writes small real .tflite files, with the schema that the LiteRT package brings along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

COLUMNS, CLASSES = 64, 10


def weights() -> Any:
    return np.random.default_rng(7).normal(size=(CLASSES, COLUMNS)).astype(np.float32)


def classifier(
    path: Path, *, names: tuple[str, str] = ("x", "p"), custom: str = "", version: int = 1, quantised: bool = False
) -> Path:
    """Write a dense layer and a softmax, with a signature; ``custom`` puts an operator nobody knows in between.

    ``version`` of the dense operator, ``quantised`` ends in 8-bit probabilities of scale 1/256.
    """
    model = schema.ModelT()
    model.version = 3
    model.buffers = [_buffer(), _buffer(weights())]
    model.operatorCodes = [_code(schema.BuiltinOperator.FULLY_CONNECTED, version=version)]
    tensors = [
        _tensor(names[0], [1, COLUMNS], signature=[-1, COLUMNS]),
        _tensor("w", [CLASSES, COLUMNS], buffer=1),
        _tensor("z", [1, CLASSES], signature=[-1, CLASSES]),
        _tensor(names[1], [1, CLASSES], signature=[-1, CLASSES]),
    ]
    dense = _operator(0, [0, 1, -1], [2], schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT())
    if custom:
        model.operatorCodes.append(_code(schema.BuiltinOperator.CUSTOM, custom=custom))
        last = [_operator(1, [2], [3], schema.BuiltinOptions.NONE, None)]
    else:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        model.operatorCodes.append(_code(schema.BuiltinOperator.SOFTMAX))
        last = [_operator(1, [2], [3], schema.BuiltinOptions.SoftmaxOptions, options)]
    if quantised:
        tensors.append(_tensor("q", [1, CLASSES], signature=[-1, CLASSES], kind=schema.TensorType.UINT8))
        tensors[-1].quantization = schema.QuantizationParametersT()
        tensors[-1].quantization.scale, tensors[-1].quantization.zeroPoint = [1 / 256], [0]
        model.operatorCodes.append(_code(schema.BuiltinOperator.QUANTIZE))
        last.append(_operator(2, [3], [4], schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT()))
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", tensors, [dense, *last]
    graph.inputs, graph.outputs = [0], [len(tensors) - 1]
    model.subgraphs = [graph]
    model.signatureDefs = [_signature("image", "probabilities", len(tensors) - 1)]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def answers(x: Any) -> Any:
    """Return the probabilities the classifier must give."""
    z = x @ weights().T
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _buffer(array: Any = None) -> Any:
    buffer = schema.BufferT()
    buffer.data = None if array is None else np.frombuffer(array.tobytes(), np.uint8)
    return buffer


def _tensor(
    name: str, shape: Sequence[int], *, buffer: int = 0, signature: Any = None, kind: int = schema.TensorType.FLOAT32
) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer, tensor.type = name, list(shape), buffer, kind
    tensor.shapeSignature = signature
    return tensor


def _code(operator: int, *, custom: str = "", version: int = 1) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = operator, min(operator, 127), version
    code.customCode = custom or None
    return code


def _operator(code: int, inputs: list[int], outputs: list[int], kind: int, options: Any) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


def _signature(given: str, answer: str, at: int) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
    signature.inputs[0].name, signature.inputs[0].tensorIndex = given, 0
    signature.outputs[0].name, signature.outputs[0].tensorIndex = answer, at
    return signature
