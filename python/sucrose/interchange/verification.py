"""Whether what lies at a path is what was saved, for all kinds that can tell. No torch here, and nothing is unpickled.

1. A snapshot is read whole and every digest compared, those of its small files first.
2. A file of `torch.save` is compared with its checksums.
3. Of a safetensors file only the header can be checked: it must go with the file's length.
4. In any other folder the snapshots right in it are checked, and what is left of a catalog's generations.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

from sucrose.catalog.names import is_generation_name
from sucrose.config.plain_values import error_line
from sucrose.engine import Engine, get_engine
from sucrose.errors import (
    CorruptionError,
    FormatVersionError,
    IncompleteSnapshotError,
    SignatureError,
    SucroseError,
    UnsupportedError,
)
from sucrose.formats.manifest import METADATA_FILE
from sucrose.interchange.authorship import Signature, why_refused
from sucrose.interchange.kinds import Kind, recognize
from sucrose.interchange.safetensors_listing import list_safetensors
from sucrose.interchange.watched_engine import WatchedEngine
from sucrose.interchange.zip_checksums import check_zip, is_zip
from sucrose.snapshot.authenticity import signer_of
from sucrose.snapshot.contents import load_metadata
from sucrose.snapshot.incremental.bases import check_bases
from sucrose.snapshot.remote.side_by_side import side_by_side
from sucrose.snapshot.verify import verify_files
from sucrose.storage import Directory, is_url, location_of, open_directory
from sucrose.storage.objects.shared import shared_storage

if TYPE_CHECKING:
    from sucrose.formats.signing_keys import Signer
    from sucrose.interchange.watched_engine import Advance

SOUND, DAMAGED, UNSIGNED, FOREIGN, UNKNOWN = "sound", "damaged", "unsigned", "foreign", "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        file: name of the file in the snapshot; empty where it is the checkpoint as a whole.
        offset: in the file; None where it is the file as a whole.
        keys: logical paths of the values that are affected.
        message: what was found and what was expected.
    """

    file: str
    offset: int | None
    keys: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What can be said of one checkpoint.

    Attributes:
        path: of the checkpoint.
        kind: None where it is none.
        status: ``"sound"`` or ``"damaged"``; where a signing key is set ``"unsigned"``, or ``"foreign"`` if it is
            signed with another key, and nothing else was looked at; ``"unknown"`` where nothing can be said.
        nbytes: that were read.
        damage: what is wrong, in file order.
        remark: what could not be checked, and why; empty otherwise.
        signature: of a snapshot, where a signing key is set.
    """

    path: str
    kind: Kind | None
    status: str
    nbytes: int = 0
    damage: tuple[Damage, ...] = ()
    remark: str = ""
    signature: Signature | None = None


class Watcher(Protocol):
    """Is told of the progress of a verification, by the thread that has called it or by one of several."""

    def begin(self, path: str, nbytes: int) -> Advance:
        """A checkpoint is about to be read; what it returns is called with the bytes of each piece."""
        ...

    def end(self) -> None:
        """It was read, or was not worth reading; called before its verdict is given."""
        ...


class Silent:
    """A watcher that looks away."""

    def begin(self, path: str, nbytes: int) -> Advance:  # noqa: ARG002 - of the protocol
        return lambda _: None

    def end(self) -> None:
        pass


def verify_path(path: str | os.PathLike[str], watcher: Watcher | None = None) -> Iterator[Verdict]:
    """Checks the checkpoint at `path`, or those in the folder, one after another: each keeps all threads busy.

    Args:
        path: a snapshot or a catalog's folder, which may be URLs, or a file.
        watcher: is told of the progress.

    Example:
        >>> import tempfile, torch
        >>> from sucrose import Snapshot
        >>> from sucrose.interchange.verification import verify_path
        >>> folder = tempfile.mkdtemp() + "/step_1"
        >>> _ = Snapshot.take(folder, {"model": torch.nn.Linear(2, 1)})
        >>> [verdict.status for verdict in verify_path(folder)]
        ['sound']
    """
    watching = Silent() if watcher is None else watcher
    name = location_of(path)
    members = _members(name)
    if members:
        for member in members:
            yield _verdict(member, watching, expected=Kind.SNAPSHOT)
    else:
        yield _verdict(name, watching, expected=None)


def _members(path: str) -> list[str]:
    """Snapshots in a folder that is none itself, and what is called like a generation: ``step_5``, then ``step_10``."""
    if is_url(path):
        return _members_at_url(path)
    if not os.path.isdir(path) or os.path.lexists(os.path.join(path, METADATA_FILE)):
        return []
    with os.scandir(path) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and entry.is_dir()
            and (is_generation_name(entry.name) or os.path.lexists(os.path.join(entry.path, METADATA_FILE)))
        ]
    return [os.path.join(path, name) for name in sorted(names, key=_natural)]


def _members_at_url(url: str) -> list[str]:
    storage = shared_storage(url)
    if storage.exists(METADATA_FILE):
        return []
    names = [name for name in storage.folders() if not name.startswith(".")]
    are_snapshots = side_by_side(lambda name: storage.exists(f"{name}/{METADATA_FILE}"), names, storage.concurrency)
    found = [name for name, is_snapshot in zip(names, are_snapshots, strict=True) if is_snapshot]
    return [f"{url}/{name}" for name in sorted(found, key=_natural)]


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts numbers in names as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)], name


def _verdict(path: str, watcher: Watcher, *, expected: Kind | None) -> Verdict:
    try:
        return _checked(path, watcher, expected=expected)
    finally:
        watcher.end()


def _checked(path: str, watcher: Watcher, *, expected: Kind | None) -> Verdict:  # noqa: PLR0911 - one for each outcome
    kind = expected
    try:
        kind = recognize(path)
        if kind is Kind.SNAPSHOT:
            return _snapshot(path, watcher)
        if kind is Kind.TORCH:
            return _torch_file(path, watcher)
        if kind is Kind.SAFETENSORS:
            list_safetensors(path)
            remark = "the format has no checksums: only its header was checked"
            return Verdict(path=path, kind=kind, status=SOUND, remark=remark)
        remark = "torch.distributed.checkpoint keeps no checksums"
        return Verdict(path=path, kind=kind, status=UNKNOWN, remark=remark)
    except CorruptionError as error:
        return _damaged(path, kind, error)
    except IncompleteSnapshotError as error:
        return _damaged(path, kind, error) if expected else _unknown(path, None, error)
    except (FormatVersionError, UnsupportedError, OSError) as error:
        return _unknown(path, kind, error)


def _snapshot(path: str, watcher: Watcher) -> Verdict:
    storage = open_directory(path)
    signer = signer_of(None)
    try:
        metadata, index = load_metadata(storage, path, signer)
    except SignatureError as error:
        return _refused(path, storage, signer, error)
    signature = None if signer is None else Signature.VALID
    if index is None:
        remark = "torchsnapshot wrote it, without digests; 'sucrose convert' makes a snapshot that has them"
        return Verdict(path=path, kind=Kind.SNAPSHOT, status=UNKNOWN, remark=remark)
    try:
        check_bases(storage, index, get_engine())
    except (CorruptionError, IncompleteSnapshotError) as error:
        return replace(_damaged(path, Kind.SNAPSHOT, error), signature=signature)
    advance = watcher.begin(path, sum(record.nbytes for record in index.files.values()))
    # It has all methods of an engine, and hands on what it does not know.
    engine = cast("Engine", WatchedEngine(get_engine(), advance))
    report = verify_files(storage, metadata, index, engine)
    return Verdict(
        path=path,
        kind=Kind.SNAPSHOT,
        status=SOUND if report else DAMAGED,
        nbytes=report.nbytes,
        damage=tuple(
            Damage(file=problem.file, offset=problem.offset, keys=problem.keys, message=problem.message)
            for problem in report.problems
        ),
        signature=signature,
    )


def _refused(path: str, storage: Directory, signer: Signer | None, error: SignatureError) -> Verdict:
    """Nothing of it was looked at: its digests may be anybody's."""
    signature = Signature.MISSING if signer is None else why_refused(storage, signer)
    if signature is Signature.INVALID:
        return replace(_damaged(path, Kind.SNAPSHOT, error), signature=signature)
    status = UNSIGNED if signature is Signature.MISSING else FOREIGN
    return Verdict(path=path, kind=Kind.SNAPSHOT, status=status, remark=error_line(error), signature=signature)


def _torch_file(path: str, watcher: Watcher) -> Verdict:
    if not is_zip(path):
        remark = "a file of torch before 1.6 has no checksums"
        return Verdict(path=path, kind=Kind.TORCH, status=UNKNOWN, remark=remark)
    report = check_zip(path, watcher.begin(path, os.path.getsize(path)))
    if not report.has_checksums:
        remark = "it was saved without checksums: only its directory was checked"
        return Verdict(path=path, kind=Kind.TORCH, status=SOUND, nbytes=report.nbytes, remark=remark)
    damage = tuple(
        Damage(file=problem.record, offset=problem.offset, keys=(), message=problem.message)
        for problem in report.problems
    )
    status = DAMAGED if damage else SOUND
    return Verdict(path=path, kind=Kind.TORCH, status=status, nbytes=report.nbytes, damage=damage)


def _damaged(path: str, kind: Kind | None, error: SucroseError) -> Verdict:
    file = "" if error.path in (None, path) else os.path.relpath(str(error.path), path)
    keys = () if error.key is None else (error.key,)
    message = error_line(error)
    return Verdict(
        path=path,
        kind=kind,
        status=DAMAGED,
        damage=(Damage(file="" if file.startswith("..") else file, offset=error.offset, keys=keys, message=message),),
    )


def _unknown(path: str, kind: Kind | None, error: Exception) -> Verdict:
    return Verdict(path=path, kind=kind, status=UNKNOWN, remark=error_line(error))
