"""The checksum: published values, and two implementations that agree."""

from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.spool.crc32c import crc32c, crc32c_numpy


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720 B.4, as the three that follow
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, expected: int) -> None:
    assert crc32c_numpy(data) == crc32c(data) == expected


@given(st.binary(max_size=700), st.integers(0, 40))
def test_any_length_is_as_the_library_says(data: bytes, times: int) -> None:
    whole = data * times
    assert crc32c_numpy(whole) == google_crc32c.value(whole)


@pytest.mark.parametrize("size", [1, 3, 4, 127, 128, 129, 64 * 128 - 1, 64 * 128, 64 * 128 + 1, 3 * 64 * 128 + 5])
def test_block_borders(size: int) -> None:
    data = bytes((i * 7 + i // 251) & 255 for i in range(size))
    assert crc32c_numpy(data) == google_crc32c.value(data)
