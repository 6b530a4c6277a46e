"""What unpickling would cost, found out before anybody unpickles.

The restricted unpickler of torch decides what a pickle from a stranger may call. It does not count: a key that is a
tuple of tuples of tuples, each holding the one before twice, takes Python hours to hash in a hundred bytes, and one a
million tuples deep overflows the C stack. So the operations are run here first with sizes in the place of values.

1. Every value is a `_Weight`: how many values it stands for, and how deeply they are nested.
2. What a pickle puts into dicts as keys, or hands to functions, is hashed by Python: those weights are added up.
3. An operation that is not known ends the check: torch's unpickler does not know it either, and says so.
"""

from __future__ import annotations

import pickle

from sucrose.errors import CorruptionError
from sucrose.formats.limits import MAX_PICKLE_HASHING, MAX_PICKLE_NESTING
from sucrose.formats.pickle_operations import (
    ATOMS,
    CALLS,
    CONTAINERS,
    GETS,
    NOTHING,
    PUTS,
    TUPLES,
    Data,
    after_argument,
    number_at,
)

PICKLE_MAGIC = b"\x80"
"""How pickles begin, and with them files of torch before 1.6."""

PICKLES_BEFORE_STORAGES = 5
"""In such a file: two of its format, one of the machine, the object, and the names of its storages."""

_HASHED_ALWAYS = 1 << 20  # below, no pickle costs anything
_HEAVIEST = 1 << 80  # heavier values all weigh this much: the sum alone would take more and more memory


def check_pickle(data: Data, path: str, *, count: int = 1, is_full: bool = False) -> None:
    r"""Looks at the pickle at the beginning of `data`.

    A broken one passes, as a rule: its unpickler will find out.

    Args:
        data: the pickle, and whatever comes after it.
        path: of the file, for messages.
        count: of the pickles that follow each other, as in files of torch before 1.6.
        is_full: whether Python's own unpickler will read it, which knows more operations than this. One that is not
            known here is refused then.

    Raises:
        CorruptionError: unpickling it would take much more time or stack than its length allows.

    Example:
        >>> import pickle
        >>> from sucrose.formats.pickle_limits import check_pickle
        >>> check_pickle(pickle.dumps({(1, 2): [3, 4]}, protocol=2), "state.pt")
        >>> bomb = ()
        >>> for _ in range(60):
        ...     bomb = (bomb, bomb)
        >>> check_pickle(b"\x80\x02}" + pickle.dumps(bomb, protocol=2)[2:-1] + b"K\x01s.", "state.pt")
        Traceback (most recent call last):
            ...
        sucrose.errors.CorruptionError: the pickle in state.pt has keys ...
    """
    at = 0
    try:
        for _ in range(count):
            at = _Scale(data, path).run(at)
    except (IndexError, KeyError, ValueError) as error:
        if is_full:
            raise CorruptionError(f"the pickle in {path} is broken: {error!r}", path=path) from error


class _Weight:
    __slots__ = ("depth", "values")

    def __init__(self, values: int, depth: int) -> None:
        self.values = values
        self.depth = depth


_ATOM = _Weight(1, 0)


class _Scale:
    def __init__(self, data: Data, path: str) -> None:
        self._data = data
        self._path = path
        self._stack: list[_Weight] = []
        self._below: list[list[_Weight]] = []
        self._memo: dict[int, _Weight] = {}
        self._hashed = 0
        self._at = 0

    def run(self, at: int) -> int:  # noqa: PLR0912 - one branch for each kind of operation
        """From the pickle's beginning to what comes after it."""
        data = self._data
        while (code := data[at]) != pickle.STOP[0]:
            argument = at + 1
            self._at = at = after_argument(data, code, argument)
            if code in ATOMS:
                self._stack.append(_ATOM)
            elif code in PUTS:
                self._memo[number_at(data, argument, PUTS[code])] = self._stack[-1]
            elif code == pickle.MEMOIZE[0]:
                self._memo[len(self._memo)] = self._stack[-1]
            elif code in GETS:
                self._stack.append(self._memo[number_at(data, argument, GETS[code])])
            elif code in TUPLES:
                count = TUPLES[code]
                self._stack[-count:] = [self._joined(self._stack[-count:])]
            elif code == pickle.MARK[0]:
                self._below.append(self._stack)
                self._stack = []
            elif code == pickle.TUPLE[0]:
                whole = self._joined(self._to_mark())
                self._stack.append(whole)
            elif code in CONTAINERS:
                self._stack.append(_Weight(1, 1))
            elif code in CALLS:
                self._call(self._stack.pop())
            elif code == pickle.STACK_GLOBAL[0]:
                self._stack[-2:] = [_ATOM]
            elif code == pickle.BINPERSID[0]:
                self._hash(self._stack[-1])
                self._stack[-1] = _ATOM
            elif code not in NOTHING:
                self._fill(code)
        return at + 1

    def _fill(self, code: int) -> None:
        """What puts something into the container on the stack."""
        if code == pickle.APPEND[0]:
            item = self._stack.pop()
            self._add(item, to=self._stack[-1])
        elif code == pickle.APPENDS[0]:
            for item in self._to_mark():
                self._add(item, to=self._stack[-1])
        elif code == pickle.SETITEM[0]:
            value, key = self._stack.pop(), self._stack.pop()
            self._set(key, value)
        elif code == pickle.SETITEMS[0]:
            items = self._to_mark()
            for key, value in zip(items[::2], items[1::2], strict=False):
                self._set(key, value)
        elif code == pickle.ADDITEMS[0]:
            for item in self._to_mark():
                self._set(item, _ATOM)
        elif code == pickle.FROZENSET[0]:
            whole = self._joined(self._to_mark())
            self._hash(whole)
            self._stack.append(whole)
        elif code == pickle.NEWOBJ_EX[0]:
            self._call(self._joined([self._stack.pop(), self._stack.pop()]))
        else:
            raise ValueError(f"operation {code} is not known")

    def _call(self, arguments: _Weight) -> None:
        self._hash(arguments)
        # What comes of it holds, at most, what went into it.
        self._stack[-1] = self._joined([self._stack[-1], arguments])

    def _to_mark(self) -> list[_Weight]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _joined(self, parts: list[_Weight]) -> _Weight:
        whole = _Weight(1, 1)
        for part in parts:
            self._add(part, to=whole)
        return whole

    def _add(self, part: _Weight, *, to: _Weight) -> None:
        if to is _ATOM:  # one for all: its weight must stay what it is
            raise ValueError("something is put into what holds nothing")
        to.values = min(to.values + part.values, _HEAVIEST)
        to.depth = max(to.depth, part.depth + 1)
        if to.depth > MAX_PICKLE_NESTING:
            raise CorruptionError(
                f"the pickle in {self._path} has more than {MAX_PICKLE_NESTING} containers inside each other, which no "
                "state has",
                path=self._path,
            )

    def _set(self, key: _Weight, value: _Weight) -> None:
        self._hash(key)
        self._add(key, to=self._stack[-1])
        self._add(value, to=self._stack[-1])

    def _hash(self, weight: _Weight) -> None:
        self._hashed += weight.values
        if self._hashed > _HASHED_ALWAYS + MAX_PICKLE_HASHING * self._at:
            raise CorruptionError(
                f"the pickle in {self._path} has keys that would take hours to look at: tuples that hold the same "
                "tuples over and over",
                path=self._path,
            )
