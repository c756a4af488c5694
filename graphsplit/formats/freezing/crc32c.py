"""CRC32C (Castagnoli), as LevelDB's tables and TensorFlow's checkpoints use it: many stretches side by side in NumPy.

A checksum is linear over GF(2): the data is divided into lanes of equal length, their checksums advance together, two bytes
a step, and neighbours are then joined pairwise by the operator that appends zeros.

Source: RFC 3720, appendix B.4; the mask is that of LevelDB (util/crc32c.h).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphsplit.runtimes.arrays import Array

__all__ = ["crc32c", "unmasked"]

_POLYNOMIAL = 0x82F63B78
_LANES = (2**14, 2**10, 2**6)
_LEAST = 8  # bytes of a lane


def crc32c(data: bytes | memoryview, value: int = 0) -> int:
    """The checksum of some bytes, continued from the checksum `value` of those before them."""
    import numpy as np

    state, at = value ^ 0xFFFFFFFF, 0
    for lanes in _LANES:
        length = (len(data) - at) // lanes & ~1
        if length >= _LEAST:
            end = at + lanes * length
            words = np.frombuffer(data, "<u2", lanes * length // 2, at).reshape(lanes, length // 2)
            state = _advanced(state, lanes * length) ^ _joined(_lane_states(words), length)
            at = end
    table = _bytes_table()
    for byte in bytes(data[at:]):
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def unmasked(value: int) -> int:
    """The checksum that a file stores masked."""
    value = (value - 0xA282EAD8) & 0xFFFFFFFF
    return (value << 15 | value >> 17) & 0xFFFFFFFF


def _lane_states(words: Array) -> Array:
    """The state of each lane after its words, from zero."""
    import numpy as np

    table, lanes = _words_table(), len(words)
    state, place, found = np.zeros(lanes, np.uint32), np.empty(lanes, np.intp), np.empty(lanes, np.uint32)
    block = 64  # words turned at once, so that a step reads memory in order
    for at in range(0, words.shape[1], block):
        for word in np.ascontiguousarray(words[:, at : at + block].T):
            np.bitwise_xor(state & np.uint32(0xFFFF), word, out=place, casting="unsafe")
            table.take(place, out=found, mode="clip")
            np.right_shift(state, 16, out=state)
            np.bitwise_xor(state, found, out=state)
    return state


def _joined(state: Array, length: int) -> int:
    """The state of lanes of `length` bytes one after the other."""
    import numpy as np

    while len(state) > 1:
        columns = _zeros(length)
        left = state[0::2]
        moved = np.zeros(len(left), np.uint32)
        for bit, column in enumerate(columns):
            moved ^= ((left >> np.uint32(bit)) & np.uint32(1)) * np.uint32(column)
        state, length = moved ^ state[1::2], 2 * length
    return int(state[0])


def _advanced(state: int, length: int) -> int:
    return _times(_zeros(length), state)


def _times(columns: tuple[int, ...], state: int) -> int:
    result = 0
    for column in columns:
        if state & 1:
            result ^= column
        state >>= 1
    return result


@cache
def _power(exponent: int) -> tuple[int, ...]:
    """The operator that appends ``2**exponent`` zero bytes, as the image of each bit."""
    if exponent == 0:
        table = _bytes_table()
        return tuple(table[bit & 0xFF] ^ (bit >> 8) for bit in (1 << place for place in range(32)))
    half = _power(exponent - 1)
    return tuple(_times(half, column) for column in half)


@cache
def _zeros(length: int) -> tuple[int, ...]:
    result = tuple(1 << place for place in range(32))
    for exponent in range(length.bit_length()):
        if length >> exponent & 1:
            operator = _power(exponent)
            result = tuple(_times(operator, column) for column in result)
    return result


@cache
def _bytes_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


@cache
def _words_table() -> Array:
    import numpy as np

    table = np.array(_bytes_table(), np.uint32)
    low = table[np.arange(2**16) & 0xFF]
    words: Array = table[(low ^ np.arange(2**16, dtype=np.uint32) >> 8) & 0xFF] ^ (low >> 8)
    return words
