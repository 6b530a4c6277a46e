"""`sucrose show`: what is in a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.cli.formatting import json_value, show_table, tell, write_json
from sucrose.cli.tree_lines import SORTS, tree_of, tree_rows
from sucrose.interchange.kinds import Kind, recognize
from sucrose.interchange.listing import without_torch_prefix
from sucrose.interchange.safetensors_listing import list_safetensors
from sucrose.interchange.snapshot_listing import list_snapshot
from sucrose.overview.text import nbytes_text
from sucrose.storage import location_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sucrose.interchange.listing import Listed

_HEAD = ("name", "dtype", "shape", "size")
_SPREAD = ("DTensor", "ShardedTensor")
_TOTALS_HEAD = ("dtype", "tensors", "elements", "size")


def show(
    snapshot: Annotated[str, typer.Argument(help="A snapshot, a .safetensors or .pt file, or a DCP folder.")],
    sort: Annotated[str | None, typer.Option(help="size (largest first), name or dtype.", metavar="KEY")] = None,
    depth: Annotated[int | None, typer.Option(help="Show N levels, and sums below.", metavar="N", min=1)] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Of a .pt file: unpickle what could run code.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Shows the entries of a checkpoint as a tree: shapes, dtypes, sizes, totals, and what it depends on."""
    if sort is not None and sort not in SORTS:
        raise typer.BadParameter(f"{sort!r}: expected one of {', '.join(SORTS)}", param_hint="--sort")
    path = location_of(snapshot)
    kind = recognize(path)
    about: dict[str, Any] = {"path": path, "kind": kind.value}
    if kind is Kind.SNAPSHOT:
        entries = _about_snapshot(path, about)
    elif kind is Kind.SAFETENSORS:
        entries = list(list_safetensors(path)[0].values())
    else:
        from sucrose.interchange.sources import open_source  # with torch: only unpickling tells what is in there

        entries = list(open_source(path, allow_pickle=allow_pickle).entries().values())
    about["totals"] = _totals(entries)
    if as_json:
        write_json({**about, "entries": [_content(entry) for entry in entries]})
    else:
        _show(about, entries, sort, depth)


def _about_snapshot(path: str, about: dict[str, Any]) -> Sequence[Listed]:
    listing = list_snapshot(path)
    index = listing.index
    about.update(
        world_size=listing.metadata.world_size,
        format_version=None if index is None else index.format_version,
        writer=None if index is None else index.writer,
        digest=None if index is None else index.digest,
        nbytes=listing.nbytes,
        nbytes_on_disk=listing.nbytes_on_disk,
        nbytes_in_bases=listing.nbytes_in_bases,
        compression_ratio=listing.nbytes / listing.nbytes_on_disk if listing.nbytes_on_disk else 1.0,
        bases=list(listing.base_paths),
    )
    return listing.entries


def _totals(entries: Sequence[Listed]) -> list[dict[str, Any]]:
    """By dtype, the largest first; bytes of tied tensors count once, and one that is spread over ranks is one."""
    totals: dict[str, dict[str, Any]] = {}
    seen: set[object] = set()
    spread: set[str] = set()
    for entry in entries:
        if entry.dtype is None or entry.shape is None:
            continue
        if entry.type in _SPREAD:
            if entry.path in spread:
                continue
            spread.add(entry.path)
        total = totals.setdefault(entry.dtype, {"dtype": entry.dtype, "tensors": 0, "numel": 0, "nbytes": 0, "tied": 0})
        total["tensors"] += 1
        is_tied = entry.place is not None and (entry.place, entry.nbytes) in seen and bool(entry.nbytes)
        seen.add((entry.place, entry.nbytes))
        total["tied"] += is_tied
        if not is_tied:
            total["numel"] += entry.numel
            total["nbytes"] += entry.nbytes or 0
    return sorted(totals.values(), key=lambda total: (-total["nbytes"], total["dtype"]))


def _content(entry: Listed) -> dict[str, Any]:
    content: dict[str, Any] = {"path": entry.path, "rank": entry.rank, "type": entry.type, "nbytes": entry.nbytes}
    if entry.same_as is not None:
        content.update(same_as=entry.same_as)
    if entry.is_tensor:
        content.update(dtype=entry.dtype, shape=list(entry.shape or ()))
    elif entry.type == "object":
        content.update(obj_type=entry.detail)
    elif entry.value is not None:
        content.update(value=json_value(entry.value))
    return {**content, "files": list(entry.files)}


def _show(about: dict[str, Any], entries: Sequence[Listed], sort: str | None, depth: int | None) -> None:
    world_size = about.get("world_size", 1)
    rows = tree_rows(tree_of(entries, with_ranks=world_size > 1), sort=sort, depth=depth)
    if rows:
        show_table([_HEAD, *rows], to_the_right=("size",))
    else:
        tell("nothing is in it")
    totals = about["totals"]
    if totals:
        tell("")
        cells = [
            (
                without_torch_prefix(total["dtype"]),
                str(total["tensors"]),
                str(total["numel"]),
                nbytes_text(total["nbytes"]),
            )
            for total in totals
        ]
        show_table([_TOTALS_HEAD, *cells], to_the_right=_TOTALS_HEAD[1:])
        tied = sum(total["tied"] for total in totals)
        if tied:
            tell(
                f"{tied} of these {'is' if tied == 1 else 'are'} tied to others, and counted once in elements and size"
            )
    if about["kind"] == Kind.SNAPSHOT.value:
        tell("")
        _show_snapshot(about)


def _show_snapshot(about: dict[str, Any]) -> None:
    ranks = about["world_size"]
    version = about["format_version"]
    written = (
        f"format {version}, by {about['writer']}" if version is not None else "written by torchsnapshot, no digests"
    )
    tell(f"{ranks} {'rank' if ranks == 1 else 'ranks'}, {written}")
    on_disk = nbytes_text(about["nbytes_on_disk"])
    if about["nbytes"] != about["nbytes_on_disk"]:
        tell(
            f"{on_disk} on the disk for {nbytes_text(about['nbytes'])}: compressed by {about['compression_ratio']:.3g}"
        )
    else:
        tell(f"{on_disk} on the disk, not compressed")
    for base in about["bases"]:
        tell(f"needs {base}")
    if about["bases"]:
        tell(f"{nbytes_text(about['nbytes_in_bases'])} of that belong to the snapshots that it needs")
