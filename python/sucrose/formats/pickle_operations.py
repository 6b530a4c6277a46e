"""The operations of pickles, sorted by what they do to the stack, with the lengths of their arguments."""

from __future__ import annotations

import mmap
import pickle


def _codes(*operations: bytes) -> frozenset[int]:
    return frozenset(operation[0] for operation in operations)


_FIXED = {
    pickle.PROTO[0]: 1, pickle.FRAME[0]: 8, pickle.BININT[0]: 4, pickle.BININT1[0]: 1, pickle.BININT2[0]: 2,
    pickle.BINFLOAT[0]: 8, pickle.BINGET[0]: 1, pickle.LONG_BINGET[0]: 4, pickle.BINPUT[0]: 1, pickle.LONG_BINPUT[0]: 4,
}  # fmt: skip
_COUNTED = {  # bytes of the count
    pickle.BINUNICODE[0]: 4, pickle.SHORT_BINUNICODE[0]: 1, pickle.BINUNICODE8[0]: 8, pickle.SHORT_BINSTRING[0]: 1,
    pickle.BINSTRING[0]: 4, pickle.SHORT_BINBYTES[0]: 1, pickle.BINBYTES[0]: 4, pickle.BINBYTES8[0]: 8,
    pickle.BYTEARRAY8[0]: 8, pickle.LONG1[0]: 1, pickle.LONG4[0]: 4,
}  # fmt: skip
_LINES = {
    pickle.GLOBAL[0]: 2, pickle.INT[0]: 1, pickle.LONG[0]: 1, pickle.FLOAT[0]: 1, pickle.STRING[0]: 1,
    pickle.UNICODE[0]: 1, pickle.PERSID[0]: 1,
}  # fmt: skip

ATOMS = (_COUNTED.keys() | _LINES.keys()) | _codes(
    pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.EMPTY_TUPLE, pickle.BININT, pickle.BININT1, pickle.BININT2,
    pickle.BINFLOAT,
)  # fmt: skip
"""Put something on the stack that holds nothing."""
CONTAINERS = _codes(pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_SET)
"""Put something there that will."""
TUPLES = {pickle.TUPLE1[0]: 1, pickle.TUPLE2[0]: 2, pickle.TUPLE3[0]: 3}
"""Make a tuple of as many values."""
PUTS = {pickle.BINPUT[0]: 1, pickle.LONG_BINPUT[0]: 4}
"""Keep the value on the stack under the number in so many bytes."""
GETS = {pickle.BINGET[0]: 1, pickle.LONG_BINGET[0]: 4}
"""Put it there again."""
CALLS = _codes(pickle.REDUCE, pickle.NEWOBJ, pickle.BUILD)
"""Hand the value on the stack to the one below it."""
NOTHING = _codes(pickle.PROTO, pickle.FRAME)
"""Are of no consequence here."""

Data = bytes | mmap.mmap


def after_argument(data: Data, code: int, at: int) -> int:
    """Where the operation that follows begins, for one whose argument begins at `at`.

    Raises:
        ValueError: the pickle ends before that.
    """
    fixed = _FIXED.get(code)
    if fixed is not None:
        return at + fixed
    counted = _COUNTED.get(code)
    if counted is not None:
        return at + counted + number_at(data, at, counted)
    for _ in range(_LINES.get(code, 0)):
        end = data.find(b"\n", at)
        if end < 0:
            raise ValueError(f"no line at {at}")
        at = end + 1
    return at


def number_at(data: Data, at: int, nbytes: int) -> int:
    """An unsigned number."""
    return int.from_bytes(data[at : at + nbytes], "little")
