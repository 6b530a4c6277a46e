"""`sucrose gc`: removes what rules do not keep, and what crashes have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.catalog.collecting import collect
from sucrose.catalog.retention import Retention
from sucrose.cli.formatting import tell, write_json
from sucrose.cli.roots import open_catalog
from sucrose.errors import ConfigError
from sucrose.overview.text import nbytes_text

if TYPE_CHECKING:
    from sucrose.catalog.collecting import CollectReport
    from sucrose.catalog.directory import CatalogDirectory


def gc(
    root: Annotated[str, typer.Argument(help="Folder of the catalog, or its URL.")],
    keep_last: Annotated[int | None, typer.Option(help="Keep the newest N.", metavar="N", min=1)] = None,
    keep_every: Annotated[
        int | None, typer.Option(help="Keep steps that are multiples of N.", metavar="N", min=1)
    ] = None,
    keep_hourly: Annotated[int | None, typer.Option(help="Keep the newest of N hours.", metavar="N", min=1)] = None,
    keep_daily: Annotated[int | None, typer.Option(help="Keep the newest of N days.", metavar="N", min=1)] = None,
    keep_best: Annotated[
        str | None, typer.Option(help="Keep the K with the lowest, or highest, value.", metavar="METRIC:K[:max]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Removes the generations that no rule keeps, and leftovers of crashes; without rules only those."""
    retention = Retention(
        keep_last=keep_last,
        keep_every=keep_every,
        keep_hourly=keep_hourly,
        keep_daily=keep_daily,
        keep_best=None if keep_best is None else _best(keep_best),
    )
    directory = open_catalog(root)
    _check_metric(directory, retention)
    report = collect(directory, retention, dry_run=dry_run)
    if as_json:
        write_json(_content(report))
    else:
        _show(report)


def _best(text: str) -> tuple[str, int, str]:
    head, _, mode = text.rpartition(":")
    if mode not in ("min", "max"):
        head, mode = text, "min"
    metric, _, count = head.rpartition(":")
    if not metric or not count.isdecimal() or int(count) < 1:
        raise typer.BadParameter(
            f"{text!r}: expected METRIC:K or METRIC:K:max, with K from 1", param_hint="--keep-best"
        )
    return metric, int(count), mode


def _check_metric(directory: CatalogDirectory, retention: Retention) -> None:
    """A name that was mistyped would keep next to nothing.

    Raises:
        ConfigError: there are generations, and none has the metric of `keep_best`.
    """
    generations = directory.listing().generations if retention.keep_best is not None else ()
    metrics = {name for generation in generations for name in generation.metrics}
    if retention.keep_best is not None and generations and retention.keep_best[0] not in metrics:
        raise ConfigError(
            f"--keep-best: no generation of {directory.root} has the metric {retention.keep_best[0]!r}, "
            f"expected one of {', '.join(map(repr, sorted(metrics))) or '(they have none)'}; nothing was removed"
        )


def _content(report: CollectReport) -> dict[str, Any]:
    return {
        "dry_run": report.dry_run,
        "removed": [
            {"step": generation.step, "name": generation.id, "nbytes": generation.nbytes}
            for generation in report.removed
        ],
        "needed": [{"step": generation.step, "name": generation.id} for generation in report.needed],
        "in_use": [{"step": generation.step, "name": generation.id} for generation in report.in_use],
        "leftovers": list(report.leftovers),
        "nbytes": report.nbytes,
        "blocked": report.blocked,
    }


def _show(report: CollectReport) -> None:
    would = "would remove" if report.dry_run else "removed"
    for generation in report.removed:
        tell(f"{would} {generation.id} ({nbytes_text(generation.nbytes)})")
    for name in report.leftovers:
        tell(f"{would} {name}, a leftover")
    for generation in report.in_use:
        tell(f"kept {generation.id}, which is in use")
    for generation in report.needed:
        tell(f"kept {generation.id}, which others need that are kept")
    if report.blocked is not None:
        tell(f"removed no generation: {report.blocked}")
    if not (report.removed or report.leftovers or report.in_use or report.needed or report.blocked):
        tell("nothing to remove")
    elif report.removed:
        tell(f"{'would free' if report.dry_run else 'freed'} {nbytes_text(report.nbytes)}")
