"""Checkpoints that are snapshots, written in the background.

Every object is a stateful of its own in the snapshot, under its name: so `Snapshot.restore` and `read_object` know
them as they are known in the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sucrose.errors import ConfigError, UnsupportedError
from sucrose.scenarios.checkpoints.taken_apart import TakenApart
from sucrose.scenarios.record import RECORD_NAME, Record, encode_record
from sucrose.snapshot.arguments import check_single_process
from sucrose.snapshot.capture import RANK
from sucrose.snapshot.pending import PendingSnapshot
from sucrose.snapshot.snapshot import Snapshot
from sucrose.snapshot.take_request import TakeRequest, async_take
from sucrose.storage.leases import lease

_OPTIONS = frozenset({"map_location", "weights_only", "mmap"})


def begin_snapshot(
    path: str, contents: Mapping[str, Any], record: Record, committed: Callable[[], None]
) -> PendingSnapshot:
    """Begins to write the snapshot, in place of one that is there; returns when `contents` may be changed.

    Args:
        path: the snapshot.
        contents: the objects' states by name.
        record: goes into a file of its own.
        committed: called after the commit, by the thread that has made it.

    Raises:
        Exception: as `Snapshot.async_take`.
    """
    request = TakeRequest(
        path=path,
        app_state={name: _Part(value) for name, value in contents.items()},
        overwrite=True,
        annex=_RecordAnnex(encode_record(record), committed),
    )
    return async_take(request, lambda *_: Snapshot(path))


def read_snapshot(path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the whole snapshot into new tensors on the host, or where `map_location` wants them.

    Args:
        path: the snapshot.
        options: those of `torch.load` that mean something here.

    Raises:
        ConfigError: one of them does not.
        CorruptionError: the snapshot is damaged.
        UnsafeObjectError: `weights_only`, which is the default, refuses an object in it.
        OSError: it cannot be read.
    """
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ConfigError(
            f"{', '.join(unknown)} in loader_kwds mean nothing for snapshots: {path} can be read with "
            f"{', '.join(sorted(_OPTIONS))}",
            path=path,
        )
    check_single_process(None)
    held = lease(path)
    try:
        snapshot = Snapshot(path)
        parts = {name: _Part(None) for name in _names_in(snapshot)}
        snapshot.restore(parts, allow_pickle=not options.get("weights_only", True), progress=None)
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

    def __init__(self, value: Any) -> None:
        self.value = value

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


def _names_in(snapshot: Snapshot) -> list[str]:
    found = []
    for path in snapshot.metadata.manifest:
        rank, _, name = path.partition("/")
        if rank != str(RANK):
            raise UnsupportedError(
                f"{snapshot.path} was saved by several ranks; this release restores scenarios of one",
                path=snapshot.path,
            )
        if "/" not in name:
            found.append(name.replace("%2F", "/").replace("%25", "%"))
    return found
