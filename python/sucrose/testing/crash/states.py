"""The states that a power cut may leave, put together as folders."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sucrose.testing.crash.history import (
    File,
    History,
    Step,
    contents,
    put,
    put_bytes,
    resize,
)
from sucrose.testing.crash.recording import Trace

SECTOR_NBYTES = 512

Fate = Literal["kept", "lost", "zeros", "prefix", "sectors"]
_WRITE_FATES: tuple[Fate, ...] = ("kept", "lost", "zeros", "prefix", "sectors")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashState:
    """What may be found after a power cut.

    Attributes:
        folder: where it has been put together; valid until the next one is.
        point: how many of the trace's changes had ended.
        kind: how it was chosen: "nothing unsynced", "everything", "names without data", "data without names",
            "sizes without data", or "subset".
        marks: those that were set before.
        lost: the changes that are not there, or not wholly, and might have been.
    """

    folder: str
    point: int
    kind: str
    marks: tuple[str, ...]
    lost: tuple[str, ...]

    def __str__(self) -> str:
        """For messages of tests."""
        lost = "".join(f"\n  {line}" for line in self.lost)
        return f"power cut after {self.point} changes, marks {self.marks}, {self.kind}; not there:{lost}"


@dataclass(slots=True)
class _Choice:
    """What becomes of each step that is not safe."""

    kind: str
    data: dict[Step, Fate] = field(default_factory=dict)
    names: dict[Step, bool] = field(default_factory=dict)


def states(
    trace: Trace,
    into: str | os.PathLike[str],
    *,
    seed: int = 0,
    per_point: int = 8,
    points: Sequence[int] | None = None,
) -> Iterator[CrashState]:
    """Puts together what power cuts may leave, one state after another, at each point of a trace.

    At each point there are the five states in which all changes of a sort are there or missing, and at most
    `per_point` others: all combinations of changes that are there and such that are not, where these are no more,
    and for the rest such that are drawn. States that are equal, with equal marks, come once.

    Args:
        trace: see `record`.
        into: an existing folder; each state is put into a new folder in it, and removed when the next one is asked for.
        seed: of what is drawn.
        per_point: see above.
        points: numbers of changes after which the power is cut; all by default.
    """
    history = trace.history()
    chance = random.Random(seed)  # noqa: S311 - a choice that can be made again
    seen: set[bytes] = set()
    for point in range(len(trace.changes) + 1) if points is None else points:
        now = trace.changes[point - 1].end if point else 0
        until = trace.changes[point].end if point < len(trace.changes) else float("inf")
        marks = tuple(name for name, at in trace.marks if at < until)
        for choice in _choices(history, now, chance, per_point):
            tree = _tree_after(history, now, choice, chance)
            key = _digest_of(tree, marks)
            if key in seen:
                continue
            seen.add(key)
            folder = os.path.join(into, f"state_{len(seen)}")
            _put_together(folder, tree)
            lost = [str(step.change) for step, fate in choice.data.items() if fate != "kept"]
            lost += [str(step.change) for step, is_there in choice.names.items() if not is_there]
            try:
                yield CrashState(folder=folder, point=point, kind=choice.kind, marks=marks, lost=tuple(lost))
            finally:
                shutil.rmtree(folder)


def _choices(history: History, now: float, chance: random.Random, most: int) -> Iterator[_Choice]:
    data = [step for file in history.files for step in file.steps if step.begin <= now < step.safe_at]
    names: list[Step] = [naming for naming in history.namings if naming.begin <= now < naming.safe_at]
    sorts: tuple[tuple[str, Fate, bool], ...] = (
        ("nothing unsynced", "lost", False),
        ("everything", "kept", True),
        ("names without data", "lost", True),
        ("data without names", "kept", False),
        ("sizes without data", "zeros", True),
    )
    for kind, fate, is_there in sorts:
        yield _Choice(kind, dict.fromkeys(data, fate), dict.fromkeys(names, is_there))
    steps = [*data, *names]
    drawn = most
    if 2 ** len(steps) <= most:
        drawn -= 2 ** len(steps)
        for kept in itertools.product((False, True), repeat=len(steps)):
            fates = dict(zip(steps, kept, strict=True))
            yield _Choice(
                "subset",
                {step: "kept" if fates[step] else "lost" for step in data},
                {step: fates[step] for step in names},
            )
    for _ in range(drawn if steps else 0):
        share = chance.random()
        yield _Choice(
            "subset",
            {step: chance.choice(_WRITE_FATES) for step in data},
            {step: chance.random() < share for step in names},
        )


def _tree_after(history: History, now: float, choice: _Choice, chance: random.Random) -> dict[str, bytes | None]:
    names = history.names_at_first()
    for naming in history.namings:
        is_safe = naming.safe_at <= now
        if is_safe or choice.names.get(naming, False):
            put(names, naming, is_safe=is_safe)
    data = {file: _bytes_after(file, now, choice, chance) for file in history.files}
    return contents(history.root, names, data)


def _bytes_after(file: File, now: float, choice: _Choice, chance: random.Random) -> bytes:
    data = bytearray(file.before)
    for step in file.steps:
        fate: Fate = "kept" if step.safe_at <= now else choice.data.get(step, "lost")
        if fate == "lost":
            continue
        if step.change.kind == "write":
            _put_part(data, step, fate, chance)
        else:
            resize(data, step.change)
    return bytes(data)


def _put_part(data: bytearray, step: Step, fate: Fate, chance: random.Random) -> None:
    offset, piece = step.change.offset, step.change.data
    if fate == "kept":
        put_bytes(data, offset, piece)
    elif fate == "zeros":
        put_bytes(data, offset, bytes(len(piece)))
    elif fate == "prefix":
        put_bytes(data, offset, piece[: chance.randrange(len(piece) + 1)])
    else:
        data.extend(bytes(max(0, offset + len(piece) - len(data))))
        first = offset - offset % SECTOR_NBYTES
        for begin in range(first, offset + len(piece), SECTOR_NBYTES):
            if chance.random() < 0.5:
                begin = max(begin, offset)  # noqa: PLW2901 - the first sector may begin before the write
                end = min(begin - begin % SECTOR_NBYTES + SECTOR_NBYTES, offset + len(piece))
                data[begin:end] = piece[begin - offset : end - offset]


def _digest_of(tree: dict[str, bytes | None], marks: tuple[str, ...]) -> bytes:
    digest = hashlib.blake2b(repr(marks).encode(), digest_size=16)
    for path in sorted(tree):
        data = tree[path]
        digest.update(os.fsencode(path) + b"\0" + (b"folder" if data is None else b"%d\0" % len(data) + data))
    return digest.digest()


def _put_together(folder: str, tree: dict[str, bytes | None]) -> None:
    for path in sorted(tree, key=lambda path: (path != ".", path)):
        data = tree[path]
        target = folder if path == "." else os.path.join(folder, path)
        if data is None:
            os.mkdir(target)
        else:
            with open(target, "wb") as file:
                file.write(data)
