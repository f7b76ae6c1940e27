"""``python -m device_sdk bench`` and ``selftest``: real model files, a stored baseline, regressions, ring lab."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_kit
from sdk_kit import attributes_of, classifier, session_of

from device_sdk.__main__ import main
from device_sdk.contract import attributes as a
from device_sdk.lab.compare import compare, interval
from device_sdk.lab.measure import QUANTILES, Measured
from device_sdk.lab.models import open_model, random_feed

QUICK = ("--seconds", "0.2", "--idle", "0.02")


def run(*arguments: object) -> tuple[int, list[str]]:
    lines: list[str] = []
    code = main([str(argument) for argument in arguments], lines.append)
    return code, lines


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return classifier(tmp_path / "digits.onnx", version=3)


def measured(scale: float = 1.0, *, memory: int = 50_000_000, energy: float | None = None) -> Measured:
    rng = np.random.default_rng(4)
    blocks = {name: (scale * (1 + q) * rng.normal(1, 0.01, 20)).tolist() for name, q in QUANTILES.items()}
    return Measured(
        calls=1000,
        seconds=1.0,
        first_s=0.1,
        quantiles={name: float(np.median(block)) for name, block in blocks.items()},
        blocks=blocks,
        cpu_s=scale,
        memory_bytes=memory,
        memory_peak_bytes=memory,
        temperature=None,
        energy_j=energy,
        energy_error_j=None if energy is None else 0.1 * energy,
        energy_source=None if energy is None else "rapl",
    )


def test_a_bench_says_what_was_measured_of_what_and_where(model: Path, tmp_path: Path) -> None:
    code, lines = run("bench", model, *QUICK, "--no-send", "--state-dir", tmp_path / "s")
    text = "\n".join(lines)
    assert code == 0
    assert lines[0].startswith("digits 3 on onnxruntime ")
    assert lines[0].endswith("CPUExecutionProvider")
    for word in ("load", "first run", "p50", "p95", "p99", "CPU", "memory", "energy", "heat"):
        assert word in text
    assert lines[-1] == "no baseline yet: --save keeps this one; not sent"
    assert max(map(len, lines)) <= 100


def test_a_saved_bench_is_the_baseline_of_the_next_and_a_slower_one_fails(model: Path, tmp_path: Path) -> None:
    at = ("--no-send", "--state-dir", tmp_path / "s")
    assert run("bench", model, *QUICK, "--save", *at)[0] == 0
    (file,) = (tmp_path / "s" / "lab").glob("digits-onnxruntime-*.json")
    code, lines = run("bench", model, *QUICK, *at, "--tolerance", "50", "--json")
    answer = json.loads(lines[0])
    assert code == 0
    assert {change["name"] for change in answer["compared"]} >= {"p50", "p95", "p99"}
    stored = json.loads(file.read_text())
    stored["measured"]["blocks"] = {
        name: [value / 100 for value in block] for name, block in stored["measured"]["blocks"].items()
    }
    file.write_text(json.dumps(stored))
    code, lines = run("bench", model, *QUICK, *at)
    assert code == 1
    assert sum("REGRESSION" in line for line in lines) == 3


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', "[1]", '{"format": 1, "measured": {}}'])
def test_a_broken_baseline_is_named(model: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "b.json"
    file.write_text(content)
    code, lines = run("bench", model, *QUICK, "--no-send", "--state-dir", tmp_path / "s", "--baseline", file)
    assert code == 1
    assert "b.json" in lines[-1]


def test_noise_is_no_regression_and_a_shift_is(tmp_path: Path) -> None:
    then = measured()
    assert not any(change.worse for change in compare(measured(), then, 0.05))
    assert not any(change.worse for change in compare(measured(1.04), then, 0.05))
    assert [c.name for c in compare(measured(1.2), then, 0.05) if c.worse] == list(QUANTILES)
    assert [c.name for c in compare(measured(memory=70_000_000), then, 0.05) if c.worse] == ["memory peak"]
    assert not any(c.worse for c in compare(measured(memory=54_000_000), then, 0.05))
    lean = measured(energy=1.0)
    assert not any(c.worse for c in compare(measured(energy=1.2), lean, 0.05))  # 1.08 at least, 1.1 * 1.05 at most
    assert [c.name for c in compare(measured(energy=1.5), lean, 0.05) if c.worse] == ["energy"]
    assert not any(c.worse for c in compare(measured(), lean, 0.05))


def test_the_interval_covers_the_true_ratio_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(8)
    trials = 200
    covered = 0
    for _ in range(trials):
        low, high = interval(rng.lognormal(0.1, 0.05, 20).tolist(), rng.lognormal(0.0, 0.05, 20).tolist())
        covered += low <= float(np.exp(0.1)) <= high
    # 3.3 standard errors below nominal: 190 - 3.3 * sqrt(200 * .95 * .05) = 179.8; the bootstrap may err to be wide
    assert covered >= 180


def test_it_is_sent_as_ring_lab(model: Path, tmp_path: Path, collector: Any) -> None:
    code, lines = run("bench", model, *QUICK, "--state-dir", tmp_path / "s", "--endpoint", collector.url)
    assert code == 0
    assert lines[-1].endswith("as ring lab")
    requests = collector.metrics()
    rings = {attributes_of(r.resource.attributes).get(a.RING) for request in requests for r in request.resource_metrics}
    assert rings == {"lab"}
    names = {
        m.name for request in requests for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics
    }
    assert "edge.inference.duration" in names


def save_golden(path: Path, model: Path, *, wrong: bool = False) -> Path:
    x = np.random.default_rng(2).random((12, 64), dtype=np.float32)
    p = np.concatenate([session_of(model).run(None, {"x": row[None]})[0] for row in x])
    np.savez(path, x=x, **{"expect:p": np.roll(p, 1, axis=1) if wrong else p})
    return path


def test_a_failed_golden_set_fails_the_bench_and_the_self_test(model: Path, tmp_path: Path) -> None:
    good, bad = save_golden(tmp_path / "good.npz", model), save_golden(tmp_path / "bad.npz", model, wrong=True)
    at = ("--no-send", "--state-dir", tmp_path / "s")
    assert run("bench", model, *QUICK, *at, "--golden", good)[0] == 0
    code, lines = run("bench", model, *QUICK, *at, "--golden", bad)
    assert code == 1
    assert any("self-test FAILED" in line for line in lines)
    assert run("selftest", model, "--golden", good, *at) == (
        0,
        ["self-test passed: 12 samples\n  p: pass (max_abs 0, max_rel 0, cosine 1, top1 1, class_agreement 1)"],
    )
    code, lines = run("selftest", model, "--golden", bad, "--json", *at)
    assert code == 1
    assert json.loads(lines[0])["outputs"][0]["status"] == "fail"


def test_every_runtime_opens_its_files(tmp_path: Path, model: Path) -> None:
    lite = tflite_kit.classifier(tmp_path / "digits.tflite")
    at = ("--no-send", "--state-dir", tmp_path / "s", *QUICK)
    for arguments, runtime in (
        ((model,), "onnxruntime"),
        ((lite,), "litert"),
        ((model, "--runtime", "openvino"), "openvino"),
    ):
        code, lines = run("bench", *arguments, *at, "--json")
        answer = json.loads(lines[-1])
        assert code == 0
        assert answer["runtime"] == runtime
        assert 0 < answer["measured"]["quantiles"]["p50"] <= answer["measured"]["quantiles"]["p99"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.onnx",), "no such file"),
        (("notes.txt",), "no runtime for '.txt'"),
        (("digits.onnx", "--runtime", "onnxrumtime"), "did you mean 'onnxruntime'"),
        (("digits.onnx", "--provider", "CPUExecutionProvide"), "did you mean 'CPUExecutionProvider'"),
        (("broken.onnx",), "cannot load it"),
        (("broken.tflite",), "cannot load it"),
        (("digits.onnx", "--golden", "gone.npz"), "gone.npz"),
    ],
)
def test_what_cannot_be_benched_is_one_line_that_says_why(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    (tmp_path / "notes.txt").write_text("hello")
    code, lines = run("bench", *arguments, "--no-send", "--state-dir", tmp_path / "s")
    assert code == 1
    assert len(lines) == 1
    assert message in lines[0]


def test_random_inputs_fit_free_extents_and_types(model: Path) -> None:
    opened = open_model(model)
    feed = random_feed(opened.inputs)
    assert feed["x"].shape == (1, 64)
    assert feed["x"].dtype == np.float32
    np.testing.assert_array_equal(feed["x"], random_feed(opened.inputs)["x"])
    assert dataclasses.is_dataclass(opened)


def test_a_new_version_of_a_model_is_held_against_the_old_one(tmp_path: Path) -> None:
    at = ("--no-send", "--state-dir", tmp_path / "s", "--tolerance", "50")
    assert run("bench", classifier(tmp_path / "digits.onnx", version=3), *QUICK, "--save", *at)[0] == 0
    code, lines = run("bench", classifier(tmp_path / "digits.onnx", version=4), *QUICK, *at)
    assert code == 0
    assert "  against the baseline of version 3:" in lines
