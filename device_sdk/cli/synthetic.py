"""A session that stands for a model that was not given: inputs and outputs as a declaration names them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from device_sdk.signals import Feature, Output, Signals
from device_sdk.signals.declare import DETECTIONS, EMBEDDING, PATCH_KINDS, TEXT_KINDS, VALUE

WIDTH: Final = 64
"""Columns of a synthetic input, and the most that a dimension without a size gets."""
_SIDE: Final = 32
_FOUND: Final = 5
_CLASSES: Final = 10


@dataclass(frozen=True)
class Tensor:
    """What a session says of one of its tensors."""

    name: str
    shape: tuple[int, ...]
    type: str = "tensor(float)"


class Synthetic:
    """Answers as a model does that fits ``signals``; without a declaration as a classifier of a narrow table."""

    def __init__(self, signals: Signals, random: np.random.Generator) -> None:
        by_input: dict[str, list[Feature]] = {} if signals.features else {"input": []}
        for feature in signals.features:
            by_input.setdefault(feature.input or "input", []).append(feature)
        self.feed = {name: _input(features) for name, features in by_input.items()}
        self._signals = signals
        self._random = random

    def get_inputs(self) -> list[Any]:
        """Return the inputs."""
        return [Tensor(name, tensor.shape) for name, tensor in self.feed.items()]

    def get_outputs(self) -> list[Any]:
        """Return the outputs."""
        return [Tensor(name, tensor.shape) for name, tensor in self._answers().items()]

    def get_modelmeta(self) -> Any:
        """Return a version."""
        return SimpleNamespace(version=1)

    def get_providers(self) -> list[str]:
        """Return a provider."""
        return ["CPUExecutionProvider"]

    def run(self, _names: object, _feed: object, _options: object = None) -> list[Any]:
        """Return one answer."""
        return list(self._answers().values())

    def _answers(self) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        for output in self._signals.watched_outputs:
            answers.update(self._answer(output))
        return answers

    def _answer(self, output: Output) -> dict[str, Any]:
        name, random, classes = output.name or "output", self._random, len(output.classes) or _CLASSES
        if output.kind != DETECTIONS:
            if output.kind in (VALUE, EMBEDDING):
                return {name: random.random((1, 1 if output.kind == VALUE else WIDTH)).astype(np.float32)}
            return {name: random.dirichlet(np.full(max(2, classes), 0.3))[None].astype(np.float32)}
        boxes = np.sort(random.random((1, _FOUND, 2, 2)), axis=2).reshape(1, _FOUND, 4) * [*output.frame, *output.frame]
        scores, labels = random.random((1, _FOUND)), random.integers(0, classes, (1, _FOUND))
        if output.scores:
            return {name: boxes, output.scores: scores, **({output.labels: labels} if output.labels else {})}
        if output.layout == "row":
            return {name: np.concatenate([boxes, scores[..., None], labels[..., None]], axis=2)}
        return {name: np.concatenate([boxes, random.random((1, _FOUND, classes))], axis=2).transpose(0, 2, 1)}


def _input(features: list[Feature]) -> Any:
    columns = max([0, *(feature.column or 0 for feature in features)]) + 1
    kinds = {feature.kind for feature in features}
    words = [feature.categories[0] for feature in features if feature.categories]
    if kinds & set(TEXT_KINDS) or any(isinstance(word, str) for word in words):
        return np.full((1, columns), str(words[0]) if words else "synthetic 1", dtype=object)
    if kinds & set(PATCH_KINDS):
        return np.zeros((1, _SIDE, _SIDE), dtype=np.float32)
    return np.zeros((1, max(columns, WIDTH if features else 4)), dtype=np.float32)
