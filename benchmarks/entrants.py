"""Who takes part in the rounds of a cell: contenders in processes of their own, and fio."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

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

    def add(self, sample: float, **parts: float) -> None:
        """Takes the first sample for itself and the others as the samples of the line, with their `parts`."""
        if self.line.first is None:
            self.line = replace(self.line, first=sample)
            return
        lists: dict[str, Any] = {name: (*getattr(self.line, name), part) for name, part in parts.items()}
        self.line = replace(self.line, samples=(*self.line.samples, sample), **lists)


class ContenderEntrant(Entrant):
    """A contender in a process of its own."""

    def __init__(self, name: str, operation: Operation, folder: Path, *, limit_s: float) -> None:
        kind = BY_NAME[name]
        self.line = Line(name=name, role=kind.role, stage=kind.stage, note=kind.note)
        self._operation = operation
        self._path = folder / name.replace(" ", "").replace(",", "-")
        self._limit_s = limit_s
        self._nbytes = 0
        self._worker: Worker | None = None

    def start(self, state: str, scale: float, device: str) -> tuple[int, int]:
        """Starts the process; returns the bytes and the number of tensors of the state."""
        self._worker = Worker(self.line.name, limit_s=self._limit_s)
        self.line = replace(self.line, version=self._worker.version)
        built = self._build(self._worker, state, scale, device)
        self._nbytes = built["nbytes"]
        return self._nbytes, built["n_tensors"]

    def _build(self, worker: Worker, state: str, scale: float, device: str) -> dict[str, Any]:
        return worker.build(state, scale, device)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()

    def _sample(self, reply: dict[str, Any]) -> float:
        """What one save or load is worth here."""
        if self._operation is Operation.STORED_SIZE:
            return float(reply["stored_nbytes"] / self._nbytes * 100)
        return float(reply["cpu_s" if self._operation.is_cpu else "seconds"])

    def _check(self, *, equal: bool) -> None:
        self.line = replace(self.line, equal=equal and self.line.equal is not False)

    def _started(self) -> Worker:
        if self._worker is None:
            raise ContenderError("the process was never started")
        return self._worker


class SaveEntrant(ContenderEntrant):
    """Saves to a new path each round."""

    def run(self) -> None:
        remove(self._path)
        saved = self._started().save(self._path)
        fsync = {} if BY_NAME[self.line.name].durable else {"fsync_s": saved["fsync_s"]}
        self.line = replace(self.line, rank_nbytes=saved["rank_nbytes"])
        self.add(self._sample(saved), **fsync)

    def finish(self) -> None:
        self._check(equal=self._started().load(self._path)["equal"])


class LoadEntrant(ContenderEntrant):
    """Loads what it saved once."""

    def prepare(self) -> None:
        self._started().save(self._path)
        evict(self._path)

    def run(self) -> None:
        if self._operation is Operation.LOAD_COLD:
            drop_page_cache(self._path)
        else:
            warm_page_cache(self._path)
        loaded = self._started().load(self._path)
        self.add(self._sample(loaded))
        self._check(equal=loaded["equal"])
        evict(self._path)  # so that the files of all contenders need not fit into memory together


class StallEntrant(ContenderEntrant):
    """Saves in the background to a new path each round; the sample is how long the program had to wait."""

    def run(self) -> None:
        remove(self._path)
        stalled = self._started().stall(self._path)
        self.add(stalled["seconds"], durable_s=stalled["durable_s"])

    def finish(self) -> None:
        """One more save, whose tensors change as soon as the program can go on."""
        remove(self._path)
        self._started().stall(self._path, overwrite=True)
        self._check(equal=self._started().load(self._path)["equal"])


class LoopEntrant(ContenderEntrant):
    """Trains, and saves meanwhile to a new path each round; the sample is how much slower the steps became."""

    def run(self) -> None:
        remove(self._path)
        trained = self._started().train(self._path)
        trace = trained["trace"]
        self.line = replace(self.line, loops=(*self.line.loops, trace))
        self.add(trace.slow_down_percent, durable_s=trace.durable_s)
        self._check(equal=trained["equal"])

    def _build(self, worker: Worker, state: str, scale: float, device: str) -> dict[str, Any]:  # noqa: ARG002
        return worker.build_training(scale, device)


def entrant_for(operation: Operation) -> type[ContenderEntrant]:
    """The kind of entrant that measures `operation`."""
    if operation is Operation.LOOP:
        return LoopEntrant
    if operation is Operation.STALL:
        return StallEntrant
    return LoadEntrant if operation.is_load or operation is Operation.LOAD_CPU else SaveEntrant


class FioEntrant(Entrant):
    """One fio job: the raw limit of the storage."""

    def __init__(self, job: FioJob, folder: Path, nbytes: int) -> None:
        note = "end_fsync=1" if job.write else "page cache dropped before"
        self.line = Line(name=job.name, role=Role.LIMIT, stage="storage", note=note)
        self._job = job
        self._path = folder / "raw"
        self._nbytes = nbytes

    def prepare(self) -> None:
        self.line = replace(self.line, version=fio_version())
        if not self._job.write and not self._path.exists():
            run_fio(WRITES[0], self._path, self._nbytes)

    def run(self) -> None:
        self.add(run_fio(self._job, self._path, self._nbytes))
