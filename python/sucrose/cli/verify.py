"""`sucrose verify`: whether checkpoints are what was saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.cli.formatting import tell, write_json
from sucrose.cli.verify_progress import shown_progress
from sucrose.interchange.verification import SOUND, UNKNOWN, verify_path
from sucrose.overview.text import nbytes_text

if TYPE_CHECKING:
    from sucrose.interchange.verification import Damage, Verdict

_SHOWN_KEYS = 5
_STATUS_REFUSED, _STATUS_UNKNOWN = 1, 2


def verify(
    context: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Snapshots, catalogs' folders, .pt or .safetensors files.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Reads everything and compares every digest.

    Status 0: all sound; 1: damage, or a signature is missing that is demanded; 2: something is no checkpoint.
    """
    context.obj.error_status = _STATUS_UNKNOWN
    with shown_progress() as watcher:
        verdicts = []
        for path in paths:
            for verdict in verify_path(path, watcher):
                verdicts.append(verdict)
                if not as_json:
                    _show(verdict)
    if as_json:
        write_json(
            {"sound": all(verdict.status == SOUND for verdict in verdicts), "checked": [*map(_content, verdicts)]}
        )
    statuses = {verdict.status for verdict in verdicts}
    raise typer.Exit(_STATUS_REFUSED if statuses - {SOUND, UNKNOWN} else _STATUS_UNKNOWN if UNKNOWN in statuses else 0)


def _content(verdict: Verdict) -> dict[str, Any]:
    return {
        "path": verdict.path,
        "kind": None if verdict.kind is None else verdict.kind.value,
        "status": verdict.status,
        "signature": None if verdict.signature is None else verdict.signature.value,
        "nbytes": verdict.nbytes,
        "remark": verdict.remark,
        "damage": [
            {"file": damage.file, "offset": damage.offset, "keys": list(damage.keys), "message": damage.message}
            for damage in verdict.damage
        ],
    }


def _show(verdict: Verdict) -> None:
    size = f", {nbytes_text(verdict.nbytes)}" if verdict.nbytes else ""
    remark = f" ({verdict.remark})" if verdict.remark else ""
    tell(f"{verdict.path}: {verdict.status}{size}{remark}")
    for damage in verdict.damage:
        tell(f"  {damage.message}{_values(damage)}")


def _values(damage: Damage) -> str:
    if not damage.keys:
        return ""
    names = ", ".join(map(repr, damage.keys[:_SHOWN_KEYS]))
    more = len(damage.keys) - _SHOWN_KEYS
    return f"; it has {names}{f' and {more} more' if more > 0 else ''}"
