"""Which checkpoints a scenario has, as far as can be told without loading any. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from sucrose.errors import FormatVersionError, SucroseError
from sucrose.scenarios.checkpoint_names import CheckpointNames
from sucrose.scenarios.checkpoints.inspection import inspect
from sucrose.scenarios.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """One checkpoint.

    Attributes:
        epoch: number of finished epochs, by its name.
        is_mid_epoch: whether it was saved in the middle of the next one.
        path: file or snapshot.
        nbytes: on the disk.
        saved_ns: when it was saved, in nanoseconds since 1970; without a record when it was last changed.
        record: what it says of itself; None where others wrote it, such as `torch.save`, or it has a problem.
        problem: why it cannot be loaded, in one line, as far as the structure tells; None where it can.
    """

    epoch: int
    is_mid_epoch: bool
    path: str
    nbytes: int
    saved_ns: int
    record: Record | None
    problem: str | None


def list_checkpoints(names: CheckpointNames) -> list[CheckpointInfo]:
    """All checkpoints of a scenario, from the oldest epoch to the newest.

    Example:
        >>> from sucrose.scenarios.checkpoint_names import CheckpointNames
        >>> list_checkpoints(CheckpointNames("/tmp/no/such/folder", "base_case1", "e", ".pt"))
        []
    """
    found = [checkpoint_at(names, epoch, is_mid_epoch=is_mid_epoch) for epoch, is_mid_epoch in in_order(names)]
    return [info for info in found if info is not None]


def in_order(names: CheckpointNames) -> list[tuple[int, bool]]:
    """Epoch, and whether it is in the middle of the next one, of all names; the oldest first."""
    return sorted(
        [(epoch, False) for epoch in names.epochs()] + [(epoch, True) for epoch in names.mid_epochs()],
    )


def path_at(names: CheckpointNames, epoch: int, *, is_mid_epoch: bool) -> str:
    """Where the checkpoint has to be."""
    return names.mid_path_of(epoch) if is_mid_epoch else names.path_of(epoch)


def checkpoint_at(names: CheckpointNames, epoch: int, *, is_mid_epoch: bool) -> CheckpointInfo | None:
    """One checkpoint; None where it is gone."""
    path = path_at(names, epoch, is_mid_epoch=is_mid_epoch)
    record: Record | None = None
    problem: str | None = None
    try:
        saved_ns = os.stat(path).st_mtime_ns
        try:
            record = inspect(path, is_snapshot=names.are_snapshots)
        except (SucroseError, OSError) as error:
            if not os.path.exists(path):
                return None
            problem = None if is_only_the_record(error, path) else " ".join(str(error).split())
        nbytes = sum(_sizes(path))
    except FileNotFoundError:
        return None
    return CheckpointInfo(
        epoch=epoch,
        is_mid_epoch=is_mid_epoch,
        path=path,
        nbytes=nbytes,
        saved_ns=saved_ns if record is None else record.saved_ns,
        record=record,
        problem=problem,
    )


def is_only_the_record(error: Exception, path: str) -> bool:
    """Whether all that is wrong is a record of a newer release, and the objects can be read."""
    return isinstance(error, FormatVersionError) and error.path == path


def _sizes(path: str) -> Iterator[int]:
    yield 0 if os.path.isdir(path) else os.stat(path).st_size
    for folder, _, files in os.walk(path):
        for name in files:
            yield os.stat(os.path.join(folder, name)).st_size
