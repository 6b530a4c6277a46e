"""What the first event file of an attempt begins with, so that a running TensorBoard forgets what was superseded.

TensorBoard keeps what it has read in memory, whatever becomes of the files. It forgets when it reads

- a START event: all events of this and later steps, but for the first START it sees of a run, which is why
  there are two;
- with its data server, which passes over START: an event of a tag at a step that is not later than the one before.

A START at step s takes away too much where the run has events at s or later that are to stay, as curves by epoch
make necessary beside curves by step. Those events are told again after it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]  # it has no types

from sucrose.scenarios.tensorboard.event_heads import read_heads

if TYPE_CHECKING:
    from collections.abc import Sequence


class Extent(NamedTuple):
    """A piece of a file."""

    path: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a file begins with.

    Attributes:
        start_step: step of the START events; None for a file without.
        told_again: records of earlier files that come after them.
    """

    start_step: int | None = None
    told_again: Sequence[Extent] = ()

    def events(self) -> list[Any]:
        """`Event`s, without those that are told again."""
        now = time.time()
        version = Event(wall_time=now, file_version="brain.Event:2")
        if self.start_step is None:
            return [version]
        start = Event(wall_time=now, step=self.start_step, session_log=SessionLog(status=SessionLog.START))
        return [version, start, start]


def beginning_after(
    kept: Sequence[str], highest_kept: int | None, lowest_superseded: int | None, step: int
) -> Beginning:
    """How to go on in a folder.

    Args:
        kept: its event files, oldest first; what is superseded has been cut off.
        highest_kept: the highest step of an event in them.
        lowest_superseded: the lowest one of what was cut off.
        step: of the checkpoint. Nothing forces a program to log by the global step, so this is only where curves
            go on when it agrees with the log.
    """
    start_step = step if highest_kept is None else max(step, highest_kept + 1)
    if lowest_superseded is not None:
        start_step = min(start_step, lowest_superseded)
    if highest_kept is None or highest_kept < start_step:
        return Beginning(start_step)
    return Beginning(start_step, _records_from(kept, start_step))


def _records_from(paths: Sequence[str], step: int) -> list[Extent]:
    """Records with points at `step` or later that no START event after them takes away."""
    found: list[tuple[int, Extent]] = []  # with the step
    for path in paths:
        for heads in read_heads(path):
            are_looked_at = heads.are_starts | (heads.are_points & (heads.steps >= step))
            for index in np.flatnonzero(are_looked_at).tolist():
                at = int(heads.steps[index])
                if heads.are_starts[index]:
                    found = [(earlier, extent) for earlier, extent in found if earlier < at]
                else:
                    found.append((at, Extent(path, int(heads.begins[index]), int(heads.ends[index]))))
    joined: list[Extent] = []
    for _, extent in found:
        if joined and joined[-1].path == extent.path and joined[-1].end == extent.begin:
            joined[-1] = joined[-1]._replace(end=extent.end)
        else:
            joined.append(extent)
    return joined


def copy_extent(extent: Extent, fd: int) -> None:
    """Appends the piece to an open file."""
    with open(extent.path, "rb") as source:
        source.seek(extent.begin)
        left = extent.end - extent.begin
        while left and (block := source.read(min(left, 1 << 20))):
            left -= len(block)
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
