"""What a take writes down of a state, besides the data files."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from sucrose.engine import CHUNK_NBYTES, Engine, WriteResult
from sucrose.formats.index import CODEC_NAME, BaseRecord, FileRecord, SnapshotIndex, StoredRecord
from sucrose.formats.manifest import SnapshotMetadata, encode_metadata
from sucrose.snapshot.collective.merging import merged_files, merged_metadata, merged_state_dict_metadata
from sucrose.snapshot.records import record_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sucrose.snapshot.collective.parts import Part
    from sucrose.snapshot.stored_objects import StoredObjects

_WRITER = f"torch-sucrose {version('torch-sucrose')}"  # once: whoever upgrades may do so under a running program


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeContents:
    """What one rank has to tell. Nothing in it belongs to the program."""

    part: Part
    """Its files are the objects' until the data files are written."""
    commit: CommitRecord | None
    """What was made of it already where there are no other ranks."""
    data_files: list[str]
    """Names, in the order in which they were submitted."""
    data_nbytes: int
    """Of the data files, before they are compressed."""
    tensors: int
    objects: StoredObjects
    referred: dict[str, FileRecord]
    """Files of other snapshots, by their names from this one."""
    referred_nbytes: int
    bases: dict[str, BaseRecord]
    fingerprints: dict[str, str]

    def add_data_files(self, results: Sequence[WriteResult]) -> None:
        """Completes the part, when these have been written."""
        written = {name: _data_record(result) for name, result in zip(self.data_files, results, strict=True)}
        self.part.files = {**written, **self.part.files, **self.referred}

    def index(self, parts: Sequence[Part], commit: CommitRecord, engine: Engine, digest_kind: str) -> SnapshotIndex:
        """The index of the snapshot that has these parts."""
        index = SnapshotIndex(
            format_version=1,
            writer=_WRITER,
            digest=digest_kind,
            chunk_nbytes=CHUNK_NBYTES,
            metadata=record_of(commit.encoded, engine, digest_kind),
            files=merged_files(parts),
            state_dict_metadata=merged_state_dict_metadata(parts),
            bases=self.bases,
            fingerprints=self.fingerprints,
        )
        index.set_version()
        return index


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """The manifest, and the file that has it."""

    metadata: SnapshotMetadata
    encoded: bytes

    @classmethod
    def of(cls, parts: Sequence[Part]) -> CommitRecord:
        """Of the snapshot that has these parts.

        Raises:
            UnsupportedError: there are too many values, or parts are missing of one that is spread over ranks.
        """
        metadata = merged_metadata(parts)
        return cls(metadata, encode_metadata(metadata))


def _data_record(result: WriteResult) -> FileRecord:
    stored = result.stored
    if stored is None:
        return FileRecord(result.nbytes, result.digests.hex())
    groups = "".join(map(str, stored.groups)) if any(stored.groups) else ""
    return FileRecord(result.nbytes, result.digests.hex(), StoredRecord(CODEC_NAME, stored.sizes.tolist(), groups))
