"""`sucrose convert`: from one kind of checkpoint to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.cli.formatting import tell, write_json
from sucrose.compression import Compression
from sucrose.errors import ConfigError
from sucrose.interchange.kinds import Kind, target_kind
from sucrose.overview.text import nbytes_text
from sucrose.storage import is_url

if TYPE_CHECKING:
    from sucrose.interchange.conversion import ConvertReport


def convert(
    source: Annotated[str, typer.Argument(help="A snapshot, a .safetensors or .pt file, or a DCP folder.")],
    target: Annotated[str, typer.Argument(help="What to write; the suffix says the kind, no suffix is a snapshot.")],
    to: Annotated[
        str | None,
        typer.Option(help="snapshot, safetensors, torch or dcp, where the suffix does not say.", metavar="KIND"),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Of a snapshot only this stateful; or what to call it in one.", metavar="NAME")
    ] = None,
    flat_separator: Annotated[
        str, typer.Option(help="Between keys in the names of .safetensors files.", metavar="TEXT")
    ] = "/",
    compression: Annotated[
        str | None, typer.Option(help="Of a snapshot: zstd, zstd:LEVEL or auto.", metavar="HOW")
    ] = None,
    rank: Annotated[int, typer.Option(help="Whose values, of a snapshot of several ranks.", min=0)] = 0,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Unpickle objects of the source that could run code.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a checkpoint at the target.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Converts between snapshots, .safetensors, .pt and torch.distributed.checkpoint, bit for bit."""
    _check_usage(target, to, flat_separator, compression)
    from sucrose.interchange.conversion import convert as convert_checkpoint  # with torch

    report = convert_checkpoint(
        source,
        target,
        to=to,
        key=key,
        flat_separator=flat_separator,
        compression=compression,
        allow_pickle=allow_pickle,
        overwrite=overwrite,
        rank=rank,
    )
    if as_json:
        write_json(_content(report))
    else:
        count = f"{report.tensors} {'tensor' if report.tensors == 1 else 'tensors'}"
        tell(f"{report.target}: {report.target_kind.words}, {count}, {nbytes_text(report.nbytes)}")
        for note in report.notes:
            tell(f"note: {note}")


def _check_usage(target: str, to: str | None, flat_separator: str, compression: str | None) -> None:
    """Refuses what is wrong whatever the source is.

    Raises:
        BadParameter: something is.
    """
    if is_url(target):
        raise typer.BadParameter(f"{target!r}: conversions are written to paths of this machine", param_hint="TARGET")
    try:
        kind = target_kind(target, to)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--to") from error
    if not flat_separator:
        raise typer.BadParameter("it is empty: names could not be told apart", param_hint="--flat-separator")
    if compression is None:
        return
    try:
        Compression.parse(compression)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--compression") from error
    if kind is not Kind.SNAPSHOT:
        raise typer.BadParameter(
            f"only snapshots are compressed, and the target is {kind.words}", param_hint="--compression"
        )


def _content(report: ConvertReport) -> dict[str, Any]:
    return {
        "source": report.source,
        "source_kind": report.source_kind.value,
        "target": report.target,
        "target_kind": report.target_kind.value,
        "tensors": report.tensors,
        "nbytes": report.nbytes,
        "notes": list(report.notes),
    }
