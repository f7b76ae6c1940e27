import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts import numbers

SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.9995, "99.95 %"),
        (0.99999, "99.99 %"),
        (0.999999999, "99.99 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.00001, "less than 0.01 %"),
        (0.5, "50.00 %"),
        (float("nan"), "unknown"),
    ],
)
def test_a_ratio_is_never_rounded_up_to_all_or_down_to_nothing(ratio: float, text: str) -> None:
    assert numbers.percent(ratio) == text


@given(st.floats(0, 1, exclude_max=True))
def test_only_one_is_written_as_all(ratio: float) -> None:
    text = numbers.percent(ratio)
    assert not text.startswith("100")
    assert (text == "0 %") == (ratio == 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0421, "42.1 ms"), (0.0004, "0.4 ms"), (1.5, "1,500 ms"), (12.34, "12.3 s"), (float("inf"), "unknown")],
)
def test_latency_is_in_milliseconds(value: float, text: str) -> None:
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(21.34, "21.3"), (0.03071, "0.0307"), (12345.0, "12,345"), (1.0, "1"), (0.0, "0"), (18.02, "18"), (999.9, "1000")],
)
def test_numbers_carry_three_digits(value: float, text: str) -> None:
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (40, "40 s"), (125, "2 m"), (7200, "2 h"), (7500, "2 h 05 m"), (86400, "1 d"), (93600, "1 d 2 h")],
)
def test_spans_show_their_two_largest_units(seconds: int, text: str) -> None:
    assert numbers.duration(seconds * SECOND_NS) == text


def test_times_are_utc_with_their_day() -> None:
    assert numbers.moment(1_794_448_800 * SECOND_NS) == "02:00 UTC on 12 Nov"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({}, "across the fleet"),
        ({"edge.device.tier": "cam-v2"}, "in tier cam-v2"),
        ({"edge.model.name": "digits", "edge.model.version": "3"}, "on digits 3"),
        (
            {
                "edge.label.shop": "12",
                "edge.firmware.version": "4.2",
                "edge.model.name": "d",
                "edge.device.tier": "hub",
            },
            "on d in tier hub, firmware 4.2, shop 12",
        ),
        ({"edge.device.tier": ""}, "in tier unknown"),
    ],
)
def test_a_place_reads_as_words(limits: dict[str, str], text: str) -> None:
    assert numbers.where(limits.items()) == text


def test_lists_read_as_words() -> None:
    assert [numbers.listing(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
