"""Writes the small models that the examples run: real files for real runtimes, with weights from a fixed seed.

``digits.tflite`` has the trained weights of ``simulator/models/digits.onnx``. Run: ``python examples/models/make.py``
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
DIGITS = HERE.parents[1] / "simulator" / "models" / "digits.onnx"
FLOAT = TensorProto.FLOAT


def main() -> None:
    """Write all of them."""
    save(detector(), "detector.onnx")
    save(tabular(), "prices.onnx")
    save(audio(), "keywords.onnx")
    (HERE / "digits.tflite").write_bytes(digits_tflite())


def save(graph: Any, name: str) -> None:
    """Write one graph as a model of version 1."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    model.model_version = 1
    onnx.checker.check_model(model)
    onnx.save(model, str(HERE / name))


def constant(name: str, array: Any) -> Any:
    """Return an initializer."""
    return numpy_helper.from_array(np.asarray(array), name)


def detector() -> Any:
    """Return a detector of bright blobs: the 8 brightest of 8 x 8 cells of a 32 x 32 frame, with box and score."""
    node = helper.make_node
    nodes = [
        node("AveragePool", ["frame"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Reshape", ["cells", "flat"], ["all_scores"]),
        node("TopK", ["all_scores", "eight"], ["scores", "places"], axis=0),
        node("Mod", ["places", "width"], ["column"]),
        node("Div", ["places", "width"], ["row"]),
        node("Cast", ["column"], ["x"], to=FLOAT),
        node("Cast", ["row"], ["y"], to=FLOAT),
        node("Mul", ["x", "cell"], ["left"]),
        node("Mul", ["y", "cell"], ["top"]),
        node("Add", ["left", "cell"], ["right"]),
        node("Add", ["top", "cell"], ["bottom"]),
        *(node("Unsqueeze", [side, "axis"], [side + "_1"]) for side in ("left", "top", "right", "bottom")),
        node("Concat", ["left_1", "top_1", "right_1", "bottom_1"], ["boxes"], axis=1),
    ]
    constants = [
        constant("flat", np.array([64], np.int64)),
        constant("eight", np.array([8], np.int64)),
        constant("width", np.array(8, np.int64)),
        constant("cell", np.array(1 / 8, np.float32)),
        constant("axis", np.array([1], np.int64)),
    ]
    inputs = [helper.make_tensor_value_info("frame", FLOAT, [1, 1, 32, 32])]
    outputs = [
        helper.make_tensor_value_info("boxes", FLOAT, [8, 4]),
        helper.make_tensor_value_info("scores", FLOAT, [8]),
    ]
    return helper.make_graph(nodes, "detector", inputs, outputs, constants)


def tabular() -> Any:
    """Return a price in thousands from area, rooms, age and the number of a district."""
    weights = np.array([[2.1], [14.0], [-0.8], [5.0]], np.float32)
    nodes = [helper.make_node("Gemm", ["home", "weights", "bias"], ["price"])]
    constants = [constant("weights", weights), constant("bias", np.array([40.0], np.float32))]
    inputs = [helper.make_tensor_value_info("home", FLOAT, [None, 4])]
    return helper.make_graph(
        nodes, "prices", inputs, [helper.make_tensor_value_info("price", FLOAT, [None, 1])], constants
    )


def audio() -> Any:
    """Return a keyword spotter: energies of 16 slices of a second of sound, a dense layer, a softmax."""
    rng = np.random.default_rng(3)
    node = helper.make_node
    nodes = [
        node("Reshape", ["sound", "slices"], ["frames"]),
        node("Mul", ["frames", "frames"], ["power"]),
        node("ReduceMean", ["power"], ["energies"], axes=[2], keepdims=0),
        node("Gemm", ["energies", "weights", "bias"], ["scores"]),
        node("Softmax", ["scores"], ["keyword"], axis=1),
    ]
    constants = [
        constant("slices", np.array([-1, 16, 1000], np.int64)),
        constant("weights", rng.normal(0, 4, (16, 4)).astype(np.float32)),
        constant("bias", np.zeros(4, np.float32)),
    ]
    inputs = [helper.make_tensor_value_info("sound", FLOAT, [None, 16000])]
    return helper.make_graph(
        nodes, "keywords", inputs, [helper.make_tensor_value_info("keyword", FLOAT, [None, 4])], constants
    )


def digits_tflite() -> bytes:
    """Return the digits model as a .tflite: two dense layers and a softmax."""
    arrays = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(DIGITS)).graph.initializer}
    layers = [
        (arrays["coefficient"].T, arrays["intercepts"].reshape(-1), schema.ActivationFunctionType.RELU),
        (arrays["coefficient1"].T, arrays["intercepts1"].reshape(-1), schema.ActivationFunctionType.NONE),
    ]
    model = schema.ModelT()
    model.version, model.description = 3, "digits"
    model.operatorCodes = [_code(schema.BuiltinOperator.FULLY_CONNECTED), _code(schema.BuiltinOperator.SOFTMAX)]
    model.buffers = [schema.BufferT()]
    tensors, operators = [_tensor("image", [1, 64])], []
    for number, (weights, bias, activation) in enumerate(layers):
        given = len(tensors) - 1
        for name, array in ((f"weights_{number}", weights), (f"bias_{number}", bias)):
            model.buffers.append(_buffer(array))
            tensors.append(_tensor(name, list(array.shape), buffer=len(model.buffers) - 1))
        tensors.append(_tensor(f"dense_{number}", [1, len(bias)]))
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        at = len(tensors) - 1
        places = [given, at - 2, at - 1]
        operators.append(_operator(0, places, [at], schema.BuiltinOptions.FullyConnectedOptions, options))
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    tensors.append(_tensor("probabilities", [1, 10]))
    at = len(tensors) - 1
    operators.append(_operator(1, [at - 1], [at], schema.BuiltinOptions.SoftmaxOptions, softmax))
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators, graph.inputs, graph.outputs = "main", tensors, operators, [0], [at]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(16384)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _buffer(array: Any) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(array, np.float32).tobytes(), np.uint8)
    return buffer


def _tensor(name: str, shape: list[int], *, buffer: int = 0) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer, tensor.type = name, shape, buffer, schema.TensorType.FLOAT32
    return tensor


def _code(operator: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = operator, operator, 1
    return code


def _operator(code: int, inputs: list[int], outputs: list[int], kind: int, options: Any) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


if __name__ == "__main__":
    main()
