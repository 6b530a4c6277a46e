"""Planning the data files of a take that may refer to a base."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sucrose.formats.manifest import Entry
from sucrose.snapshot.incremental.changes import Changes, FreshRows, compare, referable, rows_of_tensors
from sucrose.snapshot.incremental.opened_base import OpenedBase
from sucrose.snapshot.incremental.pieces import Rows
from sucrose.snapshot.incremental.segments import Segment, cut_out, entry_of, joined, segments_of
from sucrose.snapshot.incremental.taken_fingerprints import fingerprints_of_files, fingerprints_of_memory
from sucrose.snapshot.plan import DataFile, plan_data_files
from sucrose.snapshot.tensors import DTYPE_NAMES, ITEMSIZES, Memory, rows_of_memory

if TYPE_CHECKING:
    from sucrose.compression import Compression
    from sucrose.engine import Engine
    from sucrose.formats.index import BaseRecord, FileRecord
    from sucrose.formats.signing_keys import Signer
    from sucrose.options import Options
    from sucrose.snapshot.capture import CapturedState
    from sucrose.storage.leases import Lease

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class TakePlan:
    """What a take writes, and what it refers to."""

    files: list[DataFile]
    entries: dict[str, Entry]
    """Of all dense tensors."""
    memories: dict[str, Memory]
    """What the files consist of, by the names in `DataFile.paths`."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    referred: dict[str, FileRecord] = field(default_factory=dict)
    referred_nbytes: int = 0
    bases: dict[str, BaseRecord] = field(default_factory=dict)
    leases: list[Lease] = field(default_factory=list)
    """On the bases, until the commit."""

    def release(self) -> None:
        """Gives the leases back."""
        for lease in self.leases:
            lease.release()


def plan_take(
    captured: CapturedState,
    *,
    target: str,
    base: str | None,
    fingerprints: bool,
    options: Options,
    compression: Compression | None,
    engine: Engine,
    signer: Signer | None,
    tag: str = "",
) -> TakePlan:
    """Plans a take to `target`. With a base, or where fingerprints are wanted, all of the state is read for them.

    Raises:
        IncompleteSnapshotError: there is no complete snapshot at `base`, or one that it refers to is gone.
        CorruptionError: the base, or one that it refers to, is damaged.
        FileExistsError: the base is what the take would replace.
    """
    if base is None and not fingerprints:
        files, entries = plan_data_files(captured, options, compression, tag)
        return TakePlan(files, entries, captured.dense)
    rows = rows_of_tensors(captured)
    opened = None if base is None else OpenedBase(base, target, engine, signer)
    try:
        now = fingerprints_of_memory({path: captured.dense[path] for path in rows}, rows, engine)
        in_hex = {path: found.hex() for path, found in now.items()}
        in_hex |= {path: in_hex[first] for path, first in captured.aliases.items() if first in in_hex}
        if opened is None or not opened.is_usable:
            if opened is not None:
                logger.info("%s has digests of another kind, so nothing of it is referred to", opened.root)
                opened.release()
            files, entries = plan_data_files(captured, options, compression)
            return TakePlan(files, entries, captured.dense, in_hex)
        changes = _changes(captured, rows, now, opened, engine)
        plan = _plan(captured, rows, changes, opened, options, compression)
    except BaseException:
        if opened is not None:
            opened.release()
        raise
    return replace(plan, fingerprints=in_hex, leases=opened.leases)


def _changes(
    captured: CapturedState, rows: dict[str, Rows], now: dict[str, bytes], base: OpenedBase, engine: Engine
) -> Changes:
    segments = referable(captured, rows, base)
    stored = {path: base.fingerprints(path) for path in segments}
    before = {path: found for path, found in stored.items() if found is not None}
    unknown = {path: of_tensor for path, of_tensor in segments.items() if path not in before}
    before |= fingerprints_of_files(base, unknown, rows, engine)
    return compare(captured, rows, now, before, segments)


def _plan(
    captured: CapturedState,
    rows: dict[str, Rows],
    changes: Changes,
    base: OpenedBase,
    options: Options,
    compression: Compression | None,
) -> TakePlan:
    parts = _names(changes, captured)
    memories = {name: _memory_of(captured.dense[part.path], part, rows) for name, part in parts.items()}
    written = replace(captured, dense=memories, aliases={}, pickled_tensors={})
    files, written_entries = plan_data_files(written, replace(options, max_chunk_nbytes=0), compression)
    fresh: dict[str, list[Segment]] = {path: [] for path in changes.fresh}
    for name, part in parts.items():
        fresh[part.path] += _placed(written_entries[name], memories[name], part, rows)
    locations = sorted({segment.location for of_tensor in changes.kept.values() for segment in of_tensor})
    kept = {path: _from_target(of_tensor, base) for path, of_tensor in changes.kept.items()}
    entries: dict[str, Entry] = {}
    for path, memory in captured.dense.items():
        first = captured.aliases.get(path, path)
        of_tensor = joined(sorted([*fresh.get(first, ()), *kept.get(first, ())]))
        entries[path] = _entry(memory, of_tensor, rows.get(first), options.max_chunk_nbytes)
    return TakePlan(
        files,
        entries,
        memories,
        bases=base.bases_of(locations),
        referred=base.records_of(locations),
        referred_nbytes=sum(part.end - part.begin for of_tensor in changes.kept.values() for part in of_tensor),
    )


def _names(changes: Changes, captured: CapturedState) -> dict[str, FreshRows]:
    """What is written, by the names that it has in the data files."""
    names: dict[str, FreshRows] = {}
    for path, of_tensor in changes.fresh.items():
        for part in of_tensor:
            name = path
            if path in changes.kept or len(of_tensor) > 1:
                name = f"{path}[{part.begin}:{part.end}]"
                while name in captured.dense or name in names:  # somebody has named a tensor like that
                    name += "'"
            names[name] = part
    return names


def _memory_of(memory: Memory, part: FreshRows, rows: dict[str, Rows]) -> Memory:
    of_tensor = rows.get(part.path)
    if of_tensor is None or (part.begin, part.end) == (0, of_tensor.number):
        return memory
    return rows_of_memory(memory, of_tensor.dim, part.begin, part.end)


def _placed(entry: Entry, memory: Memory, part: FreshRows, rows: dict[str, Rows]) -> list[Segment]:
    """Where those rows are written, as segments of their tensor."""
    shape = memory.tensor.shape
    segments = segments_of(entry, DTYPE_NAMES[memory.dtype], shape, ITEMSIZES[memory.dtype])
    assert segments is not None
    begin = part.begin * rows[part.path].nbytes if part.path in rows else 0
    return [segment._replace(begin=segment.begin + begin, end=segment.end + begin) for segment in segments]


def _from_target(segments: Iterable[Segment], base: OpenedBase) -> list[Segment]:
    return [segment._replace(location=base.location_from_target(segment.location)) for segment in segments]


def _entry(memory: Memory, segments: list[Segment], rows: Rows | None, max_chunk_nbytes: int) -> Entry:
    shape = list(memory.tensor.shape)
    if rows is None:
        return entry_of(segments, DTYPE_NAMES[memory.dtype], shape, 0)
    if rows.number > 1 and max_chunk_nbytes > 0:
        step = max(1, max_chunk_nbytes // rows.nbytes) * rows.nbytes
        segments = [part for begin in range(0, memory.nbytes, step) for part in cut_out(segments, begin, begin + step)]
    return entry_of(segments, DTYPE_NAMES[memory.dtype], shape, rows.dim)
