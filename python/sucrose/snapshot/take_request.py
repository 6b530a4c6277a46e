"""From the arguments of a take to its commit, in the caller's thread or behind its back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sucrose.compression import Compression
from sucrose.engine import Engine, Staging, get_engine
from sucrose.engine.host_memory import free_host_nbytes
from sucrose.errors import UnsupportedError
from sucrose.formats.index import DIGEST_NAME, SHA256_NAME
from sucrose.options import Options, current_options
from sucrose.ranks import Exchange, Ranks
from sucrose.snapshot.arguments import check_storage_options, checked_globs
from sucrose.snapshot.authenticity import signer_of
from sucrose.snapshot.collective.arguments import TakeArguments, agree_on_arguments
from sucrose.snapshot.commit_queue import QueuedTake
from sucrose.snapshot.pending import PendingSnapshot
from sucrose.snapshot.places.target import TakeTarget
from sucrose.snapshot.process_end import COMMITS, commit_in_background
from sucrose.snapshot.remote.names import new_tag
from sucrose.snapshot.started_take import CommitTerms, StartedTake
from sucrose.snapshot.stateful import AppState, check_app_state
from sucrose.snapshot.take import TakeRanks, start_take
from sucrose.storage import is_url, location_of

if TYPE_CHECKING:
    from sucrose.formats.manifest import SnapshotMetadata
    from sucrose.formats.signing_keys import Signer
    from sucrose.snapshot.annex import Annex
    from sucrose.snapshot.capture import PrepareTensor
    from sucrose.snapshot.snapshot import Snapshot
    from sucrose.snapshot.staged_upload.upload import StagedUpload
    from sucrose.snapshot.take_stats import TakeStats


_WHAT = "taking a snapshot"
_LOOK_UP_S = 0.5  # while writes go on: to show the other ranks that they do
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
    replicated: Sequence[str] = ()
    upload: StagedUpload | None = None
    """None: no staging folder."""


@contextmanager
def failing_on_all(pg: Any) -> Iterator[None]:
    """Where arguments are looked at, before the take is begun: ranks that wait in it hear of an error in here.

    A rank that makes a call less than the others would be out of step with them from then on.
    """
    try:
        yield
    except Exception as error:
        with suppress(Exception):  # that one is raised
            exchange = Ranks.of(pg).begin(_WHAT)
            exchange.fail(error)
            exchange.close()
        raise


def take(
    request: TakeRequest, agreed_path: Callable[[str], object] | None = None
) -> tuple[SnapshotMetadata | None, TakeStats]:
    """Writes and commits; `Snapshot.take` says what it raises.

    Args:
        request: what to do.
        agreed_path: is told where the snapshot goes, where that is another path than this rank's.
    """
    earlier = COMMITS.under_way()
    started = _start(request)
    try:
        while not started.wait_written(_LOOK_UP_S):
            pass
        for queued in earlier:
            while not COMMITS.wait_ended(queued, _LOOK_UP_S):
                started.alive()
    except BaseException as error:
        started.abandon(error)
        raise
    _tell_path(request, started, agreed_path)
    return started.commit()


def async_take(
    request: TakeRequest,
    refer: Callable[[SnapshotMetadata | None, TakeStats], Snapshot],
    agreed_path: Callable[[str], object] | None = None,
) -> PendingSnapshot:
    """Begins to write; `refer` makes what `PendingSnapshot.wait` returns, and `agreed_path` is as for `take`."""
    under_way = COMMITS.under_way()
    if len(under_way) >= _MOST_IN_BACKGROUND:
        COMMITS.wait_ended(under_way[-_MOST_IN_BACKGROUND])
    started = _start(request, in_background=True)
    _tell_path(request, started, agreed_path)
    queued = QueuedTake(started, _path_of(request, started))
    try:
        commit_in_background(queued)
        return PendingSnapshot(queued, refer)
    except BaseException:
        COMMITS.cancel(queued)
        raise


def _start(request: TakeRequest, *, in_background: bool = False) -> StartedTake:
    ranks = Ranks.of(request.pg)
    exchange = ranks.begin(_WHAT)  # before anything that could fail on some ranks only
    try:
        return _start_with(request, ranks, exchange, in_background=in_background)
    except BaseException as error:
        exchange.fail(error)
        exchange.close()
        raise


def _start_with(request: TakeRequest, ranks: Ranks, exchange: Exchange, *, in_background: bool) -> StartedTake:
    COMMITS.raise_untold()
    check_app_state(request.app_state)
    check_storage_options(request.path, request.storage_options)
    options = current_options()
    fingerprints = _fingerprints(request, options, exchange)
    signer = signer_of(request.signer)
    location = location_of(request.path)
    own = TakeArguments(
        target=location,
        replicated=checked_globs(request.replicated),
        digest_kind=DIGEST_NAME if signer is None else SHA256_NAME,
        is_durable=request.durable,
        tag=new_tag() if exchange.rank == 0 and is_url(location) else "",
    )
    agreed = agree_on_arguments(exchange, own)
    target = TakeTarget(agreed.target, agreed.tag, request.storage_options)
    _check_references(request, target)
    if request.upload is not None:
        from sucrose.snapshot.staged_upload.staging import staged_target

        target = staged_target(target, request.upload, exchange, overwrite=request.overwrite)
    elif exchange.rank == 0:
        target.check(overwrite=request.overwrite)
    engine = get_engine()
    return start_take(
        target,
        request.app_state,
        request.prepare,
        ranks=TakeRanks(exchange=exchange, global_ranks=ranks.global_ranks, replicated=agreed.replicated),
        terms=CommitTerms(
            durable=agreed.is_durable,
            overwrite=request.overwrite,
            in_background=in_background,
            digest_kind=agreed.digest_kind,
            annex=request.annex,
            signer=signer,
        ),
        options=options,
        engine=engine,
        staging=_staging(options, engine) if in_background else None,
        show_progress=request.progress if exchange.rank == 0 else False,
        compression=Compression.of(request.compression, options.compression),
        base=request.base,
        fingerprints=fingerprints and not agreed.tag,
    )


def _check_references(request: TakeRequest, target: TakeTarget) -> None:
    if request.base is not None and is_url(request.base):
        raise UnsupportedError(f"base={request.base!r}: takes refer to snapshots on file systems only, so far")
    if target.is_remote and (request.base is not None or request.fingerprints):
        raise UnsupportedError(
            f"base= and fingerprints= are for takes to file systems, and {target.location} is in an object store: take "
            "a whole snapshot, compressed perhaps"
        )


def _fingerprints(request: TakeRequest, options: Options, exchange: Exchange) -> bool:
    if exchange.world_size == 1:
        return request.fingerprints or bool(options.fingerprints)
    if request.base is not None or request.fingerprints:
        raise UnsupportedError(
            f"base= and fingerprints= are for takes on one rank, and these are {exchange.world_size}: what replicated "
            "values and shards have been before lies with other ranks; take a whole snapshot, compressed perhaps"
        )
    return False


def _path_of(request: TakeRequest, started: StartedTake) -> str:
    """The path as the program has given it, or rank 0's where that is another."""
    own = os.fspath(request.path)
    return own if request.upload is not None or location_of(own) == started.target else started.target


def _tell_path(request: TakeRequest, started: StartedTake, agreed_path: Callable[[str], object] | None) -> None:
    path = _path_of(request, started)
    if agreed_path is not None and path != os.fspath(request.path):
        agreed_path(path)


def _staging(options: Options, engine: Engine) -> Staging:
    budget_nbytes = options.staging_nbytes or (free_host_nbytes() + engine.kept_staging_nbytes()) // 2
    return Staging(mode=options.staging, budget_nbytes=budget_nbytes)
