"""One snapshot out of the parts of all ranks."""

from __future__ import annotations

import errno
import math
import os
from typing import TYPE_CHECKING, Any

from sucrose.errors import StorageError, UnsupportedError
from sucrose.formats.limits import MAX_METADATA_NBYTES
from sucrose.formats.manifest import MANIFEST_VERSION, DTensorEntry, Entry, SnapshotMetadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sucrose.formats.index import FileRecord
    from sucrose.snapshot.collective.parts import Part
    from sucrose.storage import LocalDirectory

MAX_MESHES_NBYTES = MAX_METADATA_NBYTES // 4
"""Of the meshes in a manifest, where every rank has them in entries of its own."""


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
        _leave_out_empty(entries)
        _list_shards_once(entries)
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


def _list_shards_once(entries: dict[str, Entry]) -> None:
    """Where meshes alone would fill the manifest, a tensor has one entry, at the lowest of its ranks, with all shards.

    Otherwise each rank has an entry with its own shards and all of the mesh, as torchsnapshot has it, which grows with
    the square of the ranks: 1,024 of them could save no more than a hundred tensors.
    """
    spread: dict[str, list[tuple[str, DTensorEntry]]] = {}
    sizes: dict[int, int] = {}  # of meshes, which the entries share
    nbytes = 0
    for path, entry in entries.items():
        if isinstance(entry, DTensorEntry):
            nbytes += sizes.get(id(entry.mesh)) or sizes.setdefault(id(entry.mesh), len(str(entry.mesh)))
            spread.setdefault(path.partition("/")[2], []).append((path, entry))
    if nbytes <= MAX_MESHES_NBYTES:
        return
    for found in spread.values():
        first_path, first = found[0]
        if any(entry.mesh is not first.mesh for _, entry in found):  # side by side: each has a value of its own
            continue
        shards = [shard for _, entry in found for shard in entry.shards]
        for path, _ in found[1:]:
            del entries[path]
        entries[first_path] = DTensorEntry(shards, first.mesh, first.dim_map)


def _leave_out_empty(entries: dict[str, Entry]) -> None:
    """Takes out the entries of ranks whose shards others have written, as torchsnapshot has it.

    They stay where meshes side by side each have a tensor of the name: they tell which of them is the rank's.
    """
    empty = [path for path, entry in entries.items() if isinstance(entry, DTensorEntry) and not entry.shards]
    meshes: dict[str, list[Any]] = {path.partition("/")[2]: [] for path in empty}
    for path, entry in entries.items() if meshes else ():
        of_path = meshes.get(path.partition("/")[2])
        if of_path is not None and isinstance(entry, DTensorEntry) and entry.mesh not in of_path:
            of_path.append(entry.mesh)
    for path in empty:
        if len(meshes[path.partition("/")[2]]) == 1:
            del entries[path]


def _ranks_in(mesh: Any) -> int:
    return sum(map(_ranks_in, mesh)) if isinstance(mesh, list) else 1


def _check_whole(parts: Sequence[Part], metadata: SnapshotMetadata) -> None:
    names: dict[int, str] = {}
    whole = {
        (path, _mesh_in(part.entries.get(f"{rank}/{path}"), names)): numel
        for rank, part in enumerate(parts)
        for path, numel in part.sharded_numel.items()
    }
    shards_of = metadata.of_many_ranks.shards if whole else {}
    for (path, mesh), numel in whole.items():
        shards = shards_of.get(path, {}).get(mesh, ())
        boxes = {(*shard.offsets, *shard.sizes) for shard in shards}
        written = sum(math.prod(box[len(box) // 2 :]) for box in boxes)
        if written == numel:
            continue
        raise UnsupportedError(
            f"{path!r} is spread over ranks and has {numel} elements, of which {written} were saved: every rank "
            "that holds a part of it has to give it to the take, under the same name",
            key=path,
        )


def _mesh_in(entry: Entry | None, names: dict[int, str]) -> str:
    """As shards are listed by it; ShardedTensors have none. `names` are those of meshes, which entries share."""
    if not isinstance(entry, DTensorEntry):
        return ""
    return names.get(id(entry.mesh)) or names.setdefault(id(entry.mesh), str(entry.mesh))
