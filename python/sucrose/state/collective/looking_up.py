"""Which saved generation a program of several ranks goes on from.

1. The rank that is first to ask for saved states looks for the newest generation that verifies, and so reads all of
   it, once for all ranks. It waits for nobody: ranks may register their states at different moments.
2. It says what it has found. Meanwhile a thread of it shows the others that it is at work.
3. The others look for that generation and no other.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sucrose.errors import RankError
from sucrose.options import current_options
from sucrose.ranks.waiting import pause_after
from sucrose.snapshot.thread_start import start_thread
from sucrose.state.collective.job import ranks_of_job
from sucrose.state.collective.saves import collective
from sucrose.state.workers import NoCheckpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sucrose.ranks import Ranks
    from sucrose.ranks.operation_store import OperationStore
    from sucrose.state.checkpoints import Checkpoints, CollectiveCheckpoints, SavedStates

_BEAT_S = 1.0
_CLAIMS = "claims"
_BY = "by"
_BEATS = "beats"
_FOUND = "found"


class _Found(msgspec.Struct, array_like=True, frozen=True):
    name: str | None
    failure: str = ""


class LookUps:
    """The look-ups of one process, numbered alike on all ranks. For one thread at a time."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._number = 0

    def newest(self) -> SavedStates | None:
        """The newest generation that verifies, the same for all ranks; None where there is none.

        Raises:
            RankError: the rank that looks for it has failed or ended.
            StorageError: what another rank has found is not to be seen from here.
            Exception: as `Checkpoints.newest`.
        """
        ranks = ranks_of_job()
        if ranks is None or isinstance(self._checkpoints, NoCheckpoints):
            return self._checkpoints.newest()
        checkpoints = collective(self._checkpoints)
        self._number += 1
        keys = ranks.keys(f"look-up-{self._number}")
        if keys.count(_CLAIMS, 1) == 1:
            return _look(checkpoints, keys, ranks)
        found = _wait(keys, ranks)
        return None if found.name is None else checkpoints.named(found.name)


def _look(checkpoints: CollectiveCheckpoints, keys: OperationStore, ranks: Ranks) -> SavedStates | None:
    keys.put(_BY, str(ranks.rank).encode())
    try:
        with _beating(keys):
            newest = checkpoints.newest_name()
    except Exception as error:
        _tell(keys, _Found(None, f"{type(error).__name__}: {error}"))
        raise
    _tell(keys, _Found(None if newest is None else newest[0]))
    return None if newest is None else newest[1]


def _tell(keys: OperationStore, found: _Found) -> None:
    keys.put(_FOUND, msgspec.msgpack.encode(found))


@contextmanager
def _beating(keys: OperationStore) -> Iterator[None]:
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(_BEAT_S):
            keys.count(_BEATS, 1)

    start_thread(beat, "sucrose-look-up", daemon=True)
    try:
        yield
    finally:
        is_over.set()


def _wait(keys: OperationStore, ranks: Ranks) -> _Found:
    timeout_s = current_options().rank_timeout_s
    began = heard = time.monotonic()
    beats = 0
    while not keys.has(_FOUND):
        now = time.monotonic()
        count = keys.count(_BEATS)
        if count != beats:
            beats, heard = count, now
        if now - heard >= timeout_s:
            by = _claimer(keys)
            raise RankError(
                f"looking for saved states: nothing was heard of {ranks.name(by)} for {timeout_s:g} s, which looks for "
                "all ranks. The process has ended or hangs",
                ranks=by,
            )
        time.sleep(pause_after(now - began))
    found = msgspec.msgpack.decode(keys.get(_FOUND), type=_Found)
    if found.failure:
        by = _claimer(keys)
        raise RankError(f"looking for saved states failed on {ranks.name(by)}: {found.failure}", ranks=by)
    return found


def _claimer(keys: OperationStore) -> tuple[int, ...]:
    return (int(keys.get(_BY)),) if keys.has(_BY) else ()
