"""The signal declarations in the device guide are read as they stand."""

import re
import tomllib
from pathlib import Path

import pytest

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
