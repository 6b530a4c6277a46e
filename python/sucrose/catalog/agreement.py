"""What the ranks of a group agree on where one catalog is theirs together: rank 0 looks at the folder, and decides.

1. All name the same catalog, and the same step: else they are out of step, and nothing is done.
2. Rank 0 tells which generation it is: the one that is to be saved, or restored.
3. After an attempt to read it each rank says how that went. Damage that one has found is known to all then, so that
   they go on together; an error that does not speak against what was read ends the call everywhere.

One rank by itself agrees with itself.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec

from sucrose.errors import RankError, StorageError
from sucrose.formats.generation import GENERATION_VERSION, GenerationRecord, decode_generation, encode_generation
from sucrose.storage import is_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation
    from sucrose.ranks import Exchange

_UNSEEN_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})


class _Call(msgspec.Struct, array_like=True, frozen=True):
    root: bytes
    step: int | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Call)


def agree_on_call(exchange: Exchange, root: str, step: int | None = None) -> None:
    """Step 1.

    Raises:
        RankError: a rank names another catalog or step than rank 0, or has failed.
    """
    given = exchange.gather_distinct("catalog and step", _encoder.encode(_Call(os.fsencode(root), step)))
    for rank, encoded in enumerate(given or ()):
        call = _decoder.decode(encoded)
        if call.root != os.fsencode(root):
            raise RankError(
                f"rank {rank} has a catalog at {os.fsdecode(call.root)!r}, and rank 0 at {root!r}: give all ranks the "
                "same folder, on storage that they share",
                ranks=(rank,),
            )
        if call.step != step:
            raise RankError(
                f"rank {rank} names step {call.step}, and rank 0 step {step}, in one call for the catalog {root!r}",
                ranks=(rank,),
            )


def agree_on_draft(exchange: Exchange, root: str, make: Callable[[], GenerationRecord]) -> GenerationRecord:
    """Step 2 of a save: `make` is called on rank 0.

    Raises:
        Exception: of `make`.
        RankError: another rank has failed.
    """
    if exchange.world_size == 1:
        return make()
    encoded = encode_generation(make()) if exchange.rank == 0 else None
    return decode_generation(exchange.broadcast("new generation", encoded), path=root)


def agree_on_generation(
    exchange: Exchange, directory: CatalogDirectory, chosen: Generation | None
) -> Generation | None:
    """Step 2 of a restore: rank 0's `chosen`, with the signer of this rank's catalog.

    Raises:
        RankError: another rank has failed.
    """
    if exchange.world_size == 1:
        return chosen
    encoded = b"" if chosen is None else encode_generation(_record_of(chosen))
    told = exchange.broadcast("generation", encoded)
    if exchange.rank == 0 or not told:
        return chosen if exchange.rank == 0 else None
    record = decode_generation(told, path=directory.root)
    return directory.generation(record, pinned=record.pinned)


def agree_on_attempt(exchange: Exchange, error: Exception | None, damage: str | None) -> str | None:
    """Step 3: None where all ranks have read what they were to read, else what is broken about it, on all of them.

    Args:
        exchange: of a call that is given up where this raises.
        error: of this rank; one that tells of another rank's is that one's business.
        damage: what `error` says against what was read; None where it is about something else.

    Raises:
        Exception: `error`, where it is about something else.
        RankError: another rank has failed by something else.
    """
    is_of_another = isinstance(error, RankError) and bool(error.error_type)
    if error is not None and damage is None and not is_of_another:
        raise error
    found = exchange.gather("how reading went", (damage or "").encode(errors="surrogateescape"))
    first = None if found is None else next((reason for reason in found if reason), b"")
    reason = exchange.broadcast("what is broken", first).decode(errors="surrogateescape")
    if error is not None and not reason:
        raise error
    return reason or None


def check_is_shared(exchange: Exchange, error: Exception | None, path: str) -> None:
    """For a rank that does not find what rank 0 has just looked at, and keeps from being removed, as on file systems.

    Raises:
        StorageError: `error` says so.
    """
    if exchange.rank > 0 and not is_url(path) and getattr(error, "errno", None) in _UNSEEN_ERRNOS:
        raise StorageError(
            errno.ESTALE,
            f"rank 0 sees {path!r} whole, and rank {exchange.rank} does not: what several ranks save and restore "
            "together has to be on storage that all of them share",
            path,
            path=path,
        ) from error


def _record_of(generation: Generation) -> GenerationRecord:
    return GenerationRecord(
        format_version=GENERATION_VERSION,
        id=generation.id,
        step=generation.step,
        timeline=generation.timeline,
        committed_ns=generation.committed_ns,
        metrics=dict(generation.metrics),
        pinned=generation.pinned,
        durable=generation.durable,
        nbytes=generation.nbytes,
        bases=list(generation.bases),
    )
