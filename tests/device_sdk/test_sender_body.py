"""A body is gzip that anybody can read, whatever its size."""

from __future__ import annotations

import gzip
import random

import pytest

from device_sdk.sending.sender import compressed


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 4_095, 4_096, 40_000, 70_000, 1_040_000])
def test_a_compressed_body_is_gzip_of_the_same_bytes(size: int) -> None:
    body = random.Random(size).choices(b"edge.model.name", k=size)
    assert gzip.decompress(compressed(bytes(body))) == bytes(body)
    assert compressed(bytes(body)) == compressed(bytes(body))
