"""Planning at scale, D2: ``python -m benchmarks.planning``. Simulated, see simulated_ranks.py; no file is written.

Of one rank the time is that of the last; its plan is repeated, and the parts of all are made for rank 0, which puts
them together in a process that has done nothing else.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import Role
from benchmarks.machine import describe, version
from benchmarks.records import Cell, Line, Operation, Result
from benchmarks.settings import Settings
from benchmarks.simulated_ranks import TENSOR_NBYTES, Simulation, handed_in, merge, part_of, plan_rank
from sucrose.errors import UnsupportedError
from sucrose.snapshot.collective.assignment import writers_of_replicated
from sucrose.snapshot.collective.replicated_values import ReplicatedValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

    from benchmarks.simulated_ranks import Merge
    from sucrose.snapshot.collective.parts import Part

logger = logging.getLogger("benchmarks")

CASE, TITLE = "D2", "Planning at scale, simulated"
_KINDS = {"sharded": True, "replicated": False}
_OPERATIONS = (
    Operation.PLAN_RANK,
    Operation.PLAN_MERGE,
    Operation.PLAN_SENT,
    Operation.PLAN_RECEIVED,
    Operation.PLAN_STORED,
    Operation.PLAN_PEAK,
)


@dataclass(frozen=True, slots=True)
class Take:
    """What was measured of one simulated take, by operation."""

    samples: dict[Operation, list[float]]
    missing: str | None = None


def measure(take: Simulation, runs: int) -> Take:
    """Plans `take` as all its ranks and as rank 0 do."""
    plans = [plan_rank(take, take.world_size - 1) for _ in range(runs)]
    shares = _shares(take)
    ranks = range(1, take.world_size)
    given = [handed_in(take, rank, part_of(take, rank, shares[rank])) for rank in ranks]
    sent = sum(map(len, given)) + plans[0].described_nbytes
    samples = {
        Operation.PLAN_RANK: [plan.seconds for plan in plans],
        Operation.PLAN_SENT: [float(plans[0].handed_in_nbytes + plans[0].described_nbytes)],
        Operation.PLAN_RECEIVED: [float(sent)],
    }
    found = [_in_new_process(take, part_of(take, 0, shares[0]), given) for _ in range(runs)]
    for each in found:
        if isinstance(each, str):
            return Take(samples, each)
        for operation, value in (
            (Operation.PLAN_MERGE, each.seconds),
            (Operation.PLAN_STORED, float(each.manifest_nbytes + each.index_nbytes)),
            (Operation.PLAN_PEAK, float(each.peak_nbytes)),
        ):
            samples.setdefault(operation, []).append(value)
    return Take(samples)


def _shares(take: Simulation) -> Mapping[int, Sequence[str]]:
    """The tensors that each rank writes."""
    if take.is_sharded:
        return dict.fromkeys(range(take.world_size), take.names())
    shares: dict[int, list[str]] = defaultdict(list)
    values = [ReplicatedValue(name, "torch.float32", nbytes=TENSOR_NBYTES) for name in take.names()]
    for name, rank in writers_of_replicated(values, take.world_size).items():
        shares[rank].append(name)
    return shares


def _in_new_process(take: Simulation, own: Part, given: list[bytes]) -> Merge | str:
    """Forked, so that the peak is of this alone; the reason where it cannot be done."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_merge_and_tell, args=(theirs, take, own, given))
    process.start()
    theirs.close()
    try:
        found: Merge | str = ours.recv()
    except EOFError:
        found = "the process has ended: too little memory"
    process.join()
    return found


def _merge_and_tell(connection: Connection, take: Simulation, own: Part, given: list[bytes]) -> None:
    try:
        connection.send(merge(take, own, given))
    except UnsupportedError as error:
        connection.send(f"{type(error).__name__}: {error}")


def cells(takes: Mapping[Simulation, Take]) -> Iterator[Cell]:
    """One for each operation and kind of state."""
    for operation in _OPERATIONS:
        for kind, is_sharded in _KINDS.items():
            lines = tuple(
                _line(take, found, operation) for take, found in takes.items() if take.is_sharded == is_sharded
            )
            n_tensors = max((take.n_tensors for take in takes), default=0)
            yield Cell(
                operation=operation, state=kind, nbytes=n_tensors * TENSOR_NBYTES, n_tensors=n_tensors, lines=lines
            )


def _line(take: Simulation, found: Take, operation: Operation) -> Line:
    samples = tuple(found.samples.get(operation, ()))
    return Line(
        name=f"{take.world_size:,} ranks, {take.n_tensors:,} tensors",
        role=Role.OURS,
        version=version("torch-sucrose"),
        note="simulated, of 16 MiB each; none of them exists",
        missing=None if samples else found.missing,
        samples=samples,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    add = parser.add_argument
    add("--ranks", type=int, nargs="+", default=(8, 64, 1024), help="how many (default %(default)s)")
    add("--tensors", type=int, nargs="+", default=(100, 2000), help="likewise (default %(default)s)")
    add("--kind", nargs="+", choices=_KINDS, default=tuple(_KINDS), help="of states (default both)")
    add("--runs", type=int, default=3, help="samples (default %(default)s)")
    add("--largest", type=int, default=200_000, help="leaves out sharded takes with more shards (default %(default)s)")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes")
    add("--machine", help="short description for file names and headings")
    return parser


def main() -> int:
    """Measures and writes the JSON."""
    args = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    takes: dict[Simulation, Take] = {}
    for kind in args.kind:
        for n_tensors in args.tensors:
            for world_size in args.ranks:
                take = Simulation(world_size, n_tensors, _KINDS[kind])
                if take.is_sharded and world_size * n_tensors > args.largest:
                    takes[take] = Take({}, "it has more shards than --largest allows")
                    continue
                logger.info("%s", take)
                takes[take] = measure(take, args.runs)
    machine = describe(args.out)
    machine["name"] = args.machine or machine["name"]
    how = {**asdict(Settings(runs=args.runs)), "cache_drop": "nothing here"}
    result = Result(case=CASE, title=TITLE, machine=machine, settings=how, cells=tuple(cells(takes)))
    result.write(args.out / f"{CASE}-{machine['name']}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
