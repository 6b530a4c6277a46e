"""Writes plots and the tables of the README from the JSON: ``python -m benchmarks.report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.plots import plot
from benchmarks.records import Result
from benchmarks.tables import case_tables, goals_table, notes, summary_table

_HERE = Path(__file__).parent
_FRONT = _HERE.parent / "README.md"


def load(folder: Path) -> dict[str, dict[str, Result]]:
    """All results below `folder`, by machine and case, in the order of the cases."""
    found: dict[str, dict[str, Result]] = {}
    for result in map(Result.read, sorted(folder.glob("*.json"))):
        found.setdefault(result.machine["name"], {})[result.case] = result
    return {name: dict(sorted(cases.items(), key=_place)) for name, cases in found.items()}


def _place(case: tuple[str, Result]) -> int:
    """Those that have a command of their own come last."""
    return list(CASES).index(case[0]) if case[0] in CASES else len(CASES)


def render(results: dict[str, dict[str, Result]], folder: Path, relative_to: Path) -> str:
    """The Markdown for all machines; draws the plots into `folder`."""
    parts = []
    for machine, cases in results.items():
        parts += [f"### {machine}", _description(next(iter(cases.values()))), goals_table(cases)]
        for case, result in cases.items():
            parts.append(f"#### {case} · {result.title}")
            picture = folder / f"{case}-{machine}.png"
            if plot(result, picture):
                parts.append(f"![{result.title}]({picture.relative_to(relative_to)})")
            parts += case_tables(result)
        parts += ["#### Contenders", notes(cases.values())]
    return "\n\n".join(parts)


def _description(result: Result) -> str:
    machine, settings = result.machine, result.settings
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    text = (
        f"{machine['cpu']}, {machine['cores']} cores{gpu}, {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
        f"{machine['file_system']} ({machine['mount_options']}) on {machine['storage']}; "
        f"Python {machine['python']}, {versions}. "
        f"Median (least–most) of {settings['runs']} runs; cold means {settings['cache_drop']}."
    )
    if settings["scale"] != 1:
        text += f" **A try-out at scale {settings['scale']:g}: these figures mean nothing.**"
    return text


def summarize(results: dict[str, dict[str, Result]], folder: Path, relative_to: Path) -> str:
    """The Markdown of the project's front page: the first machine's plot of saves, and its figures."""
    machine, cases = next(iter(results.items()))
    picture = (folder / f"P1-{machine}.png").relative_to(relative_to)
    return f"![Durable saves beside the peers and the raw limit]({picture})\n\n{summary_table(cases)}"


def insert(readme: Path, marker: str, text: str) -> None:
    """Replaces what stands between the two comments with `marker` in `readme`."""
    begin, end = f"<!-- {marker}: begin -->", f"<!-- {marker}: end -->"
    head, _, rest = readme.read_text(encoding="utf-8").partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"{readme} lacks the line '{begin}' or '{end}' after it")
    readme.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")


def main() -> int:
    """Renders one folder of results into one README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=_HERE / "results", help="folder with the JSON; plots go there")
    parser.add_argument("--readme", type=Path, default=_HERE / "README.md", help="file with the markers")
    args = parser.parse_args()
    results = load(args.results)
    if not results:
        parser.error(f"no results in {args.results}; run python -m benchmarks first")
    insert(args.readme, "results", render(results, args.results, args.readme.parent))
    if args.readme.parent == _HERE:
        insert(_FRONT, "summary", summarize(results, args.results.resolve(), _FRONT.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
