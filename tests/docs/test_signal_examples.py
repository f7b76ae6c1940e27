"""The signal declarations in the device guide are read as they stand."""

import logging
import re
import tomllib
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from device_sdk.cli.sample import take_sample
from device_sdk.config import resolve
from device_sdk.contract import attributes as a
from device_sdk.signals import Feature, Output, signals_from_mapping
from device_sdk.signals.declare import BOX_FORMATS, FEATURE_KINDS, LAYOUTS, OUTPUT_KINDS

GUIDE = (Path(__file__).parents[2] / "docs" / "device-sdk.md").read_text()
EXAMPLES = re.findall(r"```toml\n(# [\w-]+\.signals\.toml.*?)```", GUIDE, flags=re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split(".")[0].strip("# "))
def test_an_example_is_a_declaration(text: str) -> None:
    signals = signals_from_mapping(tomllib.loads(text))
    assert signals.features or signals.outputs


def test_the_examples_show_a_detector_a_table_a_sound_a_text_and_an_embedding() -> None:
    declared = [signals_from_mapping(tomllib.loads(text)) for text in EXAMPLES]
    kinds = {one.kind for signals in declared for one in (*signals.features, *signals.outputs)}
    assert {"detections", "column", "category", "rms", "text_length", "projection", "sharpness"} <= kinds


def test_the_guide_names_every_kind_and_field() -> None:
    section = GUIDE[GUIDE.index("## Signals") : GUIDE.index("## Answers from end to end")]
    for word in (*FEATURE_KINDS, *OUTPUT_KINDS[1:], *BOX_FORMATS, *LAYOUTS):
        assert f"`{word}`" in section or f'"{word}"' in section, word
    for field in {*Feature.__dataclass_fields__, *Output.__dataclass_fields__} - {"name", "kind"}:
        assert f"`{field}`" in section, field


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split(".")[0].strip("# "))
def test_what_an_example_declares_is_in_the_window_that_explain_shows(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "m.signals.toml"
    file.write_text(text)
    signals = signals_from_mapping(tomllib.loads(text))
    with caplog.at_level(logging.WARNING, logger="device_sdk"):
        sample = take_sample(resolve(environ={}, state_dir=tmp_path / "state"), file, None)
    window = metrics_service_pb2.ExportMetricsServiceRequest.FromString(sample.window)
    told: dict[str, set[str]] = {a.FEATURE_NAME: set(), a.OUTPUT_NAME: set()}
    for metric in window.resource_metrics[0].scope_metrics[0].metrics:
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            for pair in point.attributes:
                if pair.key in told:
                    told[pair.key].add(pair.value.string_value)
    assert told[a.FEATURE_NAME] >= {one.name for feature in signals.features for one in feature.expanded()}
    assert told[a.OUTPUT_NAME] >= {output.name for output in signals.outputs}
    assert "not watched" not in caplog.text
