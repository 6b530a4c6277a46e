"""Measures what only a fresh process can tell: peaks of memory, imports and first saves."""

from __future__ import annotations

import logging
import shutil
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.client import ContenderError, Worker
from benchmarks.contenders import BY_NAME
from benchmarks.files import remove
from benchmarks.records import Cell, Line, Operation

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.cases import CellPlan
    from benchmarks.settings import Settings

logger = logging.getLogger(__name__)

LATER_SAVES = 3


def measure(plan: CellPlan, settings: Settings, folder: Path) -> Cell:
    """Runs one cell in `folder`, which is left as it was found."""
    probe = _Probe(plan, settings, folder / "cell")
    for _ in range(settings.runs):
        for name in plan.contenders:
            probe.sample(name)
    lines = tuple(probe.lines.values())
    return Cell(operation=plan.operation, state=plan.state, nbytes=probe.nbytes, n_tensors=probe.n_tensors, lines=lines)


class _Probe:
    """One sample after the other, each from a process that has done nothing before."""

    def __init__(self, plan: CellPlan, settings: Settings, place: Path) -> None:
        self._operation, self._state, self._settings, self._place = plan.operation, plan.state, settings, place
        self.nbytes = self.n_tensors = 0
        self.lines = {
            name: Line(name=name, role=BY_NAME[name].role, note=BY_NAME[name].note) for name in plan.contenders
        }

    def sample(self, name: str) -> None:
        """Adds one sample to the line of contender `name`, or the reason why there is none."""
        line = self.lines[name]
        if line.missing is not None:
            return
        self._place.mkdir()
        try:
            sample, equal = self._measure(name)
            self.lines[name] = replace(self.lines[name], samples=(*line.samples, sample), equal=equal)
        except ContenderError as error:
            self.lines[name] = line.without_figures(str(error))
            logger.warning("%s has no figures: %s", name, self.lines[name].missing)
        finally:
            shutil.rmtree(self._place)

    def _measure(self, name: str) -> tuple[float, bool | None]:
        path = self._place / "state"
        if self._operation is Operation.PEAK_LOAD:
            with self._worker(name) as writer:
                self._build(writer)
                writer.save(path)
        with self._worker(name) as worker:
            self.lines[name] = replace(self.lines[name], version=worker.version)
            if self._operation is Operation.IMPORT:
                return worker.import_s, None
            self._build(worker)
            if self._operation is Operation.PEAK_LOAD:
                loaded = worker.load(path)
                return loaded["peak_nbytes"], loaded["equal"]
            first = worker.save(path)
            if self._operation is Operation.PEAK_SAVE:
                return first["peak_nbytes"], worker.load(path)["equal"]
            later = []
            for _ in range(LATER_SAVES):
                remove(path)
                later.append(worker.save(path)["seconds"])
            return first["seconds"] / statistics.median(later), worker.load(path)["equal"]

    def _worker(self, name: str) -> Worker:
        return Worker(name, limit_s=self._settings.limit_s)

    def _build(self, worker: Worker) -> None:
        built = worker.build(self._state, self._settings.scale, "cpu")
        self.nbytes, self.n_tensors = built["nbytes"], built["n_tensors"]
