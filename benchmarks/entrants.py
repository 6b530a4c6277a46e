"""Who takes part in the rounds of a cell: contenders in processes of their own, and fio."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.client import ContenderError, Worker
from benchmarks.contenders import BY_NAME, Role
from benchmarks.files import drop_page_cache, evict, remove, warm_page_cache
from benchmarks.raw import WRITES, fio_version, run_fio
from benchmarks.records import Line, Operation

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.raw import FioJob


class Entrant:
    """One line of a cell while it is measured. Any method may raise `ContenderError`."""

    line: Line

    def prepare(self) -> None:
        """What has to be there before the first round."""

    def run(self) -> None:
        """One round: appends one sample to the line."""
        raise NotImplementedError

    def finish(self) -> None:
        """What is left to check after the last round."""

    def close(self) -> None:
        """Ends the process. Files stay until the folder of the cell is removed."""

    def add(self, seconds: float, fsync_s: float | None = None) -> None:
        """Takes the first sample for itself and the others as the samples of the line."""
        if self.line.first is None:
            self.line = replace(self.line, first=seconds)
            return
        fsyncs = self.line.fsync_s if fsync_s is None else (*self.line.fsync_s, fsync_s)
        self.line = replace(self.line, samples=(*self.line.samples, seconds), fsync_s=fsyncs)


class ContenderEntrant(Entrant):
    """A contender that saves to a new path each round, or loads what it saved once."""

    def __init__(self, name: str, operation: Operation, folder: Path, *, limit_s: float) -> None:
        kind = BY_NAME[name]
        self.line = Line(name=name, role=kind.role, note=kind.note)
        self._operation = operation
        self._path = folder / name.replace(" ", "").replace(",", "-")
        self._limit_s = limit_s
        self._worker: Worker | None = None

    def start(self, state: str, scale: float) -> tuple[int, int]:
        """Starts the process; returns the bytes and the number of tensors of the state."""
        self._worker = Worker(self.line.name, limit_s=self._limit_s)
        self.line = replace(self.line, version=self._worker.version)
        built = self._worker.build(state, scale)
        return built["nbytes"], built["n_tensors"]

    def prepare(self) -> None:
        if self._operation is not Operation.SAVE:
            self._started().save(self._path)
            evict(self._path)

    def run(self) -> None:
        if self._operation is Operation.SAVE:
            remove(self._path)
            saved = self._started().save(self._path)
            self.add(saved["seconds"], None if BY_NAME[self.line.name].durable else saved["fsync_s"])
            return
        if self._operation is Operation.LOAD_HOT:
            warm_page_cache(self._path)
        else:
            drop_page_cache(self._path)
        loaded = self._started().load(self._path)
        self.add(loaded["seconds"])
        self._check(equal=loaded["equal"])
        evict(self._path)  # so that the files of all contenders need not fit into memory together

    def finish(self) -> None:
        if self._operation is Operation.SAVE:
            self._check(equal=self._started().load(self._path)["equal"])

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()

    def _check(self, *, equal: bool) -> None:
        self.line = replace(self.line, equal=equal and self.line.equal is not False)

    def _started(self) -> Worker:
        if self._worker is None:
            raise ContenderError("the process was never started")
        return self._worker


class FioEntrant(Entrant):
    """One fio job: the raw limit of the storage."""

    def __init__(self, job: FioJob, folder: Path, nbytes: int) -> None:
        note = "end_fsync=1" if job.write else "page cache dropped before"
        self.line = Line(name=job.name, role=Role.LIMIT, note=note)
        self._job = job
        self._path = folder / "raw"
        self._nbytes = nbytes

    def prepare(self) -> None:
        self.line = replace(self.line, version=fio_version())
        if not self._job.write and not self._path.exists():
            run_fio(WRITES[0], self._path, self._nbytes)

    def run(self) -> None:
        self.add(run_fio(self._job, self._path, self._nbytes))
