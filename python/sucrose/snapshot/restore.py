"""Restoring statefuls in place.

1. match   every stateful's present state dict is walked beside the manifest; shapes, dtypes and
           keys are compared, and every mismatch is collected
2. read    only if all of them fit: one batch for all tensors, straight into their memory
3. load    load_state_dict() of each stateful; the random generators last

A mismatch therefore leaves everything as it was. Damaged bytes are found while they are read, when
some tensors have been overwritten already: that error says to restore an older snapshot.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from sucrose.errors import CorruptionError, StateMismatchError
from sucrose.formats.limits import MAX_NESTING
from sucrose.formats.manifest import (
    BUFFER_PROTOCOL,
    BUFFER_PROTOCOL_ZSTD,
    TORCH_SAVE,
    ChunkedTensorEntry,
    DictEntry,
    DTensorEntry,
    Entry,
    ListEntry,
    ObjectEntry,
    OrderedDictEntry,
    PrimitiveEntry,
    Shard,
    ShardedTensorEntry,
    SnapshotMetadata,
    TensorEntry,
)
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.capture import RANK
from sucrose.snapshot.entries import (
    check_tensor_entry,
    children,
    find_entry,
    shards_of,
)
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.reading import ReadBatch
from sucrose.snapshot.rng_state import RNGState
from sucrose.snapshot.tensors import (
    DTYPES,
    dense_nbytes,
    empty_like_entry,
    is_restorable_in_place,
    plain_memory,
    why_unfillable,
)


class Mismatch(NamedTuple):
    """Something in which the program's state differs from the snapshot."""

    key: str
    text: str


ObjectLoader = Callable[[str, str], Any]
"""(location, key) to the object."""

_MAX_MISMATCHES_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What a restore did.

    Attributes:
        statefuls: keys of the application state, in the order in which they were loaded.
        tensors: number of tensors read.
        nbytes: their bytes.
        seconds: wall time.
    """

    statefuls: tuple[str, ...]
    tensors: int
    nbytes: int
    seconds: float


class StateReader:
    """Rebuilds values from the manifest; tensors are filled by a later `batch.read()`.

    With a target, tensors of it that fit are the ones to be filled. Not thread-safe.
    """

    def __init__(
        self,
        metadata: SnapshotMetadata,
        batch: ReadBatch,
        load: ObjectLoader,
        state_dict_metadata: Mapping[str, Any],
        *,
        cast: bool,
    ) -> None:
        self._metadata = metadata
        self._batch = batch
        self._load = load
        self._state_dict_metadata = state_dict_metadata
        self._cast = cast
        self._fresh: dict[tuple[str, tuple[int, int]], torch.Tensor] = {}
        self._fresh_in_parts: dict[tuple[object, ...], torch.Tensor] = {}
        self.mismatches: list[Mismatch] = []
        self.unfillable: list[Mismatch] = []
        """Targets that no bytes can be copied to. Statefuls that replace tensors can do without."""
        self.tensors = 0

    def build_all(self, path: str, entry: Entry, target: Any = None) -> Any:
        """The value of `entry`, which stands at `path`, and everything in it.

        Raises:
            CorruptionError: among others, where containers are nested more deeply than Python can follow.
        """
        try:
            return self.build(path, entry, target)
        except RecursionError:
            raise CorruptionError(
                f"{path!r} has containers that are nested too deeply; at most {MAX_NESTING} are written", key=path
            ) from None

    def build(self, path: str, entry: Entry, target: Any = None) -> Any:
        """One step of `build_all`."""
        if type(entry) is TensorEntry:
            return self._tensor(path, entry, target)
        if isinstance(entry, (DictEntry, OrderedDictEntry)):
            return self._mapping(path, entry, target)
        if isinstance(entry, ListEntry):
            targets = target if isinstance(target, list) else []
            manifest = self._metadata.manifest
            return [
                self.build(child, manifest[child], targets[i] if i < len(targets) else None)
                for i, child in enumerate(children(manifest, path))
            ]
        if isinstance(entry, PrimitiveEntry):
            try:
                return entry.get_value()
            except ValueError as error:
                raise CorruptionError(f"{path!r}: {error}", key=path) from error
        if isinstance(entry, ObjectEntry):
            return self._load(entry.location, path)
        assert isinstance(entry, (ChunkedTensorEntry, ShardedTensorEntry, DTensorEntry))
        return self._tensor_in_parts(path, entry, target)

    def _mapping(self, path: str, entry: DictEntry | OrderedDictEntry, target: Any) -> Any:
        result: Any = OrderedDict() if type(entry) is OrderedDictEntry else {}
        targets = target if isinstance(target, Mapping) else {}
        manifest = self._metadata.manifest
        for key in entry.keys:
            child = f"{path}/{encode_key(key)}"
            child_entry = manifest.get(child)
            if child_entry is None:
                raise CorruptionError(f"{path!r} has the key {key!r}, but {child!r} is missing", key=child)
            if type(child_entry) is TensorEntry:  # nearly all are; saves a call for each
                result[key] = self._tensor(child, child_entry, targets.get(key))
            else:
                result[key] = self.build(child, child_entry, targets.get(key))
        saved = self._state_dict_metadata.get(path)
        if saved is not None:
            result._metadata = OrderedDict(saved)  # noqa: SLF001  # where nn.Module looks for it
        return result

    def _tensor(self, path: str, entry: TensorEntry, target: Any) -> Any:
        if entry.serializer == TORCH_SAVE:
            return self._pickled_tensor(path, entry, target)
        if target is not None and self._add_plain(path, entry, target):
            return target
        nbytes = check_tensor_entry(path, entry)
        into = self._destination(path, entry.dtype, entry.shape, target)
        self.tensors += 1
        if into is not None:
            self._batch.add(entry, into, path, fresh=False)
            return into
        dtype, shape = DTYPES[entry.dtype], entry.shape
        place = (entry.location, entry.byte_range or (0, nbytes))
        tied = self._fresh.get(place)
        if tied is not None:
            if tied.dtype == dtype and list(tied.shape) == shape:
                return tied
            return _viewed(tied, dtype, shape, path)
        if nbytes > 0:
            self._batch.expect(entry, nbytes, path)
        into = empty_like_entry(dtype, shape, path)
        if nbytes > 0:
            self._fresh[place] = into
            self._batch.add(entry, into, path, fresh=True)
        return into

    def _add_plain(self, path: str, entry: TensorEntry, target: Any) -> bool:
        """The short way for a target that takes the saved bytes as they are: nearly all do."""
        memory = plain_memory(target)
        if memory is None or entry.byte_range is None:
            return False
        begin, end = entry.byte_range
        if (
            memory.dtype is not DTYPES.get(entry.dtype)
            or target.shape != tuple(entry.shape)
            or entry.serializer not in (BUFFER_PROTOCOL, BUFFER_PROTOCOL_ZSTD)
            or begin < 0
            or end - begin != memory.nbytes
            or memory.nbytes == 0
            or memory.address == 0
        ):
            return False
        self._batch.add_memory(entry, memory, path, fresh=False)
        self.tensors += 1
        return True

    def _tensor_in_parts(self, path: str, entry: Entry, target: Any) -> torch.Tensor:
        dtype, shape, parts = shards_of(self._metadata, path, entry)
        into = self._destination(path, dtype, shape, target)
        fresh = into is None
        places = (dtype, *shape, *((part.tensor.location, part.tensor.byte_range) for part in parts))
        if fresh and places in self._fresh_in_parts:  # tied, as in `_tensor`
            self.tensors += 1
            return self._fresh_in_parts[places]
        loaded = [self._prepared_part(path, part, fresh=fresh) for part in parts]
        if into is None:
            into = empty_like_entry(DTYPES[dtype], shape, path)
            if all(value is None for value in loaded):
                self._fresh_in_parts[places] = into
        for part, value in zip(parts, loaded, strict=True):
            region = into.detach()
            for dim, (offset, size) in enumerate(zip(part.offsets, part.sizes, strict=True)):
                region = region.narrow(dim, offset, size)
            if value is not None:
                self._batch.copy_afterwards(value, region)
            else:
                self._batch.add(part.tensor, region, path, fresh=fresh)
        self.tensors += 1
        return into

    def _prepared_part(self, path: str, part: Shard, *, fresh: bool) -> torch.Tensor | None:
        """The part itself, where it is pickled; otherwise its file is looked at, for what will be allocated."""
        if part.tensor.serializer == TORCH_SAVE:
            loaded = self._load(part.tensor.location, path)
            if not isinstance(loaded, torch.Tensor) or list(loaded.shape) != part.sizes:
                raise CorruptionError(
                    f"{path!r}: {part.tensor.location} has something else than a tensor of the shape {part.sizes}",
                    key=path,
                )
            return loaded
        if fresh and 0 not in part.sizes:
            self._batch.expect(part.tensor, dense_nbytes(DTYPES[part.tensor.dtype], part.sizes), path)
        return None

    def _pickled_tensor(self, path: str, entry: TensorEntry, target: Any) -> Any:
        loaded = self._load(entry.location, path)
        if not isinstance(loaded, torch.Tensor):
            raise CorruptionError(
                f"{path!r}: {entry.location} has a {type(loaded).__name__}, expected a tensor",
                key=path,
            )
        self.tensors += 1
        into = self._destination(path, str(loaded.dtype), list(loaded.shape), target)
        if into is None:
            return loaded
        self._batch.copy_afterwards(loaded, into)
        return into

    def _destination(self, path: str, dtype: str, shape: list[int], target: Any) -> torch.Tensor | None:
        """The tensor of the program to fill; None where there is none, or a mismatch was noted."""
        if not isinstance(target, torch.Tensor):
            return None
        if not is_restorable_in_place(target):
            if type(target) in (torch.Tensor, torch.nn.Parameter) and target.layout is torch.strided:
                self.unfillable.append(Mismatch(path, f"{path!r} {why_unfillable(target)}"))
            return None
        if target.shape != tuple(shape):
            self.mismatches.append(Mismatch(path, f"{path!r} has the shape {list(target.shape)}, saved {shape}"))
            return None
        if target.dtype is not DTYPES.get(dtype) and not self._cast:
            text = f"{path!r} has the dtype {target.dtype}, saved {dtype} (cast=True converts)"
            self.mismatches.append(Mismatch(path, text))
            return None
        return target

    def raise_mismatches(self, snapshot_path: str) -> None:
        """Raises StateMismatchError where targets did not fit; nothing has been changed by then."""
        if self.mismatches:
            shown = "\n  ".join(mismatch.text for mismatch in self.mismatches[:_MAX_MISMATCHES_SHOWN])
            more = len(self.mismatches) - _MAX_MISMATCHES_SHOWN
            raise StateMismatchError(
                f"the snapshot does not fit the program's state; nothing was restored:\n  {shown}"
                + (f"\n  and {more} more" if more > 0 else ""),
                path=snapshot_path,
                key=self.mismatches[0].key,
            )


def _viewed(tied: torch.Tensor, dtype: torch.dtype, shape: list[int], path: str) -> torch.Tensor:
    """The same bytes as another tensor."""
    try:
        return tied.view(-1).view(dtype).view(shape)
    except RuntimeError as error:
        raise CorruptionError(f"{path!r} cannot share its bytes with another tensor: {error}", key=path) from error


def restore_app_state(
    app_state: Mapping[str, Any],
    metadata: SnapshotMetadata,
    reader: StateReader,
    batch: ReadBatch,
    *,
    strict: bool,
    snapshot_path: str,
) -> RestoreReport:
    """Restores a checked `app_state`; see the head of this file.

    Raises:
        RuntimeError: a key of `app_state` is not in the snapshot.
        StateMismatchError: shapes, dtypes or keys differ; nothing was changed.
    """
    started = time.perf_counter()
    keys = sorted(app_state, key=lambda key: isinstance(app_state[key], RNGState))  # stable
    entries = {key: find_entry(metadata, f"{RANK}/{encode_key(key)}") for key in keys}
    state_dicts: dict[str, Any] = {}
    with collector_paused():
        for key in keys:
            stateful = app_state[key]
            present = None if isinstance(stateful, RNGState) else stateful.state_dict()
            path = f"{RANK}/{encode_key(key)}"
            state_dicts[key] = reader.build_all(path, entries[key], present)
            reader.mismatches += _key_mismatches(path, stateful, present, state_dicts[key], strict)
            if isinstance(stateful, torch.nn.Module):  # its load_state_dict copies, too
                reader.mismatches += reader.unfillable
            reader.unfillable.clear()
    reader.raise_mismatches(snapshot_path)
    batch.read()
    for key in keys:
        stateful = app_state[key]
        if isinstance(stateful, torch.nn.Module):
            stateful.load_state_dict(state_dicts[key], strict=strict)
        else:
            stateful.load_state_dict(state_dicts[key])
    return RestoreReport(
        statefuls=tuple(keys),
        tensors=reader.tensors,
        nbytes=batch.nbytes,
        seconds=time.perf_counter() - started,
    )


def _key_mismatches(path: str, stateful: Any, present: Any, saved: Any, strict: bool) -> list[Mismatch]:
    """What load_state_dict would refuse, found before anything is overwritten."""
    if isinstance(stateful, torch.nn.Module) and strict and isinstance(saved, Mapping):
        return [
            Mismatch(_child(path, key), f"{path!r} has {key!r}, which was not saved")
            for key in present
            if key not in saved
        ] + [
            Mismatch(_child(path, key), f"{path!r} has no {key!r}, which was saved")
            for key in saved
            if key not in present
        ]
    if isinstance(stateful, torch.optim.Optimizer):
        return _group_mismatches(path, present, saved)
    return []


def _child(path: str, key: int | str) -> str:
    return f"{path}/{encode_key(key)}"


def _group_mismatches(path: str, present: Any, saved: Any) -> list[Mismatch]:
    try:
        sizes = [len(group["params"]) for group in present["param_groups"]]
        saved_sizes = [len(group["params"]) for group in saved["param_groups"]]
    except (KeyError, TypeError):  # an optimizer with a format of its own
        return []
    if sizes == saved_sizes:
        return []
    return [Mismatch(path, f"{path!r} has parameter groups of {sizes} parameters, saved {saved_sizes}")]
