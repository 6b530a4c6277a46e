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
    from collections.abc import Callable, Sequence

    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation
    from sucrose.ranks import Exchange

_UNSEEN_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})


class _Call(msgspec.Struct, array_like=True, frozen=True):
    root: bytes
    step: int | None


class _Attempt(msgspec.Struct, array_like=True, frozen=True):
    damage: bytes = b""
    is_unseen: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Call)
_attempt_decoder = msgspec.msgpack.Decoder(_Attempt)


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


def agree_on_attempt(
    exchange: Exchange,
    error: Exception | None,
    damage: str | None,
    *,
    path: str,
    is_whole: Callable[[], bool] | None = None,
) -> str | None:
    """Step 3: None where all ranks have read what they were to read, else what is broken about it, on all of them.

    Args:
        exchange: of a call that is given up where this raises.
        error: of this rank; one that tells of another rank's is that one's business.
        damage: what `error` says against what was read; None where it is about something else.
        path: what was read.
        is_whole: asked on rank 0 where other ranks alone have not found it, or a part of it.

    Raises:
        Exception: `error`, where it is about something else.
        StorageError: on rank 0, which has all of it, while another rank does not find it.
        RankError: another rank has failed by something else.
    """
    is_of_another = isinstance(error, RankError) and bool(error.error_type)
    if error is not None and damage is None and not is_of_another:
        raise error
    attempt = _Attempt((damage or "").encode(errors="surrogateescape"), getattr(error, "errno", None) in _UNSEEN_ERRNOS)
    found = exchange.gather("how reading went", _encoder.encode(attempt))
    first = None if found is None else _first_damage([_attempt_decoder.decode(one) for one in found], path, is_whole)
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
        raise _not_shared(path, exchange.rank) from error


def _first_damage(attempts: Sequence[_Attempt], path: str, is_whole: Callable[[], bool] | None) -> bytes:
    """What the first rank says that has found any.

    In object stores a generation that is not there may have been collected, or be in a store that a rank does not see.
    """
    damaged = [(rank, attempt) for rank, attempt in enumerate(attempts) if attempt.damage]
    if not damaged:
        return b""
    if is_whole is not None and all(rank > 0 and attempt.is_unseen for rank, attempt in damaged) and is_whole():
        raise _not_shared(path, damaged[0][0])
    return damaged[0][1].damage


def _not_shared(path: str, rank: int) -> StorageError:
    return StorageError(
        errno.ESTALE,
        f"rank 0 sees {path!r} whole, and rank {rank} does not: what several ranks save and restore together has to be "
        "on storage that all of them share",
        path,
        path=path,
    )


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
