"""From a checkpoint on the disk to its contents; which one, if it is left open.

Left open, the newest is taken that is sound: those that turn out to be damaged are passed over, and moved to
quarantine once a sound one is found. Where there is none everything stays where it is, and the program is told: it
would otherwise begin anew without a word, and the second time really do so.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sucrose.catalog.soundness import damage_of
from sucrose.errors import CorruptionError, FormatVersionError, SucroseError, UnsafeObjectError
from sucrose.scenarios.checkpoint_names import CheckpointNames
from sucrose.scenarios.checkpoints.files import read_file
from sucrose.scenarios.checkpoints.inspection import inspect
from sucrose.scenarios.checkpoints.listing import in_order, is_only_the_record, path_at
from sucrose.scenarios.checkpoints.moving import quarantine
from sucrose.scenarios.checkpoints.snapshots import read_snapshot
from sucrose.scenarios.ranks import rank
from sucrose.scenarios.record import Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A checkpoint that was read.

    Attributes:
        contents: what was written, by name.
        record: what the checkpoint says of itself; None where others wrote it, or a newer release.
        epoch: number of finished epochs, by its name.
        is_mid_epoch: whether it was saved in the middle of the next one.
        path: file or snapshot.
    """

    contents: dict[str, Any]
    record: Record | None
    epoch: int
    is_mid_epoch: bool
    path: str


def load_newest(names: CheckpointNames, options: Mapping[str, Any]) -> Loaded | None:
    """The newest checkpoint that is sound; None where there is none at all.

    Raises:
        CorruptionError: all that there are are damaged.
        Exception: as `load_one`, of errors that do not speak against the checkpoint.
    """
    damaged: dict[str, str] = {}
    loaded = None
    while loaded is None:
        candidate = _newest(names, damaged)
        if candidate is None:
            break
        epoch, is_mid_epoch = candidate
        path = path_at(names, epoch, is_mid_epoch=is_mid_epoch)
        try:
            loaded = load_one(names, epoch, options, is_mid_epoch=is_mid_epoch)
        except (SucroseError, OSError) as error:
            reason = damage_of(error, path)
            if reason is None:
                raise
            if os.path.lexists(path):  # else somebody has moved it
                damaged[path] = reason
    if loaded is None and damaged:
        tried = "; ".join(f"{os.path.basename(path)} ({reason})" for path, reason in damaged.items())
        raise CorruptionError(
            f"every checkpoint in {names.folder} is damaged: {tried}. Nothing was moved or loaded: put another copy "
            "there, or move them away to begin anew",
            path=names.folder,
        )
    for path, reason in damaged.items():
        if rank() == 0:
            quarantine(path, reason)
    return loaded


def load_epoch(names: CheckpointNames, epoch: int, options: Mapping[str, Any]) -> Loaded:
    """The checkpoint of one epoch; no other takes its place.

    Raises:
        FileNotFoundError: there is none; the message lists those that there are.
        Exception: as `load_one`.
    """
    epochs = names.epochs()
    if epoch not in epochs:
        there = f"there are those of {', '.join(map(str, epochs))}" if epochs else "there is none at all"
        path = names.path_of(epoch)
        raise FileNotFoundError(errno.ENOENT, f"no checkpoint of epoch {epoch}; {there}", path)
    return load_one(names, epoch, options, is_mid_epoch=False)


def load_one(names: CheckpointNames, epoch: int, options: Mapping[str, Any], *, is_mid_epoch: bool) -> Loaded:
    """Reads one checkpoint.

    Raises:
        CorruptionError: it is damaged.
        UnsafeObjectError: `weights_only` refuses an object in it.
        OSError: it cannot be read.
    """
    path = path_at(names, epoch, is_mid_epoch=is_mid_epoch)
    record = _record(path, is_snapshot=names.are_snapshots)
    try:
        contents = read_snapshot(path, options) if names.are_snapshots else read_file(path, options)
    except UnsafeObjectError as error:
        raise UnsafeObjectError(
            f"{error} For a scenario that is load_state_dict(..., loader_kwds={{'weights_only': False}}).",
            path=error.path,
            key=error.key,
        ) from error
    if not isinstance(contents, dict):
        found = type(contents).__name__
        raise CorruptionError(f"{path} holds a {found}, expected a dict of objects by name", path=path)
    return Loaded(contents=contents, record=record, epoch=epoch, is_mid_epoch=is_mid_epoch, path=path)


def _record(path: str, *, is_snapshot: bool) -> Record | None:
    try:
        return inspect(path, is_snapshot=is_snapshot)
    except FormatVersionError as error:
        if not is_only_the_record(error, path):
            raise
        logger.warning("%s. Its objects are loaded, what else it says is not", error)
        return None


def _newest(names: CheckpointNames, passed_over: Mapping[str, str]) -> tuple[int, bool] | None:
    candidates = in_order(names)
    while candidates:
        epoch, is_mid_epoch = candidates.pop()
        if path_at(names, epoch, is_mid_epoch=is_mid_epoch) not in passed_over:
            return epoch, is_mid_epoch
    return None
