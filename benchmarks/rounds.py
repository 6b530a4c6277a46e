"""Measures the cells in which contenders are compared: in rounds, one after the other, A B A B.

All processes of a cell live at once. Every round runs every entrant once, beginning one further
down the list than the round before; the first round is kept apart, because it is the first use.
"""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from benchmarks.client import ContenderError
from benchmarks.entrants import ContenderEntrant, Entrant, FioEntrant, entrant_for
from benchmarks.raw import READS, TMPFS_WRITES, WRITES
from benchmarks.records import Cell, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from benchmarks.cases import CellPlan
    from benchmarks.settings import Settings

logger = logging.getLogger(__name__)

_JOBS = {Operation.SAVE: WRITES, Operation.SAVE_TMPFS: TMPFS_WRITES, Operation.LOAD_COLD: READS}


def measure(plan: CellPlan, settings: Settings, folder: Path) -> Cell:
    """Runs one cell in `folder`, which is left as it was found."""
    place = folder / "cell"
    place.mkdir()
    entrants: list[Entrant] = []
    try:
        kind = entrant_for(plan.operation)
        contenders = [kind(name, plan.operation, place, limit_s=settings.limit_s) for name in plan.contenders]
        entrants += contenders
        nbytes, n_tensors = _start(contenders, plan, settings.scale)
        entrants += [FioEntrant(job, place, nbytes) for job in _JOBS.get(plan.operation, ())]
        _each(entrants, lambda entrant: entrant.prepare())
        for index in range(settings.runs + 1):
            turn = index % len(entrants)
            _each(entrants[turn:] + entrants[:turn], lambda entrant: entrant.run())
        _each(entrants, lambda entrant: entrant.finish())
    finally:
        for entrant in entrants:
            entrant.close()
        shutil.rmtree(place)
    lines = tuple(entrant.line for entrant in entrants)
    size = {"nbytes": nbytes, "n_tensors": n_tensors}
    return Cell(operation=plan.operation, state=plan.state, device=plan.device, lines=lines, **size)


def _start(contenders: list[ContenderEntrant], plan: CellPlan, scale: float) -> tuple[int, int]:
    sizes: list[tuple[int, int]] = []
    _each(contenders, lambda entrant: sizes.append(entrant.start(plan.state, scale, plan.device)))
    return sizes[0] if sizes else (0, 0)


def _each(entrants: Iterable[Entrant], action: Callable[..., None]) -> None:
    """Does something with each entrant that is still in the race; one that cannot is out."""
    for entrant in entrants:
        if entrant.line.missing is not None:
            continue
        try:
            action(entrant)
        except ContenderError as error:
            entrant.close()
            entrant.line = entrant.line.without_figures(str(error))
            logger.warning("%s has no figures: %s", entrant.line.name, entrant.line.missing)
