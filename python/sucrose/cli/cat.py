"""`sucrose cat`: one value of a checkpoint."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.cli.formatting import json_value, tell, write_json
from sucrose.errors import ConfigError, StateMismatchError
from sucrose.interchange.listing import without_torch_prefix
from sucrose.interchange.slicing import parse_slice
from sucrose.overview.text import nbytes_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sucrose.interchange.listing import Listed
    from sucrose.interchange.slicing import Index
    from sucrose.interchange.sources import Source
    from sucrose.interchange.tensor_summary import TensorSummary


def cat(
    snapshot: Annotated[str, typer.Argument(help="A snapshot, a .pt or .safetensors file, or a DCP folder.")],
    path: Annotated[
        str, typer.Argument(help="As show has it, such as model/layer.weight; a rank may stand before it.")
    ],
    index: Annotated[
        str | None, typer.Option("--slice", help="A part of the tensor, such as '0:2,:'.", metavar="INDEX")
    ] = None,
    export: Annotated[
        str | None, typer.Option(help="Write the value to a .npy, .pt or .safetensors file.", metavar="FILE")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Unpickle an object that could run code.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Shows one value: of a tensor shape, dtype, extremes, mean, NaN and first elements."""
    part = None if index is None else _parsed(index)
    from sucrose.interchange.export import SUFFIXES  # with torch
    from sucrose.interchange.export import export as write_export

    if export is not None and not export.lower().endswith(SUFFIXES):
        expected = f"expected a name that ends in one of {', '.join(SUFFIXES)}"
        raise typer.BadParameter(f"{export!r}: {expected}", param_hint="--export")
    entry, value = _value(snapshot, path, allow_pickle=allow_pickle)
    if part is not None:
        value = _sliced(value, part, path, str(index))
    content = _content(entry, value, index)
    if export is not None:
        write_export(value, entry.path, export, overwrite=overwrite)
        content["exported"] = export
    if as_json:
        write_json(content)
    else:
        for name, text in content.items():
            tell(f"{name}: {_text(name, text)}")


def _parsed(index: str) -> Index:
    try:
        return parse_slice(index)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--slice") from error


def _value(snapshot: str, path: str, *, allow_pickle: bool) -> tuple[Listed, Any]:
    from sucrose.interchange.kinds import Kind
    from sucrose.interchange.sources import open_source

    source = open_source(snapshot, allow_pickle=allow_pickle)
    entries = source.entries()
    if path not in entries:
        rank, _, logical = path.partition("/")
        if source.kind is not Kind.SNAPSHOT or not rank.isdecimal() or not logical:
            raise _not_there(source, path, entries)
        source = open_source(snapshot, allow_pickle=allow_pickle, rank=int(rank))
        entries, path = source.entries(), logical
        if path not in entries:
            raise _not_there(source, path, entries)
    [value] = source.read([path])
    return entries[path], value


def _not_there(source: Source, path: str, entries: Mapping[str, Listed]) -> StateMismatchError:
    below = [name for name in entries if name.startswith(f"{path}/")]
    near = difflib.get_close_matches(path, entries, n=3)
    if below:
        hint = f": it is a container of {len(below)} values, such as {below[0]!r}"
    else:
        hint = f"; near matches: {', '.join(map(repr, near))}" if near else ""
    return StateMismatchError(f"{source.path} has no value at {path!r}{hint}", path=source.path, key=path)


def _sliced(value: Any, part: Any, path: str, text: str) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        raise ConfigError(f"--slice is for tensors, and {path!r} is of the type {type(value).__name__}")
    try:
        return value[part]
    except (IndexError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"--slice {text!r} does not fit {path!r}, which is {list(value.shape)}: {error}") from error


def _content(entry: Listed, value: Any, index: str | None) -> dict[str, Any]:
    import torch

    from sucrose.interchange.tensor_summary import summarize
    from sucrose.interchange.value_difference import shown

    content: dict[str, Any] = {"path": entry.path, "type": entry.type}
    if index is not None:
        content["slice"] = index
    if not isinstance(value, torch.Tensor):
        if entry.type == "object":
            content["obj_type"] = f"{type(value).__module__}.{type(value).__qualname__}"
        return {**content, "value": json_value(value) if entry.type != "object" else shown(value)}
    if value.layout is not torch.strided or value.is_nested:
        return {**content, "dtype": str(value.dtype), "shape": list(value.shape), "layout": str(value.layout)}
    return {**content, **_summary(summarize(value))}


def _summary(summary: TensorSummary) -> dict[str, Any]:
    return {
        "dtype": summary.dtype,
        "shape": list(summary.shape),
        "numel": summary.numel,
        "nbytes": summary.nbytes,
        "min": json_value(summary.minimum),
        "max": json_value(summary.maximum),
        "mean": json_value(summary.mean),
        "std": json_value(summary.std),
        "n_nan": summary.n_nan,
        "n_inf": summary.n_inf,
        "n_zero": summary.n_zero,
        "first": json_value(summary.first),
    }


def _text(name: str, value: Any) -> str:
    if name == "nbytes":
        return nbytes_text(value)
    if name == "dtype":
        return without_torch_prefix(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if name == "first":
        return ", ".join(f"{part:.6g}" if isinstance(part, float) else str(part) for part in value)
    return "-" if value is None else str(value)
