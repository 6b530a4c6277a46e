"""Changes by the file or folder that they are about, and when each of them is safe."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sucrose.testing.changes import Change


@dataclass(slots=True, eq=False)
class Step:
    """One change on its way to the disk."""

    change: Change
    safe_at: float = math.inf
    """From here on it is on the disk for certain."""
    is_doomed: bool = False
    """An fsync has failed to write it: it never becomes safe."""

    @property
    def begin(self) -> int:
        """The disk may have it from here on."""
        return self.change.begin


@dataclass(slots=True, eq=False)
class File:
    """A file: what it was at the beginning, and what was done to its bytes."""

    before: bytes = b""
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Folder:
    """A folder, and its names at the beginning."""

    before: dict[str, File | Folder] = field(default_factory=dict)


Node = File | Folder


@dataclass(slots=True, eq=False)
class Naming(Step):
    """A change of names: without effect unless what it `needs` is in its places, after it there is what it `gives`."""

    needs: tuple[tuple[Folder, str, Node | None], ...] = ()
    gives: tuple[tuple[Folder, str, Node | None], ...] = ()


Names = dict[Folder, "dict[str, Node]"]


class History:
    """All that has happened to one folder."""

    def __init__(
        self, root: str, before: Mapping[str, tuple[int, int, bytes | None]], changes: Iterable[Change]
    ) -> None:
        self.root = Folder()
        self.files: list[File] = []
        self.namings: list[Naming] = []
        self._path = root
        self._by_inode: dict[tuple[int, int], Node] = {}
        self._names: Names = {}
        self._set_up(before)
        for change in changes:
            self._add(change)

    def everything(self) -> dict[str, bytes | None]:
        """The folder's contents where nothing gets lost."""
        return contents(self.root, self._names, {file: apply(file.before, file.steps) for file in self.files})

    def names_at_first(self) -> Names:
        """The names that there were at the beginning, to be changed by `rename`."""
        return {folder: dict(folder.before) for folder in self._names}

    def _set_up(self, before: Mapping[str, tuple[int, int, bytes | None]]) -> None:
        nodes: dict[str, Node] = {}
        for path, (device, inode, data) in sorted(before.items(), key=lambda item: (item[0] != ".", item[0])):
            node: Node = self.root if path == "." else Folder() if data is None else File(before=data)
            nodes[path] = node
            self._know(node, device, inode)
            if path != ".":
                parent = nodes[os.path.dirname(path) or "."]
                assert isinstance(parent, Folder)
                parent.before[os.path.basename(path)] = node
                self._names[parent][os.path.basename(path)] = node

    def _know(self, node: Node, device: int, inode: int) -> None:
        self._by_inode[device, inode] = node
        if isinstance(node, File):
            self.files.append(node)
        else:
            self._names[node] = dict(node.before)

    def _add(self, change: Change) -> None:
        kind = change.kind
        if kind in ("write", "truncate", "preallocate"):
            node = self._by_inode.get((change.device, change.inode))
            if isinstance(node, File):
                node.steps.append(Step(change))
        elif kind in ("sync", "failed_sync"):
            known = self._by_inode.get((change.device, change.inode))
            if known is not None:
                self._sync(known, change)
        else:
            self._change_names(change)

    def _change_names(self, change: Change) -> None:
        place = self._place(change.path)
        other = self._place(change.target) if change.target else None
        if place is None:  # outside; what comes from there is missed by whoever compares in the end
            return
        here = self._names[place[0]].get(place[1])
        if change.kind in ("create", "mkdir"):
            node: Node = File() if change.kind == "create" else Folder()
            self._know(node, change.device, change.inode)
            naming = Naming(change, gives=((*place, node),))
        elif other is None:  # removed, or moved away
            naming = Naming(change, needs=((*place, here),), gives=((*place, None),))
        elif change.kind == "rename":
            naming = Naming(change, needs=((*place, here),), gives=((*place, None), (*other, here)))
        else:
            there = self._names[other[0]].get(other[1])
            naming = Naming(change, needs=((*place, here), (*other, there)), gives=((*place, there), (*other, here)))
        self.namings.append(naming)
        put(self._names, naming)

    def _place(self, path: str) -> tuple[Folder, str] | None:
        """The folder and the name that a path means at this moment; None outside."""
        relative = os.path.relpath(path, self._path)
        parts = relative.split(os.sep)
        if parts[0] in ("..", "."):
            return None
        folder: Node | None = self.root
        for part in parts[:-1]:
            folder = self._names[folder].get(part) if isinstance(folder, Folder) else None
        return (folder, parts[-1]) if isinstance(folder, Folder) else None

    def _sync(self, node: Node, sync: Change) -> None:
        steps: Iterable[Step] = self._namings_in(node) if isinstance(node, Folder) else node.steps
        for step in steps:
            if step.is_doomed or step.safe_at != math.inf or step.change.end > sync.begin:
                continue
            if sync.kind == "failed_sync":
                step.is_doomed = True
            else:
                step.safe_at = sync.end

    def _namings_in(self, folder: Folder) -> list[Naming]:
        return [naming for naming in self.namings if any(place[0] is folder for place in naming.gives)]


def put(names: Names, naming: Naming, *, is_safe: bool = False) -> None:
    """Changes names, where everything that is to be moved or removed is there, or the change is safe."""
    if is_safe or all(names[folder].get(name) is node for folder, name, node in naming.needs):
        for folder, name, node in naming.gives:
            if node is None:
                names[folder].pop(name, None)
            else:
                names[folder][name] = node


def apply(before: bytes, steps: Iterable[Step]) -> bytes:
    """What a file contains after all of the steps."""
    data = bytearray(before)
    for step in steps:
        change = step.change
        if change.kind == "write":
            put_bytes(data, change.offset, change.data)
        else:
            resize(data, change)
    return bytes(data)


def put_bytes(data: bytearray, offset: int, piece: bytes) -> None:
    """A write, which may extend the file."""
    if len(data) < offset + len(piece):
        data.extend(bytes(offset + len(piece) - len(data)))
    data[offset : offset + len(piece)] = piece


def resize(data: bytearray, change: Change) -> None:
    """A truncation, or a preallocation, which only makes files longer."""
    if change.offset > len(data):
        data.extend(bytes(change.offset - len(data)))
    elif change.kind == "truncate":
        del data[change.offset :]


def contents(folder: Folder, names: Names, data: Mapping[File, bytes], at: str = "") -> dict[str, bytes | None]:
    """All files below a folder and their bytes; None for folders."""
    found: dict[str, bytes | None] = {at or ".": None}
    for name, node in names[folder].items():
        path = f"{at}{os.sep}{name}" if at else name
        if isinstance(node, Folder):
            found |= contents(node, names, data, path)
        else:
            found[path] = data[node]
    return found
