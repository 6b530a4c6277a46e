"""From the arguments of a take to its commit, in the caller's thread or behind its back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sucrose.compression import Compression
from sucrose.engine import Engine, Staging, get_engine
from sucrose.engine.host_memory import free_host_nbytes
from sucrose.options import Options, current_options
from sucrose.snapshot.arguments import check_single_process, check_storage_options, check_target
from sucrose.snapshot.authenticity import signer_of
from sucrose.snapshot.commit_queue import QueuedTake
from sucrose.snapshot.pending import PendingSnapshot
from sucrose.snapshot.process_end import COMMITS, commit_in_background
from sucrose.snapshot.stateful import AppState, check_app_state
from sucrose.snapshot.take import StartedTake, start_take
from sucrose.storage import local_path

if TYPE_CHECKING:
    from sucrose.formats.manifest import SnapshotMetadata
    from sucrose.formats.signing_keys import Signer
    from sucrose.snapshot.annex import Annex
    from sucrose.snapshot.capture import PrepareTensor
    from sucrose.snapshot.snapshot import Snapshot
    from sucrose.snapshot.take_stats import TakeStats


_MOST_IN_BACKGROUND = 32
"""Each has a folder, a descriptor and memory; a program that saves faster than the disk waits for the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeRequest:
    """The arguments of `Snapshot.take` and `Snapshot.async_take`, and what only the catalog adds."""

    path: str | os.PathLike[str]
    app_state: AppState
    pg: Any = None
    storage_options: Mapping[str, Any] | None = None
    prepare: PrepareTensor | None = None
    durable: bool = True
    overwrite: bool = False
    progress: bool | None = False
    annex: Annex | None = None
    compression: Compression | str | None = None
    signer: Signer | None = None
    """None: what the environment says."""
    base: str | None = None
    """Path of the snapshot that this one may refer to."""
    fingerprints: bool = False
    """Whether to store them without a base, too."""


def take(request: TakeRequest) -> tuple[SnapshotMetadata, TakeStats]:
    """Writes and commits; `Snapshot.take` says what it raises."""
    COMMITS.raise_untold()
    earlier = COMMITS.under_way()
    started = _start(request)
    try:
        started.wait_written()
        for queued in earlier:
            COMMITS.wait_ended(queued)
    except BaseException:
        started.abandon()
        raise
    return started.commit()


def async_take(request: TakeRequest, refer: Callable[[SnapshotMetadata, TakeStats], Snapshot]) -> PendingSnapshot:
    """Begins to write; `refer` makes what `PendingSnapshot.wait` returns."""
    under_way = COMMITS.under_way()
    if len(under_way) >= _MOST_IN_BACKGROUND:
        COMMITS.wait_ended(under_way[-_MOST_IN_BACKGROUND])
    COMMITS.raise_untold()
    queued = QueuedTake(_start(request, in_background=True), os.fspath(request.path))
    try:
        commit_in_background(queued)
        return PendingSnapshot(queued, refer)
    except BaseException:
        COMMITS.cancel(queued)
        raise


def _start(request: TakeRequest, *, in_background: bool = False) -> StartedTake:
    check_app_state(request.app_state)
    check_storage_options(request.storage_options)
    check_single_process(request.pg)
    target = os.path.abspath(local_path(request.path))
    check_target(target, request.overwrite)
    options = current_options()
    engine = get_engine()
    return start_take(
        target,
        request.app_state,
        request.prepare,
        options=options,
        engine=engine,
        durable=request.durable,
        overwrite=request.overwrite,
        staging=_staging(options, engine) if in_background else None,
        show_progress=request.progress,
        annex=request.annex,
        compression=Compression.of(request.compression, options.compression),
        signer=signer_of(request.signer),
        base=request.base,
        fingerprints=request.fingerprints,
    )


def _staging(options: Options, engine: Engine) -> Staging:
    budget_nbytes = options.staging_nbytes or (free_host_nbytes() + engine.kept_staging_nbytes()) // 2
    return Staging(mode=options.staging, budget_nbytes=budget_nbytes)
