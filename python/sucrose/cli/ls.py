"""`sucrose ls`: what is in a catalog."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.catalog.checked_listing import checked_listing
from sucrose.catalog.references import dependents_of
from sucrose.cli.formatting import metric_value, metrics_text, show_table, tell, time_text, write_json
from sucrose.cli.other_snapshots import count_other_snapshots, is_snapshot
from sucrose.cli.roots import open_catalog
from sucrose.overview.text import nbytes_text

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation

_HEAD = ("step", "committed", "size", "state", "name", "needs", "metrics")
_TO_THE_RIGHT = ("step", "size")


def ls(
    root: Annotated[str, typer.Argument(help="Folder of the catalog, or its URL.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Lists the generations of a catalog, oldest first, and what is broken, as far as sizes and small files tell."""
    content = _content(open_catalog(root))
    if as_json:
        write_json(content)
    else:
        _show(content)


def _content(directory: CatalogDirectory) -> dict[str, Any]:
    listing = checked_listing(directory)
    ours = {generation.id for generation in listing.generations}
    needed_by = dependents_of(listing.generations)
    ours.update(unusable.name for unusable in (*listing.broken, *listing.newer))
    return {
        "root": directory.root,
        "generations": [_generation(generation, needed_by[generation.id]) for generation in listing.generations],
        "broken": [
            {"name": broken.name, "path": directory.path_of(broken.name), "reason": broken.reason}
            for broken in (*listing.broken, *listing.newer)
        ],
        "quarantined": [
            {"name": quarantined.name, "path": quarantined.path, "reason": quarantined.reason}
            for quarantined in directory.quarantined()
        ],
        "leftovers": [{"name": name, "in_use": not directory.is_abandoned(name)} for name in directory.leftovers()],
        "foreign": [{"name": foreign.name, "reason": foreign.reason} for foreign in listing.foreign],
        "other_snapshots": count_other_snapshots(directory.root, ours),
        "is_snapshot": is_snapshot(directory.root),
    }


def _generation(generation: Generation, needed_by: list[str]) -> dict[str, Any]:
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
        "bases": list(generation.bases),
        "needed_by": needed_by,
    }


def _show(content: dict[str, Any]) -> None:
    rows = [_row(generation) for generation in content["generations"]]
    if rows:
        has_bases = any(generation["bases"] for generation in content["generations"])
        shown = [name != "needs" or has_bases for name in _HEAD]
        show_table([[*compress(row, shown)] for row in (_HEAD, *rows)], to_the_right=_TO_THE_RIGHT)
    else:
        tell("no generations")
    others = content["other_snapshots"]
    if others:
        tell(f"{others} {'snapshot' if others == 1 else 'snapshots'} here that no catalog wrote")
    if content["is_snapshot"]:
        tell(f"this folder is a snapshot itself: 'sucrose show {content['root']}' tells what is in it")
    for kind in ("broken", "quarantined", "foreign"):
        for entry in content[kind]:
            tell(f"{kind}: {entry['name']}: {entry['reason']}")
    for leftover in content["leftovers"]:
        tell(f"{'in use' if leftover['in_use'] else 'leftover'}: {leftover['name']}")


def _row(generation: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(generation["step"]),
        generation["committed"],
        nbytes_text(generation["nbytes"]),
        "pinned" if generation["pinned"] else generation["state"],
        generation["name"],
        " ".join(generation["bases"]),
        metrics_text(generation["metrics"]),
    )
