"""One snapshot out of the parts of all ranks."""

from __future__ import annotations

import errno
import math
import os
from typing import TYPE_CHECKING, Any

from sucrose.errors import StorageError, UnsupportedError
from sucrose.formats.manifest import MANIFEST_VERSION, DTensorEntry, Entry, SnapshotMetadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sucrose.formats.index import FileRecord
    from sucrose.snapshot.collective.parts import Part
    from sucrose.storage import LocalDirectory


def merged_metadata(parts: Sequence[Part]) -> SnapshotMetadata:
    """The manifest of all ranks.

    Raises:
        UnsupportedError: of a tensor that is spread over ranks some elements were given to no rank to write.
    """
    entries: dict[str, Entry] = {}
    for part in parts:
        entries.update(part.entries)
    if len(parts) > 1:
        _share_copies(entries, len(parts))
    metadata = SnapshotMetadata(MANIFEST_VERSION, len(parts), entries)
    _check_whole(parts, metadata)
    return metadata


def merged_files(parts: Sequence[Part]) -> dict[str, FileRecord]:
    """The records of all files."""
    return {name: record for part in parts for name, record in part.files.items()}


def merged_state_dict_metadata(parts: Sequence[Part]) -> dict[str, dict[str, dict[str, Any]]]:
    """Versions of modules: rank 0's, and those of other ranks that differ."""
    first = parts[0].state_dict_metadata
    merged = dict(first)
    for part in parts[1:]:
        merged.update(
            (path, saved)
            for path, saved in part.state_dict_metadata.items()
            if first.get(f"0/{path.partition('/')[2]}") != saved
        )
    return merged


def check_files(parts: Sequence[Part], folder: LocalDirectory) -> None:
    """Looks for the files of the other ranks.

    Raises:
        StorageError: one is missing, or not as long as its rank has written it.
    """
    for rank, part in enumerate(parts[1:], 1):
        for name, record in part.files.items():
            path = os.path.join(folder.root, name)
            try:
                found = f"has {nbytes} bytes" if (nbytes := os.stat(path).st_size) != record.nbytes_on_disk else None
            except FileNotFoundError:
                found = "is not there"
            if found is not None:
                raise StorageError(
                    errno.ESTALE,
                    f"rank {rank} has written {path!r} with {record.nbytes_on_disk} bytes, but for rank 0 it {found}: "
                    "on several ranks a snapshot has to be on storage that all of them share",
                    path,
                    path=path,
                )


def _share_copies(entries: dict[str, Entry], world_size: int) -> None:
    """Of a DTensor that all ranks have whole there is one entry, at rank 0, as of any replicated value."""
    copies = [
        (path, entry)
        for path, entry in entries.items()
        if isinstance(entry, DTensorEntry)
        and all(dims == [-1] for dims in entry.dim_map)
        and _ranks_in(entry.mesh) == world_size
    ]
    for path, _ in copies:
        del entries[path]
    for path, entry in copies:
        if entry.shards:
            entries[f"0/{path.partition('/')[2]}"] = entry


def _ranks_in(mesh: Any) -> int:
    return sum(map(_ranks_in, mesh)) if isinstance(mesh, list) else 1


def _check_whole(parts: Sequence[Part], metadata: SnapshotMetadata) -> None:
    numel = {path: whole for part in parts for path, whole in part.sharded_numel.items()}
    for path, by_mesh in metadata.of_many_ranks.shards.items():
        whole = numel[path]
        for shards in by_mesh.values():
            boxes = {(*shard.offsets, *shard.sizes) for shard in shards}
            written = sum(math.prod(box[len(box) // 2 :]) for box in boxes)
            if written == whole:
                continue
            raise UnsupportedError(
                f"{path!r} is spread over ranks and has {whole} elements, of which {written} were saved: every rank "
                "that holds a part of it has to give it to the take, under the same name",
                key=path,
            )
