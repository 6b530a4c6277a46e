"""Writing a snapshot, on one rank or together on many.

`start_take`, in the caller's thread:

1. capture   state dicts are taken, flattened and checked (capture.py); what other ranks write is taken out
             again (collective/)
2. plan      tensors get their places in data files (plan.py), for which there has to be room
3. write     the engine begins the data files; meanwhile objects are written; all of it where nobody
             looks (places/): below a hidden directory, or in an object store under names of its own
4. safe      where staging was asked for: tensors have been copied, or as good as that, and nothing
             of the program's is looked at any more

`StartedTake` (started_take.py), in any thread:

5. wait      until the data files are complete and durable
6. commit    index and metadata, their signature, and the annex; then fsync, rename, fsync (storage/local.py), or
             one request (places/staged_objects.py). Of many ranks rank 0 does that, once all have come here

Whatever fails before the rename, or that request, in step 6 leaves the target as it was; after it the new snapshot
is there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sucrose.engine import Engine, Staging
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.capture import CapturedState, PrepareTensor, capture
from sucrose.snapshot.collective.parts import Part
from sucrose.snapshot.collective.share import in_manifest, keep_share
from sucrose.snapshot.data_writes import DataWrites
from sucrose.snapshot.incremental.planning import TakePlan, plan_take
from sucrose.snapshot.places.opening import open_place
from sucrose.snapshot.plan import DataFile
from sucrose.snapshot.sharding import shard_entries
from sucrose.snapshot.started_take import CommitTerms, StartedTake, TakeTimes, discarded_on_error
from sucrose.snapshot.stored_objects import StoredObjects, store_objects
from sucrose.snapshot.take_contents import CommitRecord, TakeContents
from sucrose.snapshot.tensors import extents_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sucrose.compression import Compression
    from sucrose.options import Options
    from sucrose.ranks import Exchange
    from sucrose.snapshot.places.target import TakeTarget
    from sucrose.snapshot.stateful import AppState

_STARTED_EARLY = 8  # data files that are under way while objects are pickled


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeRanks:
    """With whom a take goes, and what of the state all have alike."""

    exchange: Exchange
    global_ranks: Sequence[int]
    """Of the exchange's ranks, as meshes of DTensors have them."""
    replicated: Sequence[str]
    """Globs, the same on all ranks."""


def start_take(
    target: TakeTarget,
    app_state: AppState,
    prepare: PrepareTensor | None,
    *,
    ranks: TakeRanks,
    terms: CommitTerms,
    options: Options,
    engine: Engine,
    staging: Staging | None = None,
    show_progress: bool | None = False,
    compression: Compression | None = None,
    base: str | None = None,
    fingerprints: bool = False,
) -> StartedTake:
    """Steps 1 to 4, of a checked `app_state`. Without `staging` the sources are safe after step 5.

    Raises:
        UnsupportedError: a tensor without data, or a value that cannot be pickled.
        IncompleteSnapshotError: there is no complete snapshot at `base`, or one that it refers to is gone.
        CorruptionError: the base is damaged.
        StorageFullError: there is too little space.
        StorageError: writing failed; `target` is as it was.
        RankError: another rank has failed; `target` is as it was.
    """
    began = time.perf_counter()
    exchange = ranks.exchange
    with torch.no_grad(), collector_paused():
        captured = capture(app_state, prepare, engine, exchange.rank)
        replicated = keep_share(
            captured,
            app_state,
            ranks.replicated,
            exchange=exchange,
            global_ranks=ranks.global_ranks,
            engine=engine,
        )
        captured_at = time.perf_counter()
        plan = plan_take(
            captured,
            target=target.location,
            base=base,
            fingerprints=fingerprints,
            options=options,
            compression=compression,
            engine=engine,
            signer=terms.signer,
            tag=target.tag,
        )
    files = plan.files
    planned = time.perf_counter()
    nbytes = sum(_nbytes_of(file, plan) for file in files)
    try:
        place = open_place(
            target,
            exchange,
            engine,
            # What compression leaves is not known before.
            certain_nbytes=0 if compression is not None else nbytes,
            durable=terms.durable,
            overwrite=terms.overwrite,
            annex=terms.annex,
        )
    except BaseException:
        plan.release()
        raise
    place.hold(plan.leases)
    writes = DataWrites(
        place, staging=staging, show_progress=show_progress, alive=exchange.alive, digest_kind=terms.digest_kind
    )
    with discarded_on_error(place, writes, exchange, nbytes):
        for file in files[:_STARTED_EARLY]:
            _submit(writes, plan, file)
        objects = store_objects(place, captured, engine, terms.digest_kind, target.tag)
        contents = _contents(captured, plan, objects, replicated, nbytes, is_alone=exchange.world_size == 1)
        objects_at = time.perf_counter()
        for file in files[_STARTED_EARLY:]:
            _submit(writes, plan, file)
        if staging is not None:
            writes.wait_safe()
    for name, begin, end in (
        ("capture", began, captured_at),
        ("plan", captured_at, planned),
        ("objects", planned, objects_at),
    ):
        engine.trace(name, begin, end)
    times = TakeTimes(began=began, planned=planned, safe=time.perf_counter())
    return StartedTake(place, writes, contents, times, terms, engine, exchange)


def _contents(
    captured: CapturedState,
    plan: TakePlan,
    objects: StoredObjects,
    replicated: frozenset[str],
    nbytes: int,
    *,
    is_alone: bool,
) -> TakeContents:
    stored = {**plan.entries, **objects.entries}
    if captured.sharded:
        stored = shard_entries(captured, stored)
    part = Part(
        in_manifest({**captured.flat.entries, **stored}, replicated),
        objects.records,
        captured.flat.state_dict_metadata,
        {path.partition("/")[2]: torch.Size(value.shape).numel() for path, value in captured.sharded.items()},
    )
    return TakeContents(
        part=part,
        commit=CommitRecord.of([part]) if is_alone else None,
        data_files=[file.name for file in plan.files],
        data_nbytes=nbytes,
        tensors=len(plan.entries),
        objects=objects,
        referred=plan.referred,
        referred_nbytes=plan.referred_nbytes,
        bases=plan.bases,
        fingerprints=plan.fingerprints,
    )


def _submit(writes: DataWrites, plan: TakePlan, file: DataFile) -> None:
    memories = [plan.memories[path] for path in file.paths]
    writes.submit(file.name, extents_of(memories, header=file.header), file.encoding)


def _nbytes_of(file: DataFile, plan: TakePlan) -> int:
    return len(file.header) + sum(plan.memories[path].nbytes for path in file.paths)
