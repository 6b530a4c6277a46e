"""`sucrose sign`: vouches for snapshots as they are."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from sucrose.cli.formatting import tell, write_json
from sucrose.errors import ConfigError
from sucrose.formats.signing_keys import SIGNING_KEY, signing_keys_of
from sucrose.interchange.kinds import check_snapshot
from sucrose.storage import location_of


def sign(
    snapshots: Annotated[list[str], typer.Argument(metavar="SNAPSHOT...", help="Those that you trust as they are.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Signs snapshots with the key in SUCROSE_SIGNING_KEY, after reading everything and comparing every digest."""
    if signing_keys_of(os.environ) is None:
        raise ConfigError(f"there is no key to sign with: set {SIGNING_KEY}")
    from sucrose.snapshot.snapshot import Snapshot  # with torch

    signed = []
    for snapshot in snapshots:
        path = location_of(snapshot)
        check_snapshot(path)
        Snapshot(snapshot).sign()
        signed.append(path)
        if not as_json:
            tell(f"{path}: signed")
    if as_json:
        write_json({"signed": signed})
