"""From one kind of checkpoint to another, bit for bit.

1. Everything that can be seen to be wrong is refused before anything is read.
2. The source hands over its state. Tensors of safetensors files, files of `torch.save` and snapshots that are neither
   compressed nor have a base stay in the file, as mapped memory, so that a state may be larger than memory. Those of
   other snapshots and of `torch.distributed.checkpoint` are read into memory.
3. The target's kind writes it under another name, fsyncs it and puts it in place: a crash leaves what was there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sucrose.errors import ConfigError
from sucrose.interchange.kinds import Kind, target_kind
from sucrose.interchange.sources import open_source
from sucrose.interchange.target import Target
from sucrose.interchange.trees import leaves_of, listed_value
from sucrose.storage import local_path

if TYPE_CHECKING:
    from sucrose.compression import Compression


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertReport:
    """What a conversion did.

    Attributes:
        source: path of what was read.
        source_kind: what that is.
        target: path of what was written.
        target_kind: what that is.
        tensors: how many the source has.
        nbytes: of these; tied ones count once.
        notes: what the target cannot hold or has under another name, a sentence each.
    """

    source: str
    source_kind: Kind
    target: str
    target_kind: Kind
    tensors: int
    nbytes: int
    notes: tuple[str, ...]


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: str | None = None,
    key: str | None = None,
    flat_separator: str = "/",
    compression: Compression | str | None = None,
    allow_pickle: bool = False,
    overwrite: bool = False,
    rank: int = 0,
) -> ConvertReport:
    """Writes what `source` has as a checkpoint of another kind.

    Args:
        source: a snapshot, a safetensors file, a file of `torch.save` or a folder of `torch.distributed.checkpoint`.
        target: the path to write; its suffix says which kind.
        to: ``"snapshot"``, ``"safetensors"``, ``"torch"`` or ``"dcp"``, where the suffix does not.
        key: of a snapshot as the source, the one stateful to convert; of another source that becomes a snapshot, what
            the stateful is to be called.
        flat_separator: between keys in the names of a safetensors file.
        compression: of a snapshot, as for `Snapshot.take`.
        allow_pickle: let objects of the source be unpickled that may run code.
        overwrite: replace a checkpoint at `target`.
        rank: whose values, of a snapshot of several ranks.

    Raises:
        FileExistsError: something is at `target`, and `overwrite` is false or it is no checkpoint.
        UnsafeObjectError: the source has an object that needs `allow_pickle`.
        CorruptionError: the source is damaged; nothing was written.
        UnsupportedError: the source is no checkpoint, or the target cannot hold it.

    Example:
        >>> import os, tempfile, torch
        >>> from safetensors.torch import load_file
        >>> from sucrose import Snapshot
        >>> from sucrose.interchange.conversion import convert
        >>> os.chdir(tempfile.mkdtemp())
        >>> _ = Snapshot.take("step_1", {"model": torch.nn.Linear(2, 1)})
        >>> report = convert("step_1", "model.safetensors", key="model")
        >>> sorted(load_file("model.safetensors")), report.nbytes
        (['bias', 'weight'], 12)
    """
    opened = open_source(source, allow_pickle=allow_pickle, rank=rank)
    kind = target_kind(target, to)
    from_snapshot = opened.kind is Kind.SNAPSHOT
    if key is not None and not from_snapshot and kind is not Kind.SNAPSHOT:
        raise ConfigError(f"a key is a stateful's name in a snapshot; neither {opened.path} nor the target is one")
    destination = Target(
        path=os.path.abspath(local_path(target)),
        kind=kind,
        key=key,
        separator=flat_separator,
        compression=compression,
        overwrite=overwrite,
    )
    if os.path.realpath(opened.path) == os.path.realpath(destination.path):
        raise FileExistsError(f"source and target are the same: {opened.path}")
    destination.check()
    tree = opened.tree(key if from_snapshot else None)
    tensors, nbytes = _count(tree)
    notes = [*opened.notes(), *_write(tree, destination)]
    return ConvertReport(
        source=opened.path,
        source_kind=opened.kind,
        target=destination.path,
        target_kind=kind,
        tensors=tensors,
        nbytes=nbytes,
        notes=tuple(notes),
    )


def _write(tree: Any, target: Target) -> list[str]:
    """Imports the file of the target's kind alone: torch.distributed takes longer than most conversions."""
    if target.kind is Kind.SNAPSHOT:
        from sucrose.interchange.snapshot_sink import write_snapshot

        return write_snapshot(tree, target)
    if target.kind is Kind.SAFETENSORS:
        from sucrose.interchange.safetensors_sink import write_safetensors

        return write_safetensors(tree, target)
    if target.kind is Kind.TORCH:
        from sucrose.interchange.torch_sink import write_torch

        return write_torch(tree, target)
    from sucrose.interchange.dcp_sink import write_dcp

    return write_dcp(tree, target)


def _count(tree: Any) -> tuple[int, int]:
    listed = [listed_value(path, value) for path, value in leaves_of(tree).items()]
    tensors = [entry for entry in listed if entry.is_tensor]
    sizes = {entry.place if entry.place is not None else entry.path: entry.nbytes or 0 for entry in tensors}
    return len(tensors), sum(sizes.values())
