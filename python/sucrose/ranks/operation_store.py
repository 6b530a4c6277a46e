"""The keys of one operation in the store of a group."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sucrose.errors import ForkError
from sucrose.ranks.group_store import store_is_gone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._C._distributed_c10d import Store

PART_NBYTES = 4 << 20
"""The server of a TCPStore ends the connection of a client that sends more than 8 MiB under one key."""

_BATCH_NBYTES = 64 << 20  # of values that are asked for at once


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What lies under the key of a value.

    Attributes:
        place: in which step of which operation it was posted.
        n_parts: keys that follow; 0 where `value` is all of it.
        value: where it is small.
    """

    place: str
    n_parts: int
    value: bytes


_decode_head = msgspec.msgpack.Decoder(Head).decode


class OperationStore:
    """What an operation asks of a store. No call waits for another rank.

    Args:
        store: that of the group.
        number: which operation of the group it is, or the name of keys that belong to none; part of each key.
        keepers: the ranks of the group in whose process the store is, where that is known: one or none.
        original: the program's own, where `store` is another connection. The server may belong to it, and a program
            may let go of it, by `destroy_process_group`, while an operation goes on in the background.
    """

    def __init__(
        self, store: Store, number: int | str, keepers: tuple[int, ...], original: Store | None = None
    ) -> None:
        self._store = store
        self._original = original
        self._prefix = f"sucrose/{number}/"
        self._keepers = keepers
        self._pid = os.getpid()

    @property
    def is_ours(self) -> bool:
        """False in a forked child, which shares its parent's connection and would answer for it."""
        return os.getpid() == self._pid

    def put(self, key: str, value: bytes) -> None:
        """Sets a key, at most `PART_NBYTES`."""
        with self._calling():
            self._store.set(self._prefix + key, value)  # type: ignore[arg-type]  # the stub says str, bytes are meant

    def put_first(self, key: str, value: bytes) -> bytes:
        """Sets a key that is not there; returns what it is then, this value or that of who came first."""
        with self._calling():
            return self._store.compare_set(self._prefix + key, "", value)  # type: ignore[arg-type]  # as in `put`

    def get(self, key: str) -> bytes:
        """The value of a key that is there."""
        with self._calling():
            return self._store.get(self._prefix + key)

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        with self._calling():
            return self._store.check([self._prefix + key])

    def count(self, key: str, more: int = 0) -> int:
        """Adds to a counter, which begins with 0, and returns what it is then."""
        with self._calling():
            return self._store.add(self._prefix + key, more)

    def delete(self, key: str) -> None:
        """Removes a key if it is there."""
        with self._calling():
            self._store.delete_key(self._prefix + key)

    def put_value(self, key: str, place: str, value: bytes) -> int:
        """Sets a key, after its parts, so that who sees it finds those as well; returns how many there are."""
        if len(value) <= PART_NBYTES // 2:
            self.put(key, msgspec.msgpack.encode(Head(place, 0, value)))
            return 0
        begins = range(0, len(value), PART_NBYTES)
        for number, begin in enumerate(begins):
            self.put(f"{key}.{number}", value[begin : begin + PART_NBYTES])
        self.put(key, msgspec.msgpack.encode(Head(place, len(begins), b"")))
        return len(begins)

    def heads(self, keys: Sequence[str]) -> list[Head]:
        """What lies under keys that are there, in few requests."""
        heads: list[Head] = []
        batch = _BATCH_NBYTES // PART_NBYTES
        for begin in range(0, len(keys), batch):
            with self._calling():
                values = self._store.multi_get([self._prefix + key for key in keys[begin : begin + batch]])
            heads += map(_decode_head, values)
        return heads

    def value(self, key: str, head: Head) -> bytes:
        """The value under a key, whole."""
        if not head.n_parts:
            return head.value
        return b"".join(self.get(f"{key}.{number}") for number in range(head.n_parts))

    def delete_value(self, key: str, n_parts: int) -> None:
        """Removes a key with its parts."""
        for number in range(n_parts):
            self.delete(f"{key}.{number}")
        self.delete(key)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        if not self.is_ours:
            raise ForkError("a collective operation was begun in the process that this one was forked from")
        try:
            yield
        except RuntimeError as error:
            raise store_is_gone(error, self._keepers) from error
