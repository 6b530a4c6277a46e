"""`.upload`: where a staged copy belongs, written with it and before its commit."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from sucrose.errors import CorruptionError
from sucrose.storage.regular_file import read_regular
from sucrose.storage.replacing import replace_file

NOTE_FILE = ".upload"

_VERSION = 1
_MAX_NBYTES = 1 << 20


class UploadNote(msgspec.Struct, frozen=True, kw_only=True):
    """See above. There are no credentials in it.

    Attributes:
        url: of the snapshot, in the store.
        tag: in the names of its files there.
        record: digest of the commit record, as in the name of the index.
        overwrite: whether a snapshot that is there is replaced.
        storage_options: those that are no arguments of the client.
        is_uploaded: whether the snapshot is in the store, so that this copy can go.
        version: of this format.
    """

    url: str
    tag: str
    record: str
    overwrite: bool
    storage_options: dict[str, Any] = {}
    is_uploaded: bool = False
    version: int = _VERSION

    def encoded(self) -> bytes:
        """The file's contents."""
        return msgspec.json.encode(self)


def read_note(folder: str) -> UploadNote:
    """That of a staged copy.

    Raises:
        CorruptionError: it is damaged, or of a newer release.
        FileNotFoundError: the copy is gone.
    """
    path = os.path.join(folder, NOTE_FILE)
    data = read_regular(path, _MAX_NBYTES)
    try:
        note = msgspec.json.decode(data, type=UploadNote)
    except msgspec.DecodeError as error:
        raise CorruptionError(
            f"{path} is damaged: {error}. Move its folder away, which is a snapshot", path=path
        ) from error
    if note.version != _VERSION:
        raise CorruptionError(f"{path} has version {note.version}, this release reads {_VERSION}", path=path)
    return note


def note_uploaded(folder: str, note: UploadNote) -> None:
    """Says that the snapshot is in the store; durable when this returns."""
    uploaded = msgspec.structs.replace(note, is_uploaded=True)
    replace_file(os.path.join(folder, NOTE_FILE), uploaded.encoded(), _sync)


def _sync(paths: Any) -> None:
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
