"""Choosing the place of a take: by its target, and by whether this is the rank that commits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sucrose.errors import StorageFullError
from sucrose.snapshot.collective.folder import make_or_join
from sucrose.snapshot.places.joined_files import JoinedFiles
from sucrose.snapshot.places.joined_objects import JoinedObjects
from sucrose.snapshot.places.staged_files import StagedFiles
from sucrose.snapshot.places.staged_objects import StagedObjects
from sucrose.snapshot.take_errors import explained
from sucrose.storage import JoinedDirectory, StagedDirectory
from sucrose.storage.free_space import check_free_space

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.ranks import Exchange
    from sucrose.snapshot.annex import Annex
    from sucrose.snapshot.places.target import TakeTarget
    from sucrose.snapshot.staged_upload.place import FilesToUpload


def open_place(
    target: TakeTarget,
    exchange: Exchange,
    engine: Engine,
    *,
    certain_nbytes: int,
    durable: bool,
    overwrite: bool,
    annex: Annex | None,
) -> StagedFiles | JoinedFiles | StagedObjects | JoinedObjects | FilesToUpload:
    """The place where this rank puts its files.

    Args:
        target: what it becomes.
        exchange: the take.
        engine: writes the files.
        certain_nbytes: what this rank is going to write at least.
        durable: whether a power cut must not undo the commit; object stores see to that by themselves.
        overwrite: whether a snapshot that is at the target stays there until the commit.
        annex: may make room.

    Raises:
        StorageFullError: there is too little space.
        StorageError: the place cannot be made, or not be seen from here.
        RankError: another rank has failed.
    """
    if target.is_remote:
        return _on_object_store(target, exchange, engine)
    if target.upload is not None:
        from sucrose.snapshot.staged_upload.place import open_for_upload

        return open_for_upload(target, target.upload, engine, certain_nbytes=certain_nbytes, durable=durable)

    def make(nbytes_of_all: int) -> StagedDirectory:
        replaces = overwrite and os.path.isdir(target.location)
        _check_free_space(target.location, nbytes_of_all, annex, replaces=replaces)
        with explained(target.location, lambda: certain_nbytes):
            return StagedDirectory(target.location, is_shared=exchange.world_size > 1)

    directory = make_or_join(exchange, target.location, certain_nbytes, make)
    if isinstance(directory, JoinedDirectory):
        return JoinedFiles(directory, engine, durable=durable)
    return StagedFiles(directory, engine, durable=durable)


def _on_object_store(target: TakeTarget, exchange: Exchange, engine: Engine) -> StagedObjects | JoinedObjects:
    from sucrose.storage.objects import StorageOptions
    from sucrose.storage.objects.shared import shared_storage

    kind = StagedObjects if exchange.rank == 0 else JoinedObjects
    return kind(
        shared_storage(target.location, target.storage_options),
        StorageOptions.parse(target.storage_options),
        target.tag,
        engine,
        is_shared=exchange.world_size > 1,
        alive=exchange.alive,
    )


def _check_free_space(target: str, nbytes: int, annex: Annex | None, *, replaces: bool) -> None:
    try:
        check_free_space(target, nbytes, replaces=replaces)
    except StorageFullError:
        if annex is None or not annex.make_room():
            raise
        check_free_space(target, nbytes, replaces=replaces)
