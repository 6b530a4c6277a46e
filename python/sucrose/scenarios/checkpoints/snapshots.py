"""Checkpoints that are snapshots, written in the background.

Every object is a stateful of its own in the snapshot, under its name: so `Snapshot.restore` and `read_object` know
them as they are known in the program.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sucrose.errors import ConfigError
from sucrose.ranks import Ranks
from sucrose.scenarios.checkpoints.taken_apart import TakenApart
from sucrose.scenarios.record import RECORD_NAME, Record, encode_record
from sucrose.scenarios.replicated import Replicated
from sucrose.snapshot.entries import entry_at
from sucrose.snapshot.pending import PendingSnapshot
from sucrose.snapshot.snapshot import Snapshot
from sucrose.snapshot.take_request import TakeRequest, async_take
from sucrose.storage.leases import lease

if TYPE_CHECKING:
    from sucrose.formats.manifest import SnapshotMetadata

logger = logging.getLogger(__name__)

_OPTIONS = frozenset({"map_location", "weights_only", "mmap"})


def begin_snapshot(
    path: str,
    contents: Mapping[str, Any],
    record: Record,
    committed: Callable[[], None],
    *,
    ranks: Ranks,
    replicated: Replicated,
) -> PendingSnapshot:
    """Begins to write the snapshot, in place of one that is there; returns when `contents` may be changed.

    All ranks call this together.

    Args:
        path: the snapshot.
        contents: the objects' states by name.
        record: goes into a file of its own.
        committed: called after the commit on rank 0, by the thread that has made it.
        ranks: those that write it.
        replicated: what they have alike.

    Raises:
        Exception: as `Snapshot.async_take`.
    """
    request = TakeRequest(
        path=path,
        app_state={name: _Part(value, replicated.modules.get(name)) for name, value in contents.items()},
        pg=ranks,
        overwrite=True,
        annex=_RecordAnnex(encode_record(record), committed) if ranks.rank == 0 else None,
        replicated=replicated.globs,
    )
    return async_take(request, lambda *_: Snapshot(path))


def check_options(path: str, options: Mapping[str, Any]) -> None:
    """Refuses options of `torch.load` that mean nothing for snapshots.

    Raises:
        ConfigError: there is one.
    """
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)} in loader_kwds mean nothing for snapshots: {path} can be read with "
            f"{', '.join(sorted(_OPTIONS))}",
            path=path,
        )


def parts_of(path: str, ranks: Ranks) -> list[str]:
    """Names of the objects in the snapshot that this rank can have; a warning tells of those that it cannot.

    Raises:
        CorruptionError: the snapshot is damaged.
        OSError: it cannot be read.
    """
    metadata = Snapshot(path).metadata
    logical = {manifest_path.partition("/")[2] for manifest_path in metadata.manifest} - {""}
    of_ranks = {one.partition("/")[0] for one in logical if not _is_for_any_rank(metadata, one)}
    names = {one.partition("/")[0] for one in logical} - of_ranks
    if metadata.world_size == ranks.world_size:
        own = (one.partition("/") for one in metadata.manifest)
        names |= {name.partition("/")[0] for rank, _, name in own if rank == str(ranks.rank) and name}
    elif of_ranks and ranks.rank == 0:
        logger.warning(
            "%s was saved by %d ranks, and is loaded by %d. What each rank has saved for itself is left out: %s",
            path,
            metadata.world_size,
            ranks.world_size,
            ", ".join(sorted(map(_decoded, of_ranks))),
        )
    return sorted(map(_decoded, names))


def read_snapshot(
    path: str, names: Sequence[str], options: Mapping[str, Any], ranks: Ranks, *, in_place: Mapping[str, Any]
) -> dict[str, Any]:
    """Reads objects into new tensors on the host, or where `map_location` wants them. All ranks call this together.

    Args:
        path: the snapshot.
        names: see `parts_of`.
        options: those of `torch.load` that mean something here.
        ranks: those that read it.
        in_place: objects that are read into instead, and are not among what is returned.

    Raises:
        CorruptionError: the snapshot is damaged.
        UnsafeObjectError: `weights_only`, which is the default, refuses an object in it.
        OSError: it cannot be read.
    """
    parts = {name: _Part(None) for name in names if name not in in_place}
    held = lease(path)
    try:
        snapshot = Snapshot(path, ranks)
        snapshot.restore({**parts, **in_place}, allow_pickle=not options.get("weights_only", True), progress=None)
    finally:
        if held is not None:
            held.release()
    contents = {name: part.value for name, part in parts.items()}
    location = options.get("map_location")
    if location is None:
        return contents
    relocated: dict[str, Any] = TakenApart.of(contents).put_together(location)
    return relocated


class _Part:
    """One object of a checkpoint, as a stateful: hands its state over, or receives it in new tensors."""

    def __init__(self, value: Any, stands_for: Any = None) -> None:
        self.value = value
        self.stands_for = stands_for
        """A DDP module whose state it is."""

    def state_dict(self) -> Any:
        return self.value

    def load_state_dict(self, state_dict: Any) -> None:
        self.value = state_dict


class _RecordAnnex:
    """Implements `Annex`."""

    def __init__(self, data: bytes, committed: Callable[[], None]) -> None:
        self._data = data
        self._committed = committed

    def make_room(self) -> bool:
        return False  # what is not kept any more is removed by the commit that superseded it

    def files(self, nbytes: int, bases: Sequence[str]) -> Mapping[str, bytes]:  # noqa: ARG002 - part of the interface
        return {RECORD_NAME: self._data}

    def committed(self) -> None:
        self._committed()


def _is_for_any_rank(metadata: SnapshotMetadata, logical: str) -> bool:
    """Whether a rank that was not there when the snapshot was taken can have the value."""
    return entry_at(metadata, f"{metadata.world_size}/{logical}") is not None


def _decoded(name: str) -> str:
    return name.replace("%2F", "/").replace("%25", "%")
