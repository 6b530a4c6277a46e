"""Markdown tables of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contenders import Role
from benchmarks.goals import verdicts
from benchmarks.records import Operation
from benchmarks.timing import Spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from benchmarks.goals import Verdict
    from benchmarks.records import Cell, Line, Result

_HOW = {
    Operation.SAVE: "GB/s, fsync of files and folders inside every figure",
    Operation.SAVE_TMPFS: "GB/s, files in a tmpfs",
    Operation.DEVICE_TO_HOST: "GB/s, written to a file in a tmpfs",
    Operation.HOST_TO_DEVICE: "GB/s, read from a file in a tmpfs",
    Operation.PUT: "GB/s, to an S3 server on this machine",
    Operation.GET: "GB/s, from an S3 server on this machine, whose page cache is hot",
    Operation.STALL: "ms until the call has returned and the state may be changed",
    Operation.LOOP: "% that a step takes longer while the save is in the background",
    Operation.LOAD_HOT: "GB/s",
    Operation.LOAD_COLD: "GB/s, page cache dropped before every load",
    Operation.PEAK_SAVE: "MiB above what was resident before, in a fresh process",
    Operation.PEAK_LOAD: "MiB above what was resident before, in a fresh process; mapped files count",
    Operation.IMPORT: "ms on top of `import torch`, in a fresh process",
    Operation.SAVE_CPU: "GB/s of one core: the state over the processor time of all threads, fsync included",
    Operation.LOAD_CPU: "GB/s of one core, page cache hot",
    Operation.STORED_SIZE: "% of the state",
    Operation.PLAN_RANK: "ms after the capture: shares, places in files, entries, and the part encoded",
    Operation.PLAN_MERGE: "ms: parts decoded, merged and checked, manifest and index encoded",
    Operation.PLAN_SENT: "MiB",
    Operation.PLAN_RECEIVED: "MiB, of all ranks",
    Operation.PLAN_STORED: "MiB",
    Operation.PLAN_PEAK: "MiB above the parts as they arrive",
    Operation.FIRST_SAVE: "time of the first save of a process ÷ median of its later ones",
}
_SAMPLE_FACTORS = {"B": 1 / (1 << 20), "s": 1000.0, "": 1.0, "%": 1.0}
_MANY_TENSORS = 1000
_SUMMARY = {
    "durable save, 1 GiB fp32": ("P1", Operation.SAVE, "large"),
    "1 GiB bf16": ("P1", Operation.SAVE, "bf16"),
    "10,000 small tensors": ("P4", Operation.SAVE, "small"),
    "load, cached, 1 GiB fp32": ("P2", Operation.LOAD_HOT, "large"),
    "10,000 small tensors, cached": ("P4", Operation.LOAD_HOT, "small"),
    "load, uncached, 1 GiB fp32": ("P3", Operation.LOAD_COLD, "large"),
}


def goals_table(results: Mapping[str, Result]) -> str:
    """Every goal with what was measured."""
    rows = [
        (verdict.goal.case, verdict.goal.operation.value, verdict.state, str(verdict.goal), *_outcome(verdict))
        for verdict in verdicts(results)
    ]
    return _table(("#", "what", "state", "goal", "measured", ""), rows)


def summary_table(results: Mapping[str, Result]) -> str:
    """The figures that decide, contenders below each other: GB/s, medians."""
    found = {(case, cell.operation, cell.state): cell for case, result in results.items() for cell in result.cells}
    chosen = {title: found[key] for title, key in _SUMMARY.items() if key in found}
    lines = [line for cell in chosen.values() for line in cell.measured(Role.OURS, Role.PEER)]
    names = dict.fromkeys(line.name for line in sorted(lines, key=lambda line: line.role is not Role.OURS))
    rows = [(name, *(_median(cell, cell.line(name)) for cell in chosen.values())) for name in names]
    rows.append(("**raw limit**", *(_limit_median(cell) for cell in chosen.values())))
    return _table(("GB/s", *chosen), rows)


def case_tables(result: Result) -> Iterator[str]:
    """One table per operation of a case, its states side by side, each with a heading of its own."""
    for operation in dict.fromkeys(cell.operation for cell in result.cells):
        cells = [cell for cell in result.cells if cell.operation is operation]
        names = dict.fromkeys(line.name for cell in cells for line in cell.lines)
        rows = [(name, *(_entry(cell, cell.line(name)) for cell in cells), _equality(cells, name)) for name in names]
        if operation.is_rate and any(cell.limit_s() for cell in cells):
            rows.append(("**raw limit** (best of each round)", *map(_limit, cells), ""))
        heading = f"*{operation.value.capitalize()}*: {_HOW[operation]}"
        states = (f"`{cell.state}`" if cell.nbytes else "" for cell in cells)
        yield f"{heading}\n\n{_table(('', *states, 'bit-equal'), rows)}"


def notes(results: Iterable[Result]) -> str:
    """What the contenders do exactly, their versions, and why some have no figures."""
    lines = [line for result in results for cell in result.cells for line in cell.lines]
    said = {line.name: (line.version, line.note) for line in lines if line.role is not Role.LIMIT and not line.missing}
    known = [f"- {name} {version}: {note}." for name, (version, note) in said.items()]
    missing = dict.fromkeys(f"- {line.name} is missing where {line.missing}." for line in lines if line.missing)
    return "\n".join([*known, *missing])


def figure(cell: Cell, line: Line) -> Spread:
    """What a table or a plot shows of a measured line: GB/s, MiB, ms, percent or a ratio."""
    if cell.operation.is_rate:
        return cell.gbps(line)
    factor = _SAMPLE_FACTORS[cell.operation.unit]
    return Spread.of(sample * factor for sample in line.samples)


def unit(operation: Operation) -> str:
    """The unit of `figure`."""
    return "GB/s" if operation.is_rate else {"B": "MiB", "s": "ms", "": "ratio", "%": "%"}[operation.unit]


def number(value: float) -> str:
    """Three digits or so, never in scientific notation."""
    digits = next((digits for bound, digits in ((100, 0), (10, 1), (0.1, 2), (0.01, 3)) if abs(value) >= bound), 4)
    return f"{value:.{digits}f}"


def _median(cell: Cell, line: Line) -> str:
    if line.missing or not line.samples:
        return "—"
    text = number(cell.gbps(line).median)
    return f"**{text}**" if line.role is Role.OURS else text


def _limit_median(cell: Cell) -> str:
    limit = cell.limit_s()
    return number(Spread.of(cell.nbytes / seconds / 1e9 for seconds in limit).median) if limit else "—"


def _entry(cell: Cell, line: Line) -> str:
    if line.missing:
        return "—"
    parts = [_spread(figure(cell, line)), *_background(cell, line)]
    if cell.operation.is_rate and line.role is not Role.LIMIT:
        if of_limit := cell.of_limit(line):
            parts.append(f"{of_limit.median:.2f} of the limit")
        if cell.n_tensors >= _MANY_TENSORS:
            parts.append(f"{number(cell.us_per_tensor(line).median)} µs per tensor")
        if cell.operation.is_save and line.first:
            parts.append(f"first {number(cell.nbytes / line.first / 1e9)}")
        if line.rank_nbytes:
            least, most = (number(pick(line.rank_nbytes) / 1e6) for pick in (min, max))
            parts.append(f"{least}–{most} MB per rank, {cell.rank_total_percent(line):.2f} % of one copy")
    text = " · ".join(parts)
    return f"**{text}**" if line.role is Role.OURS else text


def _background(cell: Cell, line: Line) -> list[str]:
    """What else is known of a save in the background."""
    parts = []
    if cell.operation is Operation.STALL and line.role is not Role.LIMIT:
        if times := cell.times_limit(line):
            parts.append(f"{number(times.median)} × the copy")
        parts.append(f"first {number((line.first or 0) * 1000)}")
    if line.loops:
        stall = Spread.of(loop.stall_s * 1000 for loop in line.later_loops())
        step = Spread.of(loop.undisturbed_s * 1000 for loop in line.later_loops())
        parts += [f"stall {number(stall.median)} ms", f"step {number(step.median)} ms"]
    if line.durable_s and line.role is not Role.LIMIT:
        parts.append(f"durable after {number(Spread.of(line.durable_s).median)} s")
    return parts


def _limit(cell: Cell) -> str:
    limit = cell.limit_s()
    return _spread(Spread.of(cell.nbytes / seconds / 1e9 for seconds in limit)) if limit else "—"


def _equality(cells: Sequence[Cell], name: str) -> str:
    found = {cell.line(name).equal for cell in cells} - {None}
    return "" if not found else "yes" if found == {True} else "**NO**"


def _outcome(verdict: Verdict) -> tuple[str, str]:
    if verdict.found is None:
        return "", "not measured"
    return _spread(verdict.found), "met" if verdict.goal.is_met(verdict.found.median) else "**missed**"


def _spread(spread: Spread) -> str:
    return f"{number(spread.median)} ({number(spread.min)}–{number(spread.max)})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
