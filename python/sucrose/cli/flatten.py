"""`sucrose flatten`: a snapshot that needs no other one any more."""

from __future__ import annotations

from typing import Annotated

import typer

from sucrose.cli.formatting import tell, write_json
from sucrose.interchange.kinds import check_snapshot
from sucrose.interchange.snapshot_listing import list_snapshot
from sucrose.overview.text import nbytes_text
from sucrose.storage import location_of


def flatten(
    snapshot: Annotated[str, typer.Argument(help="A snapshot that was taken with a base.")],
    target: Annotated[str | None, typer.Argument(help="Where to write it; else it takes the old one's place.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Makes a snapshot whole: what it refers to in others is copied into it."""
    check_snapshot(snapshot)
    before = list_snapshot(snapshot)
    from sucrose.snapshot.snapshot import Snapshot  # with torch

    Snapshot(snapshot).flatten(target)
    path = location_of(snapshot if target is None else target)
    after = list_snapshot(path)
    bases = before.base_paths
    if as_json:
        write_json({"path": after.path, "nbytes": after.nbytes_on_disk, "copied_from": list(bases)})
    else:
        others = f"{len(bases)} {'snapshot' if len(bases) == 1 else 'snapshots'}"
        told = f"no longer needs {others}" if bases else "had no base"
        tell(f"{after.path}: {nbytes_text(after.nbytes_on_disk)}, {told}")
