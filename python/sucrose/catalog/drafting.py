"""What a new generation is called, and which timeline it belongs to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sucrose.catalog.pending import PENDING
from sucrose.errors import CorruptionError
from sucrose.formats.generation import GENERATION_VERSION, MAX_COUNT, GenerationRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sucrose.catalog.directory import CatalogDirectory


def draft_generation(
    directory: CatalogDirectory, step: int, metrics: Mapping[str, float | str], *, pinned: bool, durable: bool
) -> GenerationRecord:
    """The record of a save that begins now, after all that are committed or pending.

    It lacks the size, the time and the bases, which the commit adds.

    Raises:
        CorruptionError: a generation leaves no room for a newer one.
        OSError: the folder cannot be read.
    """
    newest = directory.newest_record()
    orders = [(0, 0)] if newest is None else [(newest.timeline, newest.step)]
    pending = PENDING.newest(directory.root)
    timeline, newest_step = max([*orders, pending] if pending is not None else orders)
    if step < newest_step:
        timeline += 1
    if timeline > MAX_COUNT:  # nobody has gone back that often, and the record could not be read again
        raise CorruptionError(
            f"a generation in {directory.root!r} says that it is of timeline {MAX_COUNT}, after which none can come: "
            "see 'sucrose ls', and move away what no program of yours has saved",
            path=directory.root,
        )
    return GenerationRecord(
        format_version=GENERATION_VERSION,
        id=os.path.basename(directory.new_path(step)),
        step=step,
        timeline=timeline,
        committed_ns=0,
        metrics=dict(metrics),
        pinned=pinned,
        durable=durable,
        nbytes=0,
    )
