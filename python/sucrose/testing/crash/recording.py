"""Writing down what is done to the files below a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sucrose import _core
from sucrose.errors import SucroseError
from sucrose.testing.changes import LISTENER, Change
from sucrose.testing.crash.history import History
from sucrose.testing.python_calls import watched

Tree = dict[str, "tuple[int, int, bytes | None]"]
"""Device, inode and contents by path relative to the folder; None for the contents of a folder."""


class IncompleteTraceError(SucroseError):
    """Files have changed by other calls than those that were recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What was recorded.

    Attributes:
        root: the folder.
        before: what was in it; taken to be on the disk.
        changes: in the order in which they ended.
        marks: names and places in the sequence.
    """

    root: str
    before: Tree
    changes: tuple[Change, ...]
    marks: tuple[tuple[str, int], ...]

    def history(self) -> History:
        """Which of the changes belong to which file, and when each is safe."""
        return History(self.root, self.before, self.changes)


@dataclass(slots=True)
class Recording:
    """A recording under way; `trace` is there when the block is over."""

    root: str
    _trace: Trace | None = None
    _marks: list[tuple[str, int]] = field(default_factory=list)

    @property
    def trace(self) -> Trace:
        """What was recorded.

        Raises:
            RuntimeError: the block is not over, or has raised.
        """
        if self._trace is None:
            raise RuntimeError("the recording is not over")
        return self._trace

    def mark(self, name: str) -> None:
        """Notes what the program knows from here on: that its save has returned, for instance."""
        self._marks.append((name, _core.journal_tick()))


@contextmanager
def record(folder: str | os.PathLike[str]) -> Iterator[Recording]:
    """Records what this package does to the files below `folder` inside the ``with`` block; one at a time.

    Saves in the background must have ended when the block does, and collections as well.

    Raises:
        IncompleteTraceError: something else has changed files there.
        RuntimeError: another recording is under way.
    """
    root = os.path.realpath(folder)
    if LISTENER.changes is not None:
        raise RuntimeError("another recording is under way")
    recording = Recording(root)
    before = _tree(root)
    changes: list[Change] = []
    LISTENER.changes = changes
    _core.journal_start()
    native = []
    try:
        with watched():
            yield recording
    finally:
        LISTENER.changes = None
        native = _core.journal_stop()
    changes += [
        Change(kind=kind, begin=begin, end=end, device=device, inode=inode, path=path, offset=offset, data=data)  # type: ignore[arg-type]  # one of the kinds
        for kind, begin, end, device, inode, path, offset, data in native
    ]
    changes.sort(key=lambda change: change.end)
    trace = Trace(root=root, before=before, changes=tuple(changes), marks=tuple(recording._marks))  # noqa: SLF001
    _check(trace)
    recording._trace = trace  # noqa: SLF001


def _check(trace: Trace) -> None:
    """The changes must lead from what was there before to what is there now."""
    replayed = trace.history().everything()
    found = {name: data for name, (_, _, data) in _tree(trace.root).items()}
    differing = sorted(name for name in replayed.keys() | found.keys() if replayed.get(name, 0) != found.get(name, 0))
    if differing:
        raise IncompleteTraceError(
            f"{len(differing)} files below {trace.root} are not what the recorded calls have made of them, the first "
            f"is {differing[0]!r}: something else has changed them, or a save is still under way",
            path=os.path.join(trace.root, differing[0]),
        )


def _tree(root: str) -> Tree:
    tree: Tree = {}
    info = os.stat(root)
    tree["."] = (info.st_dev, info.st_ino, None)
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            data = None
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    data = file.read()
            elif not stat.S_ISDIR(info.st_mode):
                continue
            tree[os.path.relpath(path, root)] = (info.st_dev, info.st_ino, data)
    return tree
