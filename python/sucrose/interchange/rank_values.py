"""Which values the ranks of a snapshot have, in the order of their containers. No torch here.

A value that several ranks have stands in the manifest once, under one of them: the containers of the others list its
key only, or, if they are lists, not even that.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from sucrose.errors import UnsupportedError
from sucrose.formats.limits import MAX_ENTRIES
from sucrose.formats.manifest import DictEntry, ListEntry, OrderedDictEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sucrose.formats.manifest import Entry, SharedEntry, SnapshotMetadata

_CONTAINERS = (DictEntry, OrderedDictEntry, ListEntry)


class RankValue(NamedTuple):
    """A value of a rank, or a container that is empty, or that another rank has the items of."""

    path: str
    """``"<rank>/<logical path>"``, of the rank that has it."""
    entry: Entry
    same_as: str | None
    """Where the entry stands, which that rank shares; None for an entry of its own."""


class _Step(NamedTuple):
    path: str
    entry: Entry
    same_as: str | None
    begin: int | None
    """Of a container that is left: where its values begin in what was found."""


def values_of_rank(metadata: SnapshotMetadata, rank: int) -> Iterator[RankValue]:
    """What one rank has, whoever has written it: every value by itself."""
    walk = _Walk(metadata, is_summed_up=False)
    for path in walk.starts(f"{rank}/"):
        yield from walk.values(path)


def values_of_ranks(metadata: SnapshotMetadata) -> Iterator[RankValue]:
    """What all ranks have, rank by rank; a container whose items another rank has is one value, without them.

    Raises:
        UnsupportedError: lists of which ranks share a part have more items than a snapshot has entries.
    """
    walk = _Walk(metadata, is_summed_up=True)
    for path in walk.starts(""):
        yield from walk.values(path)


class _Walk:
    """Depth first, without recursion: manifests may be nested deeper than Python's calls."""

    def __init__(self, metadata: SnapshotMetadata, *, is_summed_up: bool) -> None:
        self._metadata = metadata
        self._manifest = metadata.manifest
        self._is_summed_up = is_summed_up
        self._seen: set[str] = set()
        self._holders: dict[str, tuple[list[int | str] | None, int | None]] = {}
        """By logical path, with the keys: there may be a thousand ranks with the same container."""
        self._left = MAX_ENTRIES
        """So many shared items of lists may still be found: ranks times items may be more than there are entries."""
        self._parents = {path.rpartition("/")[0] for path in self._manifest} if metadata.world_size > 1 else set()
        """With entries right below them."""

    def starts(self, prefix: str) -> Iterator[str]:
        """Roots first, then what no container knows of: torchsnapshot's own writers leave roots out."""
        for path in self._manifest:
            if path.startswith(prefix) and "/" in path and "/" not in path.partition("/")[2]:
                yield path
        for path in self._manifest:
            if path.startswith(prefix) and path not in self._seen:
                yield path

    def values(self, start: str) -> list[RankValue]:
        """Those at and below a path that were not found before."""
        found: list[RankValue] = []
        waiting = [_Step(start, self._manifest[start], None, None)]
        while waiting:
            path, entry, same_as, begin = waiting.pop()
            if begin is not None:
                _sum_up(found, begin, path, entry)
                continue
            if path in self._seen:
                continue
            self._seen.add(path)
            if same_as is not None and self._is_summed_up:
                found.append(RankValue(path, entry, same_as))
                continue
            holder = self._holder(path, entry) if self._is_summed_up else None
            if holder is not None:
                found.append(RankValue(path, entry, f"{holder}/{path.partition('/')[2]}"))
                continue
            below = self._below(path, entry)
            if below is None:
                found.append(RankValue(path, entry, same_as))
                continue
            if self._is_summed_up:
                waiting.append(_Step(path, entry, None, len(found)))
            waiting.extend(reversed(below))
        return found

    def _below(self, path: str, entry: Entry) -> list[_Step] | None:
        """What is right below a container, as far as there is any; None for what has nothing below it."""
        if isinstance(entry, (DictEntry, OrderedDictEntry)):
            steps = [self._step(f"{path}/{_encoded(key)}") for key in entry.keys]
            return [step for step in steps if step is not None] if steps else None
        return self._items(path) or None if isinstance(entry, ListEntry) else None

    def _step(self, path: str) -> _Step | None:
        entry = self._manifest.get(path)
        if entry is not None:
            return _Step(path, entry, None, None)
        logical = path.partition("/")[2]
        shared = self._shared(logical)
        return None if shared is None else _Step(path, shared.entry, f"{shared.rank}/{logical}", None)

    def _items(self, path: str) -> list[_Step]:
        """Of a list: its own items, and between and behind them what it shares."""
        steps: list[_Step] = []
        while (step := self._step(f"{path}/{len(steps)}")) is not None:
            if step.same_as is not None:
                if isinstance(step.entry, _CONTAINERS) and path in self._manifest:
                    break  # the list of that rank may be longer
                self._left -= 1
                if self._left < 0:
                    raise UnsupportedError(f"lists of all ranks have more than {MAX_ENTRIES} items: choose one rank")
            steps.append(step)
        return steps

    def _holder(self, path: str, entry: Entry) -> int | None:
        """The rank that has all items of a container; None where they are its own, or several ranks'."""
        if path in self._parents or not isinstance(entry, _CONTAINERS):
            return None
        logical, keys = path.partition("/")[2], getattr(entry, "keys", None)
        known = self._holders.get(logical)
        if known is None or known[0] != keys:
            known = self._holders[logical] = keys, self._found_holder(logical, keys)
        return known[1]

    def _found_holder(self, logical: str, keys: list[int | str] | None) -> int | None:
        ranks: set[int] = set()
        for name in map(str, count()) if keys is None else map(_encoded, keys):
            shared = self._shared(f"{logical}/{name}")
            if shared is None or isinstance(shared.entry, _CONTAINERS):
                if keys is None:
                    break
                return None
            ranks.add(shared.rank)
        return ranks.pop() if len(ranks) == 1 else None

    def _shared(self, logical: str) -> SharedEntry | None:
        if self._metadata.world_size == 1:
            return None
        of_many = self._metadata.of_many_ranks
        if len(of_many.shards.get(logical, ())) > 1:
            return None  # meshes side by side: nobody can tell which value is meant
        return of_many.shared.get(logical)


def _encoded(key: int | str) -> str:
    return str(key).replace("%", "%25").replace("/", "%2F")


def _sum_up(found: list[RankValue], begin: int, path: str, entry: Entry) -> None:
    """Puts a container into the place of its items where one other rank has them all."""
    holders = {None if value.same_as is None else value.same_as.partition("/")[0] for value in found[begin:]}
    if len(holders) != 1 or None in holders:
        return
    del found[begin:]
    found.append(RankValue(path, entry, f"{holders.pop()}/{path.partition('/')[2]}"))
