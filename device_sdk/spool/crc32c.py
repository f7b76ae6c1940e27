"""CRC-32C (Castagnoli): the checksum of iSCSI, ext4 and Btrfs, by a C library when there is one, else by numpy.

The remainder is linear over GF(2): the contribution of each byte depends on its value and its distance from the end
alone. So a block of 128 bytes is 128 look-ups XORed together, all blocks at once, and the remainders of the blocks are
then moved to their places by the same kind of table. ``pip install fleetpulse-device-sdk[crc32c]`` brings the library;
benchmarks/spool_enqueue.py measures both.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POLYNOMIAL: Final = 0x82F63B78
_BLOCK: Final = 128
_BLOCKS_MAX: Final = 64


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of ``data``; RFC 3720 appendix B.4 has test values."""
    return _implementation()(data)


def implementation() -> str:
    """Return which implementation is used."""
    return "numpy" if _implementation() is crc32c_numpy else "google_crc32c"


@functools.cache
def _implementation() -> Callable[[bytes], int]:
    try:
        library: Any = importlib.import_module("google_crc32c")
    except ImportError:
        return crc32c_numpy
    chosen: Callable[[bytes], int] = library.value
    return chosen


def crc32c_numpy(data: bytes) -> int:
    """Return the CRC-32C of ``data`` by table look-ups in numpy."""
    import numpy as np

    table, offsets, moves = _tables()
    if len(data) < 4:
        return _by_octet(data, table)
    # The initial value is folded into the first four octets; zeros before them then change nothing.
    first = (int.from_bytes(data[:4], "little") ^ 0xFFFFFFFF).to_bytes(4, "little")
    padded = np.frombuffer(b"".join((bytes(-len(data) % _BLOCK), first, memoryview(data)[4:])), dtype=np.uint8)
    crc = 0
    for start in range(0, len(padded), _BLOCK * _BLOCKS_MAX):
        part = padded[start : start + _BLOCK * _BLOCKS_MAX]
        blocks = len(part) // _BLOCK
        found = table.take((part.reshape(blocks, _BLOCK) + offsets).ravel()).reshape(blocks, _BLOCK)
        remainders = np.bitwise_xor.reduce(found, axis=1)
        octets = remainders.astype("<u4").view(np.uint8)
        placed = moves[_BLOCKS_MAX - blocks :].reshape(-1).take(_move_index(blocks) + octets)
        crc = (_advance(crc, blocks, moves) if crc else 0) ^ int(np.bitwise_xor.reduce(placed))
    return crc ^ 0xFFFFFFFF


def _by_octet(data: bytes, table: NDArray[Any]) -> int:
    """Return the CRC-32C of a few octets the textbook's way."""
    last, crc = table[(_BLOCK - 1) * 256 :], 0xFFFFFFFF
    for octet in data:
        crc = int(last[(crc ^ octet) & 0xFF]) ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _advance(crc: int, blocks: int, moves: NDArray[Any]) -> int:
    """Return what ``crc`` becomes behind ``blocks`` blocks of zeros."""
    if blocks < _BLOCKS_MAX:
        row = moves[_BLOCKS_MAX - 1 - blocks]
        return _look_up(row, crc)
    return _look_up(moves[_BLOCKS_MAX - 2], _look_up(moves[0], crc))


def _look_up(row: NDArray[Any], crc: int) -> int:
    return int(row[0, crc & 255] ^ row[1, crc >> 8 & 255] ^ row[2, crc >> 16 & 255] ^ row[3, crc >> 24])


@functools.cache
def _move_index(blocks: int) -> NDArray[Any]:
    import numpy as np

    return np.arange(blocks * 4, dtype=np.intp) * 256


@functools.cache
def _tables() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return (table of octet at place in a block, its row offsets, moves by whole blocks: [63 - blocks, octet, value]).

    128 KiB and 256 KiB; made on first use in a few milliseconds.
    """
    import numpy as np

    first: NDArray[Any] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = (first >> 1) ^ np.where(first & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    table = np.empty((_BLOCK, 256), dtype=np.uint32)
    table[_BLOCK - 1] = first
    for place in range(_BLOCK - 2, -1, -1):  # one more zero byte behind it
        table[place] = first[table[place + 1] & 255] ^ (table[place + 1] >> 8)
    moves = np.empty((_BLOCKS_MAX, 4, 256), dtype=np.uint32)
    moves[_BLOCKS_MAX - 1] = np.arange(256, dtype=np.uint32) << (8 * np.arange(4, dtype=np.uint32))[:, None]
    step: NDArray[Any] = moves[_BLOCKS_MAX - 1].copy()
    for _ in range(_BLOCK):
        step = first[step & 255] ^ (step >> 8)
    for row in range(_BLOCKS_MAX - 2, -1, -1):
        behind = moves[row + 1]
        moves[row] = step[0][behind & 255]
        for octet in range(1, 4):
            moves[row] ^= step[octet][behind >> (8 * octet) & 255]
    return table.ravel(), np.arange(_BLOCK, dtype=np.intp) * 256, moves
