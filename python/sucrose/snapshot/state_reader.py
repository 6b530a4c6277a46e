"""Values from the manifest: containers are put together, tensors are filled, those of the program where they fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import count
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
from sucrose.snapshot.entries import (
    check_parts,
    check_tensor_entry,
    entry_at,
    is_fully_replicated,
    is_spread,
    parts_of,
    ranks_with,
    saved_per_rank,
    shared_entry,
)
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.reading import ReadBatch
from sucrose.snapshot.sharding import Box, ShardedValue, sharded_value
from sucrose.snapshot.sharding.filling import fill_shards, part_of
from sucrose.snapshot.sharding.templates import made_like
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
        self.unrequested: list[Mismatch] = []
        """Tensors spread over ranks that the target has no name for: those of layers that are elsewhere now."""
        self.left_out: list[Mismatch] = []
        """What other ranks have saved for themselves, in containers that this rank had none of."""
        self.templates: dict[str, torch.Tensor] = {}
        """Tensors to make new ones like, by the path of the container that those are in."""
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
            return self._list(path, target)
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
                child_entry = self._of_other_ranks(path, key, child, asked=key in targets)
                if child_entry is None:
                    continue
            if type(child_entry) is TensorEntry:  # nearly all are; saves a call for each
                result[key] = self._tensor(child, child_entry, targets.get(key))
            elif targets and key not in targets and self._may_be_elsewhere(child_entry):
                self.unrequested.append(Mismatch(child, f"{path!r} has no {key!r}, which was saved"))
            else:
                result[key] = self.build(child, child_entry, targets.get(key))
        if targets and self._metadata.world_size > 1:
            self._add_from_elsewhere(path, targets, result, known=set(entry.keys))
        saved = self._state_dict_metadata.get(path) or self._state_dict_metadata.get(f"0/{path.partition('/')[2]}")
        if saved is not None:
            result._metadata = OrderedDict(saved)  # noqa: SLF001  # where nn.Module looks for it
        return result

    def _of_other_ranks(self, path: str, key: int | str, child: str, *, asked: bool) -> Entry | None:
        """What this rank may have of a value that is listed in its container, and that it has not saved itself.

        None where there is nothing for it: that is noted.
        """
        found = entry_at(self._metadata, child)
        if found is not None:
            return found
        ranks = ranks_with(self._metadata, child)
        if path in self._metadata.manifest or not ranks:
            raise CorruptionError(f"{path!r} has the key {key!r}, but {child!r} is missing", key=child)
        (self.mismatches if asked else self.left_out).append(Mismatch(child, saved_per_rank(child, ranks)))
        return None

    def _may_be_elsewhere(self, entry: Entry) -> bool:
        return self._metadata.world_size > 1 and is_spread(entry)

    def _add_from_elsewhere(self, path: str, targets: Mapping[Any, Any], result: Any, *, known: set[int | str]) -> None:
        """Adds what the target has, and other ranks have saved for all: layers that were theirs."""
        for key, target in targets.items():
            if key in known or type(key) not in (str, int):
                continue
            child = f"{path}/{encode_key(key)}"
            entry = entry_at(self._metadata, child)
            if entry is None:
                continue
            if is_spread(entry):
                result[key] = self.build(child, entry, target)
            elif isinstance(entry, (DictEntry, OrderedDictEntry)):
                value = self.build(child, entry, target)
                if value:
                    result[key] = value

    def _list(self, path: str, target: Any) -> list[Any]:
        targets = target if isinstance(target, list) else []
        manifest = self._metadata.manifest
        owner = None if path in manifest else shared_entry(self._metadata, path)
        values: list[Any] = []
        for index in count():
            child = f"{path}/{index}"
            entry = manifest.get(child)
            if entry is None:
                entry = entry_at(self._metadata, child)
                is_for_all = entry is not None and (is_fully_replicated(entry) or is_spread(entry))
                if owner is None and not is_for_all:
                    break  # the list of another rank may be longer
            if entry is None:
                if owner is not None and f"{owner.rank}/{child.partition('/')[2]}" in manifest:
                    self.mismatches.append(Mismatch(child, saved_per_rank(child, ranks_with(self._metadata, child))))
                break
            values.append(self.build(child, entry, targets[index] if index < len(targets) else None))
        return values

    def _tensor(self, path: str, entry: TensorEntry, target: Any) -> Any:
        if entry.serializer == TORCH_SAVE:
            return self._pickled_tensor(path, entry, target)
        if target is not None and self._add_plain(path, entry, target):
            return target
        nbytes = check_tensor_entry(path, entry)
        spread = self._filled_shards(path, entry, target)
        if spread is not None:
            return spread
        into = self._destination(path, entry.dtype, entry.shape, target)
        self.tensors += 1
        if into is not None:
            self._batch.add(entry, into, path, fresh=False)
            return into
        return self._fresh_tensor(path, entry, nbytes)

    def _fresh_tensor(self, path: str, entry: TensorEntry, nbytes: int) -> torch.Tensor:
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
        spread = self._filled_shards(path, entry, target)
        if spread is not None:
            return spread
        dtype, shape, parts = parts_of(self._metadata, path, entry)
        check_parts(path, dtype, shape, parts)
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
            region = part_of(into, Box(tuple(part.offsets), tuple(part.sizes)))
            if value is not None:
                self._batch.copy_afterwards(value, region)
            else:
                self._batch.add(part.tensor, region, path, fresh=fresh)
        self.tensors += 1
        return into

    def _prepared_part(self, path: str, part: Shard, *, fresh: bool) -> torch.Tensor | None:
        """The part itself, where it is pickled; otherwise its file is looked at, for what will be allocated."""
        if part.tensor.serializer == TORCH_SAVE:
            return self._loaded_part(path, part)
        if fresh and 0 not in part.sizes:
            self._batch.expect(part.tensor, dense_nbytes(DTYPES[part.tensor.dtype], part.sizes), path)
        return None

    def _loaded_part(self, path: str, part: Shard) -> torch.Tensor:
        loaded = self._load(part.tensor.location, path)
        if not isinstance(loaded, torch.Tensor) or list(loaded.shape) != part.sizes:
            raise CorruptionError(
                f"{path!r}: {part.tensor.location} has something else than a tensor of the shape {part.sizes}",
                key=path,
            )
        return loaded

    def _filled_shards(self, path: str, entry: Entry, target: Any) -> torch.Tensor | None:
        """The target, where it is spread over ranks: its shards on this rank will be filled. None where it is not."""
        if target is None and self.templates:
            dtype, shape, _ = parts_of(self._metadata, path, entry)
            target = made_like(self.templates, path, DTYPES.get(dtype), shape)
        if not isinstance(target, torch.Tensor):
            return None
        value = sharded_value(target, path)
        if value is None:
            return None
        dtype, shape, parts = parts_of(self._metadata, path, entry)
        if self._takes_shards(path, dtype, shape, value):
            fill_shards(value, dtype, parts, self._batch, lambda part: self._loaded_part(path, part), path)
            self.tensors += 1
        return target

    def _takes_shards(self, path: str, dtype: str, shape: list[int], value: ShardedValue) -> bool:
        """Whether the shards can be filled from a tensor of that dtype and shape; what is in the way is noted."""
        if not self._fits(path, dtype, shape, value):
            return False
        reasons = [why_unfillable(shard.tensor) for shard in value.shards]
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is not None:
            self.mismatches.append(Mismatch(path, f"{path!r} {reason}"))
        return reason is None

    def _pickled_tensor(self, path: str, entry: TensorEntry, target: Any) -> Any:
        if isinstance(target, torch.Tensor):
            spread = self._filled_shards(path, entry, target)
            if spread is not None:
                return spread
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
        return target if self._fits(path, dtype, shape, target) else None

    def _fits(self, path: str, dtype: str, shape: list[int], target: torch.Tensor | ShardedValue) -> bool:
        if target.shape != tuple(shape):
            self.mismatches.append(Mismatch(path, f"{path!r} has the shape {list(target.shape)}, saved {shape}"))
            return False
        if target.dtype is not DTYPES.get(dtype) and not self._cast:
            text = f"{path!r} has the dtype {target.dtype}, saved {dtype} (cast=True converts)"
            self.mismatches.append(Mismatch(path, text))
            return False
        return True

    def must_not_remain(self, stateful: Any, *, strict: bool) -> list[Mismatch]:
        """What the stateful that was built last cannot do without; forgets what it can do without."""
        found: list[Mismatch] = []
        if isinstance(stateful, torch.nn.Module):
            found += self.unfillable  # its load_state_dict copies, too
            found += self.unrequested if strict else []
        elif isinstance(stateful, torch.optim.Optimizer):
            found += self.left_out  # half of a parameter's state is worse than none
        self.unfillable.clear()
        self.unrequested.clear()
        self.left_out.clear()
        return found

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
