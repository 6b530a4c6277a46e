"""Writing the leaves that are stored as files of `torch.save`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sucrose.formats.index import DIGEST_NAME
from sucrose.formats.manifest import TORCH_SAVE, Entry, ObjectEntry, TensorEntry
from sucrose.snapshot.objects import dump_object, object_location
from sucrose.snapshot.records import record_of

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.formats.index import FileRecord
    from sucrose.snapshot.capture import CapturedState
    from sucrose.snapshot.places.place import Place


@dataclass(slots=True)
class StoredObjects:
    """Objects that have been written."""

    entries: dict[str, Entry] = field(default_factory=dict)
    records: dict[str, FileRecord] = field(default_factory=dict)


def store_objects(
    place: Place, captured: CapturedState, engine: Engine, digest_kind: str = DIGEST_NAME, tag: str = ""
) -> StoredObjects:
    """Begins to write them, under names with the take's tag if it has one.

    Equal objects share a file: optimizers bring many an equal None and tuple.
    """
    stored = StoredObjects()
    location_of: dict[bytes, str] = {}

    def store(path: str, value: Any) -> str:
        data = captured.dumped.pop(path, None) or dump_object(value, path)
        digest = engine.digest(data, digest_kind)
        location = location_of.get(digest)
        if location is None:
            location = location_of[digest] = object_location(path, digest, tag)
            place.write(location, data)
            stored.records[location] = record_of(data, engine, digest_kind)
        return location

    for path, value in captured.flat.objects:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        stored.entries[path] = ObjectEntry(store(path, value), TORCH_SAVE, name, False)
    for path, tensor in captured.pickled_tensors.items():
        dtype, shape = str(tensor.dtype), list(tensor.shape)
        stored.entries[path] = TensorEntry(store(path, tensor), TORCH_SAVE, dtype, shape, False)
    return stored
