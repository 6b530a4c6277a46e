"""`sucrose diff`: what two checkpoints differ in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.cli.formatting import metric_value, show_table, tell, write_json
from sucrose.cli.tree_lines import shape_text
from sucrose.interchange.listing import without_torch_prefix

if TYPE_CHECKING:
    from sucrose.interchange.differences import Change, Comparison
    from sucrose.interchange.listing import Listed

_HEAD = ("", "name", "before", "after", "differ", "max abs", "max rel", "NaN")
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_TO_THE_RIGHT = ("differ", "max abs", "max rel", "NaN")
_STATUS_TROUBLE = 2


def diff(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="A snapshot, a .pt or .safetensors file, or a DCP folder.")],
    b: Annotated[str, typer.Argument(help="Another one, of the same kind or of another.")],
    key: Annotated[
        str | None, typer.Option(help="Only what is below this key, of those that have it.", metavar="NAME")
    ] = None,
    atol: Annotated[float, typer.Option(help="Distance between elements that does not count.", min=0.0)] = 0.0,
    rtol: Annotated[float, typer.Option(help="The same, relative to the larger one.", min=0.0)] = 0.0,
    rank: Annotated[int, typer.Option(help="Whose values, of snapshots of several ranks.", min=0)] = 0,
    allow_pickle: Annotated[bool, typer.Option("--allow-pickle", help="Unpickle objects that could run code.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compares values bit for bit. Status 0: the same; 1: different; 2: trouble."""
    context.obj.error_status = _STATUS_TROUBLE
    from sucrose.interchange.differences import compare  # with torch
    from sucrose.interchange.sources import open_source

    sources = [open_source(path, allow_pickle=allow_pickle, rank=rank) for path in (a, b)]
    comparison = compare(*sources, key=key, atol=atol, rtol=rtol)
    if as_json:
        changes = [_content(change) for change in comparison.changes]
        write_json(
            {
                "a": sources[0].path,
                "b": sources[1].path,
                "n_same": comparison.n_same,
                "same": not changes,
                "changes": changes,
            }
        )
    else:
        _show(comparison)
    raise typer.Exit(1 if comparison.changes else 0)


def _content(change: Change) -> dict[str, Any]:
    content: dict[str, Any] = {
        "path": change.path,
        "change": change.kind,
        "before": _side(change.before, change.was),
        "after": _side(change.after, change.now),
        "difference": None,
    }
    difference = change.difference
    if difference is not None:
        content["difference"] = {
            "n_different": difference.n_different,
            "max_abs": metric_value(difference.max_abs),
            "max_relative": metric_value(difference.max_relative),
            "n_nan": difference.n_nan,
        }
    return content


def _side(entry: Listed | None, word: str) -> dict[str, Any] | None:
    if entry is None:
        return None
    if entry.shape is not None:
        return {"type": entry.type, "dtype": entry.dtype, "shape": list(entry.shape)}
    return {"type": entry.type, "value": word or shape_text(entry)}


def _show(comparison: Comparison) -> None:
    rows = [_row(change) for change in comparison.changes]
    if rows:
        columns = [number for number, cells in enumerate(zip(*rows, strict=True)) if any(cells)]
        show_table([[row[number] for number in columns] for row in (_HEAD, *rows)], to_the_right=_TO_THE_RIGHT)
    counts = [
        f"{sum(change.kind == kind for change in comparison.changes)} {kind}"
        for kind in ("added", "removed", "changed")
    ]
    tell(f"{', '.join(counts)}, {comparison.n_same} the same")


def _row(change: Change) -> tuple[str, ...]:
    difference = change.difference
    numbers = ("", "", "", "")
    if difference is not None:
        part = f"{difference.n_different} of {change.before.numel if change.before is not None else 0}"
        numbers = (part, _number(difference.max_abs), f"{difference.max_relative:.3g}", str(difference.n_nan or ""))
    before = _cell(change.before, change.was)
    return (_SIGNS[change.kind], change.path, before, _cell(change.after, change.now), *numbers)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _cell(entry: Listed | None, word: str) -> str:
    if entry is None:
        return ""
    if entry.dtype is not None:
        return f"{without_torch_prefix(entry.dtype)} {shape_text(entry)}"
    return word or shape_text(entry)
