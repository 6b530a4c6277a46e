"""Restoring the newest generation that turns out to be sound, or one of a certain step: on one rank, or on many."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from sucrose.catalog.agreement import agree_on_attempt, agree_on_call, agree_on_generation, check_is_shared
from sucrose.catalog.newest import lease_newest, put_aside
from sucrose.catalog.soundness import damage_of
from sucrose.errors import (
    CorruptionError,
    IncompleteSnapshotError,
    StateMismatchError,
    SucroseError,
    UnsafeObjectError,
)

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation, GenerationLease
    from sucrose.ranks import Exchange


def restore_newest(
    directory: CatalogDirectory, restore: Callable[[Generation], None], exchange: Exchange
) -> Generation | None:
    """Calls `restore` with one generation after another, the newest first, until one is sound for all ranks.

    Raises:
        CorruptionError: none was, and tensors may have been overwritten.
        RankError: another rank has failed by something that does not speak against the generation.
        Exception: this one has.
    """
    agree_on_call(exchange, directory.root)
    passed_over: set[str] = set()
    tried: Generation | None = None
    while True:
        found = lease_newest(directory, contents=False, passed_over=passed_over) if exchange.rank == 0 else None
        chosen, lease = (None, None) if found is None else found
        with lease or nullcontext():
            generation = agree_on_generation(exchange, directory, chosen)
            if generation is None:
                break
            reason = _try(directory, generation, restore, exchange, tried)
            if reason is None:
                return generation
            if lease is not None:
                put_aside(directory, generation, lease, reason, passed_over)
            tried = generation
    if tried is None:
        return None
    raise CorruptionError(
        f"no generation in {directory.root!r} is sound. {_warning(tried)}: initialize the program's state anew, or "
        "restore another copy",
        path=directory.root,
    )


def restore_step(
    directory: CatalogDirectory,
    step: int,
    choose: Callable[[], tuple[Generation, GenerationLease]],
    restore: Callable[[Generation], None],
    exchange: Exchange,
) -> Generation:
    """Calls `restore` with the generation that `choose` finds on rank 0. No other takes its place.

    Raises:
        RankError: another rank has failed.
        Exception: this one has.
    """
    agree_on_call(exchange, directory.root, step)
    chosen, lease = choose() if exchange.rank == 0 else (None, None)
    with lease or nullcontext():
        generation = agree_on_generation(exchange, directory, chosen)
        assert generation is not None  # rank 0 has found one
        try:
            restore(generation)
        except (SucroseError, OSError) as error:
            check_is_shared(exchange, error, generation.path)
            _check_was_kept(lease, generation, error)
            raise
    return generation


def _check_was_kept(lease: GenerationLease | None, generation: Generation, error: Exception) -> None:
    """Tells damage from a generation that has gone while it was read, as it can in object stores.

    Raises:
        IncompleteSnapshotError: it has.
    """
    is_damage = damage_of(error, generation.path, generation.base_paths()) is not None
    if is_damage and lease is not None and not lease.is_current():
        raise IncompleteSnapshotError(
            errno.ENOENT,
            f"a collection has removed {generation.path} while it was read, so that tensors of the program may have "
            "been overwritten with its content: restore another one",
            generation.path,
            path=generation.path,
        ) from error


def _try(
    directory: CatalogDirectory,
    generation: Generation,
    restore: Callable[[Generation], None],
    exchange: Exchange,
    tried: Generation | None,
) -> str | None:
    """None where all ranks have restored it, else what is broken about it."""
    failure: SucroseError | OSError | None = None
    damage = None
    try:
        restore(generation)
    except (SucroseError, OSError) as error:
        check_is_shared(exchange, error, generation.path)
        failure = error
        damage = damage_of(error, generation.path, generation.base_paths())
    try:
        return agree_on_attempt(
            exchange, failure, damage, path=generation.path, is_whole=lambda: _is_whole(directory, generation)
        )
    except (StateMismatchError, UnsafeObjectError) as mismatch:
        if tried is None:
            raise
        raise _with_warning(mismatch, tried) from mismatch


def _is_whole(directory: CatalogDirectory, generation: Generation) -> bool:
    try:
        directory.check(generation, contents=False)
    except (SucroseError, OSError):
        return False
    return True


def _with_warning(
    error: StateMismatchError | UnsafeObjectError, tried: Generation
) -> StateMismatchError | UnsafeObjectError:
    return type(error)(f"{error}\n{_warning(tried)}", path=error.path, key=error.key, offset=error.offset)


def _warning(tried: Generation) -> str:
    return (
        f"{tried.id} was found broken while it was read, so tensors of the program may have been overwritten with its "
        "content"
    )
