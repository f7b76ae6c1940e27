"""Train the two digit classifiers of the simulator and cut the held-out images: ``python -m simulator.train_digits``.

Data: the UCI "Optical Recognition of Handwritten Digits" test set that scikit-learn ships (1797 images of 8 x 8 pixels,
0..16). Needs the ``train`` dependency group (scikit-learn, skl2onnx); the results are committed, so nobody else does.
Training is seeded; the files' bytes follow scikit-learn's and skl2onnx's versions, their hashes are in THIRD_PARTY.md.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.helpers.onnx_helper import save_onnx_model, select_model_inputs_outputs
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from simulator.models import DARK_LOW, DATA_DIR, FULL_SCALE, MODELS_DIR

HELD_OUT: Final = 600
EXPOSURES: Final = (0.8, 0.9, 1.0, 1.1)
"""Gains that each training image is shown at, so that a camera's exposure alone does not make the model wrong."""


def train(images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], hidden: int, seed: int) -> Any:
    """Return a fitted classifier with one hidden layer of ``hidden`` units on images scaled to 0..1."""
    rows = np.concatenate([np.clip(images * gain, 0.0, 1.0) for gain in EXPOSURES])
    model = MLPClassifier(
        hidden_layer_sizes=(hidden,), alpha=1e-3, max_iter=300, early_stopping=True, random_state=seed
    )
    model.fit(rows, np.tile(labels, len(EXPOSURES)))
    return model


def export(model: Any, path: Path, version: str) -> str:
    """Write ``model`` as ONNX with the class probabilities as its only output; return the file's SHA-256."""
    graph = to_onnx(
        model,
        initial_types=[("image", FloatTensorType([None, 64]))],
        options={id(model): {"zipmap": False}},
        target_opset=17,
    )
    graph = select_model_inputs_outputs(graph, "probabilities")
    graph.graph.name = "digits"
    graph.model_version = int(version)
    save_onnx_model(graph, str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def signals_text(images: npt.NDArray[np.float32]) -> str:
    """Return the ``.signals.toml`` of the model: each feature's grid is its mean and deviation over training images."""
    series = {
        "mean": (images.mean(axis=1), ""),
        "std": (images.std(axis=1), ""),
        "dark_share": ((images <= DARK_LOW).mean(axis=1), f"low = {DARK_LOW}\n"),
    }
    lines = ["# Written by simulator/train_digits.py from the training images.\n"]
    lines.append(f"classes = {json.dumps([str(digit) for digit in range(10)])}\n")
    for name, (values, more) in series.items():
        lines.append(
            f'\n[[feature]]\nname = "{name}"\nkind = "{name}"\n{more}'
            f"center = {float(values.mean()):.6f}\nunit = {float(values.std()):.6f}\n"
        )
    return "".join(lines)


def main() -> None:
    """Train both versions, write models, held-out images and grids; print accuracies and hashes."""
    bunch = load_digits()
    raw = bunch.data.astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train_raw, test_raw, train_labels, test_labels = train_test_split(
        raw, labels, test_size=HELD_OUT, random_state=7, stratify=labels
    )
    train_images = (train_raw / FULL_SCALE).astype(np.float32)
    test_images = (test_raw / FULL_SCALE).astype(np.float32)
    MODELS_DIR.mkdir(exist_ok=True)
    DATA_DIR.mkdir(exist_ok=True)
    for name, version, hidden, seed in (("digits.onnx", "1", 32, 11), ("digits-2.onnx", "2", 48, 12)):
        model = train(train_images, train_labels, hidden, seed)
        digest = export(model, MODELS_DIR / name, version)
        print(f"{name}: accuracy on held-out images {model.score(test_images, test_labels):.4f}, sha256 {digest}")
    np.savez_compressed(DATA_DIR / "digits.npz", images=test_raw, labels=test_labels.astype(np.uint8))
    digest = hashlib.sha256((DATA_DIR / "digits.npz").read_bytes()).hexdigest()
    print(f"digits.npz: {len(test_raw)} images, sha256 {digest}")
    for name in ("digits.signals.toml", "digits-2.signals.toml"):
        (MODELS_DIR / name).write_text(signals_text(train_images), encoding="utf-8")


if __name__ == "__main__":
    main()
