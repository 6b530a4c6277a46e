"""`sucrose ls`: what is in a catalog."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.cli.formatting import metric_value, nbytes_text, time_text, write_json
from sucrose.cli.roots import open_catalog

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation


def ls(
    root: Annotated[Path, typer.Argument(help="Folder of the catalog.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Lists the generations of a catalog, oldest first, and what was found broken."""
    content = _content(open_catalog(root))
    if as_json:
        write_json(content)
    else:
        _show(content)


def _content(directory: CatalogDirectory) -> dict[str, Any]:
    listing = directory.listing()
    return {
        "root": directory.root,
        "generations": [_generation(generation) for generation in listing.generations],
        "broken": [
            {"name": broken.name, "path": os.path.join(directory.root, broken.name), "reason": broken.reason}
            for broken in (*listing.broken, *listing.newer)
        ],
        "quarantined": [
            {"name": quarantined.name, "path": quarantined.path, "reason": quarantined.reason}
            for quarantined in directory.quarantined()
        ],
        "leftovers": [{"name": name, "in_use": not directory.is_abandoned(name)} for name in directory.leftovers()],
        "foreign": [{"name": foreign.name, "reason": foreign.reason} for foreign in listing.foreign],
    }


def _generation(generation: Generation) -> dict[str, Any]:
    return {
        "step": generation.step,
        "name": generation.id,
        "path": generation.path,
        "state": "complete",
        "committed": time_text(generation.committed_ns),
        "committed_ns": generation.committed_ns,
        "nbytes": generation.nbytes,
        "metrics": {name: metric_value(value) for name, value in generation.metrics.items()},
        "pinned": generation.pinned,
        "timeline": generation.timeline,
        "durable": generation.durable,
    }


def _show(content: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    # Whoever reads a pipe wants whole lines, however long.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 10_000)
    table = Table("step", "committed", "size", "metrics", "state", "name", box=None, pad_edge=False)
    table.columns[0].justify = table.columns[2].justify = "right"
    for generation in content["generations"]:
        metrics = " ".join(f"{name}={float(value):.6g}" for name, value in generation["metrics"].items())
        table.add_row(
            str(generation["step"]),
            generation["committed"],
            nbytes_text(generation["nbytes"]),
            escape(metrics),
            "pinned" if generation["pinned"] else generation["state"],
            generation["name"],
        )
    if content["generations"]:
        console.print(table)
    else:
        console.print("no generations")
    for kind in ("broken", "quarantined", "foreign"):
        for entry in content[kind]:
            console.print(escape(f"{kind}: {entry['name']}: {entry['reason']}"))
    for leftover in content["leftovers"]:
        what = "in use" if leftover["in_use"] else "leftover"
        console.print(escape(f"{what}: {leftover['name']}"))
