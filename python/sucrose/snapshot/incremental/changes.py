"""What of a state has to be written, where the rest lies in a base: decided piece by piece, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sucrose.snapshot.incremental.pieces import Rows, rows_of
from sucrose.snapshot.incremental.segments import Segment, cut_out, segments_of
from sucrose.snapshot.incremental.taken_fingerprints import fingerprint_count
from sucrose.snapshot.tensors import DTYPE_NAMES, ITEMSIZES, is_picklable

if TYPE_CHECKING:
    from sucrose.snapshot.capture import CapturedState
    from sucrose.snapshot.incremental.opened_base import OpenedBase

_FINGERPRINT_NBYTES = 16


class FreshRows(NamedTuple):
    """Rows of a tensor that are written, in one piece."""

    path: str
    begin: int
    end: int


@dataclass(slots=True)
class Changes:
    """Of each tensor: what is written of it, and what lies in files of the base."""

    fresh: dict[str, list[FreshRows]] = field(default_factory=dict)
    kept: dict[str, list[Segment]] = field(default_factory=dict)
    """Ordered; locations are those of the base."""


def rows_of_tensors(captured: CapturedState) -> dict[str, Rows]:
    """How each tensor that is written once is cut."""
    whole = {first for path, first in captured.aliases.items() if _differ(captured, path, first)}
    return {
        path: rows_of(memory.tensor.shape, memory.nbytes, is_whole=path in whole or not is_picklable(memory.dtype))
        for path, memory in captured.dense.items()
        if path not in captured.aliases and memory.nbytes > 0
    }


def referable(captured: CapturedState, rows: Mapping[str, Rows], base: OpenedBase) -> dict[str, list[Segment]]:
    """Where the base has tensors of these paths, with the same dtype and shape.

    Of several that were tied in the base, and are not any more, only the first: the others would be tied again when
    they are restored.
    """
    found = {}
    taken: set[Segment] = set()
    for path in rows:
        memory = captured.dense[path]
        entry = base.entry(path)
        if entry is not None:
            dtype, shape = DTYPE_NAMES[memory.dtype], memory.tensor.shape
            segments = segments_of(entry, dtype, shape, ITEMSIZES[memory.dtype])
            if segments is None or segments[0] in taken:
                continue
            if any(segment.begin % rows[path].nbytes for segment in segments):  # cut within rows, by somebody else
                continue
            taken.add(segments[0])
            found[path] = segments
    return found


def compare(
    captured: CapturedState,
    rows: Mapping[str, Rows],
    now: Mapping[str, bytes],
    before: Mapping[str, bytes],
    segments: Mapping[str, list[Segment]],
) -> Changes:
    """Pieces with other fingerprints than `before` are written, and so is all that the base does not have."""
    changes = Changes()
    for path, memory in captured.dense.items():
        if path in captured.aliases:
            continue
        if path not in rows or path not in segments or len(before[path]) != len(now[path]):
            changes.fresh[path] = [FreshRows(path, 0, rows[path].number if path in rows else 0)]
            continue
        _compare_tensor(changes, path, memory.nbytes, rows[path], now[path], before[path], segments[path])
    return changes


def _compare_tensor(
    changes: Changes, path: str, nbytes: int, rows: Rows, now: bytes, before: bytes, segments: list[Segment]
) -> None:
    if now == before:  # nearly all are, or nearly none
        changes.kept[path] = segments
        return
    step = _FINGERPRINT_NBYTES * fingerprint_count(rows.piece_nbytes, rows)
    fresh: list[FreshRows] = []
    kept: list[Segment] = []
    for piece, begin in enumerate(range(0, rows.number, rows.per_piece)):
        end = min(begin + rows.per_piece, rows.number)
        which = slice(piece * step, (piece + 1) * step)
        if now[which] == before[which]:
            kept += cut_out(segments, begin * rows.nbytes, min(end * rows.nbytes, nbytes))
        elif fresh and fresh[-1].end == begin:
            fresh[-1] = FreshRows(path, fresh[-1].begin, end)
        else:
            fresh.append(FreshRows(path, begin, end))
    changes.fresh[path] = fresh
    if kept:
        changes.kept[path] = kept


def _differ(captured: CapturedState, path: str, first: str) -> bool:
    """Whether two names of the same bytes see them differently: their rows are not the same then."""
    one, other = captured.dense[path], captured.dense[first]
    return one.dtype is not other.dtype or one.tensor.shape != other.tensor.shape
