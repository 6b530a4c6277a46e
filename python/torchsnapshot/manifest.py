"""Re-export of `sucrose.formats.manifest`."""

from __future__ import annotations

from sucrose.formats.manifest import (
    ChunkedTensorEntry,
    DictEntry,
    DTensorEntry,
    Entry,
    ListEntry,
    Manifest,
    ObjectEntry,
    OrderedDictEntry,
    PrimitiveEntry,
    Shard,
    ShardedTensorEntry,
    SnapshotMetadata,
    TensorEntry,
)

__all__ = [
    "ChunkedTensorEntry",
    "DTensorEntry",
    "DictEntry",
    "Entry",
    "ListEntry",
    "Manifest",
    "ObjectEntry",
    "OrderedDictEntry",
    "PrimitiveEntry",
    "Shard",
    "ShardedTensorEntry",
    "SnapshotMetadata",
    "TensorEntry",
]
