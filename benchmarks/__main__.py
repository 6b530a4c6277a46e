"""The command line: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import fresh, rounds
from benchmarks.cases import CASES, FAMILIES, Case, CellPlan
from benchmarks.contenders import BY_NAME, Role
from benchmarks.files import can_drop_all
from benchmarks.gpu import first_gpu
from benchmarks.machine import describe
from benchmarks.object_server import URL_VARIABLE, missing_server, object_server
from benchmarks.records import Cell, Result
from benchmarks.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

logger = logging.getLogger("benchmarks")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures sucrose beside its peers and the raw limit of the hardware; see benchmarks/README.md.",
        epilog="Cases: " + "; ".join(f"{name} {case.title.lower()}" for name, case in CASES.items()) + ".",
    )
    states = sorted({cell.state for case in CASES.values() for cell in case.cells} - {""})
    default = Settings()
    add = parser.add_argument
    add(
        "--case",
        nargs="+",
        choices=(*CASES, *FAMILIES),
        default=FAMILIES,
        metavar="CASE",
        help=f"only these cases; {' or '.join(FAMILIES)} is all cases that begin with it",
    )
    add("--contender", nargs="+", choices=BY_NAME, default=(), metavar="NAME", help="only these beside the raw limit")
    add(
        "--state",
        nargs="+",
        choices=states,
        default=(),
        metavar="STATE",
        help=f"only these of its states: {', '.join(states)}",
    )
    add("--device", choices=("cpu", "cuda"), help="where the states lie, instead of where the cases say")
    add("--runs", type=int, default=default.runs, help="samples per line (default %(default)s)")
    add("--scale", type=float, default=default.scale, help="shrinks the states, for a try-out (default %(default)s)")
    add("--limit", type=float, default=default.limit_s, help="seconds after which one operation is stopped")
    add("--dir", type=Path, default=Path(), help="folder in whose file system to write (default: the current one)")
    add("--tmpfs", type=Path, default=Path(default.tmpfs), help="folder in memory (default %(default)s)")
    add("--s3", metavar="URL", help="bucket and prefix of an object store, instead of a server on this machine")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes")
    add("--machine", help="short description for file names and headings (default: cores, file system, device)")
    return parser


def _selected(
    case: Case, states: Collection[str], contenders: Collection[str], device: str | None
) -> Iterator[CellPlan]:
    """The cells of a case in these states and with these contenders; empty selections are everything."""
    for plan in case.cells:
        names = tuple(name for name in plan.contenders if not contenders or name in contenders or _is_limit(name))
        if any(not _is_limit(name) for name in names) and (not states or plan.state in states):
            yield replace(plan, contenders=names, device=device or plan.device)


def _is_limit(name: str) -> bool:
    return BY_NAME[name].role is Role.LIMIT


def _why_not(plans: Collection[CellPlan]) -> str:
    """Why these cells cannot be measured here, or nothing."""
    if any(plan.operation.in_object_store for plan in plans) and (missing := missing_server()):
        return missing
    return first_gpu().missing if any(plan.device == "cuda" for plan in plans) else ""


def _run_cell(plan: CellPlan, settings: Settings, folder: Path) -> Cell:
    logger.info("%s, %s on %s", plan.operation.value, plan.state, plan.device)
    measure = rounds.measure if plan.operation.in_rounds else fresh.measure
    if not plan.operation.in_memory:
        return measure(plan, settings, folder)
    with (
        object_server(folder) if plan.operation.in_object_store else nullcontext(),
        tempfile.TemporaryDirectory(prefix=".benchmarks-", dir=settings.tmpfs) as name,
    ):
        return measure(plan, settings, Path(name))


def main() -> int:
    """Runs the cases and writes one JSON file for each."""
    parser = _parser()
    args = parser.parse_args()
    if args.runs < 1:
        parser.error("--runs: at least 1")
    if args.s3:
        os.environ[URL_VARIABLE] = args.s3
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    settings = Settings(runs=args.runs, scale=args.scale, tmpfs=str(args.tmpfs), limit_s=args.limit)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".benchmarks-", dir=args.dir) as name:
        folder = Path(name)
        machine = describe(folder)
        machine["name"] = args.machine or machine["name"]
        how = {**asdict(settings), "cache_drop": "drop_caches" if can_drop_all() else "posix_fadvise on each file"}
        for key in (key for key in CASES if key in args.case or key[0] in args.case):
            case = CASES[key]
            logger.info("%s: %s", key, case.title)
            plans = list(_selected(case, args.state, args.contender, args.device))
            if reason := _why_not(plans):
                logger.warning("%s is skipped: %s", key, reason)
                continue
            cells = tuple(_run_cell(plan, settings, folder) for plan in plans)
            result = Result(case=key, title=case.title, machine=machine, settings=how, cells=cells)
            result.write(args.out / f"{key}-{machine['name']}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
