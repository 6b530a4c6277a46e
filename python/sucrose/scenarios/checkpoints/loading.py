"""From a checkpoint on the disk to its contents; which one, if it is left open.

Left open, the newest is taken that is sound: those that turn out to be damaged are passed over, and moved to
quarantine once a sound one is found. Where there is none everything stays where it is, and the program is told: it
would otherwise begin anew without a word, and the second time really do so.

Of several ranks rank 0 looks and chooses, all read, and what is damaged for one of them is passed over by all.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sucrose.catalog.agreement import agree_on_attempt, check_is_shared
from sucrose.catalog.soundness import damage_of
from sucrose.errors import CorruptionError, FormatVersionError, SucroseError, UnsafeObjectError
from sucrose.scenarios.checkpoint_names import CheckpointNames
from sucrose.scenarios.checkpoints.files import read_file
from sucrose.scenarios.checkpoints.inspection import inspect
from sucrose.scenarios.checkpoints.listing import in_order, is_only_the_record, path_at
from sucrose.scenarios.checkpoints.moving import quarantine
from sucrose.scenarios.checkpoints.snapshots import check_options, parts_of, read_snapshot
from sucrose.scenarios.ranks import Together, rank, shown_alive
from sucrose.scenarios.record import Record

if TYPE_CHECKING:
    from sucrose.ranks import Exchange

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


def load_newest(
    names: CheckpointNames, options: Mapping[str, Any], together: Together, in_place: Mapping[str, Any]
) -> Loaded | None:
    """The newest checkpoint that is sound for all ranks; None where rank 0 finds none at all.

    Objects `in_place` may have been overwritten with one that was found broken while it was read.

    Raises:
        CorruptionError: all that there are are damaged.
        RankError: another rank has failed by something that does not speak against the checkpoint.
        Exception: as `load_epoch`, of errors that do not.
    """
    exchange = together.exchange
    damaged: dict[str, str] = {}
    loaded = None
    while loaded is None:
        candidate = _tell_candidate(exchange, _newest_unless(names, damaged) if exchange.rank == 0 else None)
        if candidate is None:
            return None
        epoch, is_mid_epoch = candidate
        path = path_at(names, epoch, is_mid_epoch=is_mid_epoch)
        reading = Reading(names, epoch, options, together, in_place, is_mid_epoch=is_mid_epoch)
        reason = _attempt(exchange, path, reading.begin, finds_damage=True)
        if reason is None:
            reason = _attempt(exchange, path, reading.finish, finds_damage=True)
        if reason is None:
            loaded = reading.loaded
        elif os.path.lexists(path):  # else somebody has moved it
            damaged[path] = reason
    for path, reason in damaged.items():
        if rank() == 0:
            quarantine(path, reason)
    return loaded


def load_epoch(
    names: CheckpointNames, epoch: int, options: Mapping[str, Any], together: Together, in_place: Mapping[str, Any]
) -> Loaded:
    """The checkpoint of one epoch; no other takes its place.

    Raises:
        FileNotFoundError: there is none; the message lists those that there are.
        CorruptionError: it is damaged.
        UnsafeObjectError: `weights_only` refuses an object in it.
        RankError: another rank has failed.
        OSError: it cannot be read.
    """
    exchange = together.exchange
    epochs = names.epochs() if exchange.rank == 0 else [epoch]
    path = names.path_of(epoch)
    if epoch not in epochs:
        there = f"there are those of {', '.join(map(str, epochs))}" if epochs else "there is none at all"
        raise FileNotFoundError(errno.ENOENT, f"no checkpoint of epoch {epoch}; {there}", path)
    exchange.agree("there is such a checkpoint")
    reading = Reading(names, epoch, options, together, in_place, is_mid_epoch=False)
    _attempt(exchange, path, reading.begin, finds_damage=False)
    _attempt(exchange, path, reading.finish, finds_damage=False)
    assert reading.loaded is not None
    return reading.loaded


class Reading:
    """One checkpoint that is read, in two steps: where the first has gone well on all ranks, they begin the second.

    Attributes:
        loaded: what was read, in the end.
    """

    def __init__(
        self,
        names: CheckpointNames,
        epoch: int,
        options: Mapping[str, Any],
        together: Together,
        in_place: Mapping[str, Any],
        *,
        is_mid_epoch: bool,
    ) -> None:
        self.loaded: Loaded | None = None
        self._is_snapshot = names.are_snapshots
        self._epoch = epoch
        self._is_mid_epoch = is_mid_epoch
        self._path = path_at(names, epoch, is_mid_epoch=is_mid_epoch)
        self._options = options
        self._together = together
        self._in_place = in_place
        self._record: Record | None = None
        self._names: list[str] = []

    def begin(self) -> None:
        """Reads what is small, without the other ranks."""
        if self._is_snapshot:
            check_options(self._path, self._options)
        self._record = _record(self._path, is_snapshot=self._is_snapshot)
        if self._is_snapshot:
            self._names = parts_of(self._path, self._together.ranks)

    def finish(self) -> None:
        """Reads the objects.

        Raises:
            CorruptionError: it is damaged.
            UnsafeObjectError: `weights_only` refuses an object in it.
            OSError: it cannot be read.
        """
        contents: Any
        try:
            if self._is_snapshot:
                contents = read_snapshot(
                    self._path, self._names, self._options, self._together.ranks, in_place=self._in_place
                )
            else:
                with shown_alive(self._together.exchange):
                    contents = read_file(self._path, self._options)
        except UnsafeObjectError as error:
            raise UnsafeObjectError(
                f"{error} For a scenario that is load_state_dict(..., loader_kwds={{'weights_only': False}}).",
                path=error.path,
                key=error.key,
            ) from error
        if not isinstance(contents, dict):
            found = type(contents).__name__
            raise CorruptionError(f"{self._path} holds a {found}, expected a dict of objects by name", path=self._path)
        self.loaded = Loaded(
            contents=contents,
            record=self._record,
            epoch=self._epoch,
            is_mid_epoch=self._is_mid_epoch,
            path=self._path,
        )


def _attempt(exchange: Exchange, path: str, read: Callable[[], None], *, finds_damage: bool) -> str | None:
    """None where all ranks have read, else what is broken; without `finds_damage` the error is raised instead."""
    failure: SucroseError | OSError | None = None
    damage = None
    try:
        read()
    except (SucroseError, OSError) as error:
        check_is_shared(exchange, error, path)
        failure = error
        damage = damage_of(error, path) if finds_damage else None
    return agree_on_attempt(exchange, failure, damage, path=path)


def _newest_unless(names: CheckpointNames, damaged: Mapping[str, str]) -> tuple[int, bool] | None:
    candidates = in_order(names)
    while candidates:
        epoch, is_mid_epoch = candidates.pop()
        if path_at(names, epoch, is_mid_epoch=is_mid_epoch) not in damaged:
            return epoch, is_mid_epoch
    if damaged:
        tried = "; ".join(f"{os.path.basename(path)} ({reason})" for path, reason in damaged.items())
        raise CorruptionError(
            f"every checkpoint in {names.folder} is damaged: {tried}. Nothing was moved or loaded: put another copy "
            "there, or move them away to begin anew",
            path=names.folder,
        )
    return None


def _tell_candidate(exchange: Exchange, candidate: tuple[int, bool] | None) -> tuple[int, bool] | None:
    """Rank 0's, on all ranks."""
    told = "" if candidate is None else f"{candidate[0]} {int(candidate[1])}"
    epoch, _, is_mid_epoch = exchange.broadcast("checkpoint", told.encode()).decode().partition(" ")
    return (int(epoch), is_mid_epoch == "1") if epoch else None


def _record(path: str, *, is_snapshot: bool) -> Record | None:
    try:
        return inspect(path, is_snapshot=is_snapshot)
    except FormatVersionError as error:
        if not is_only_the_record(error, path):
            raise
        logger.warning("%s. Its objects are loaded, what else it says is not", error)
        return None
