"""`sucrose env`: what to know about a machine, for a look and for a report of an error."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sucrose.cli.formatting import tell, write_json
from sucrose.overview.environment import environment
from sucrose.overview.text import nbytes_text
from sucrose.storage import local_path


def env(
    path: Annotated[str, typer.Argument(help="Where checkpoints go: its file system is looked at.")] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Shows versions, the build, the I/O backend, options in force, file system and memory. Secrets are not shown."""
    topics = environment(local_path(path))
    if as_json:
        write_json(topics)
        return
    for topic, found in topics.items():
        tell(f"{topic}:")
        facts = _options(found) if topic == "options" and "problem" not in found else found
        width = max(map(len, facts), default=0)
        for name, value in facts.items():
            tell(f"  {name.ljust(width)}  {_text(name, value)}".rstrip())
        if not facts:
            tell("  none")


def _options(facts: dict[str, Any]) -> dict[str, str]:
    told = {}
    for name, fact in facts.items():
        origin = f"set by {fact['variable']}" if fact["is_set"] else "default" if fact["is_default"] else "set"
        told[name] = f"{_text(name, fact['value']) or '(empty)'}  [{origin}]"
    return told


def _text(name: str, value: Any) -> str:
    if value is None:
        return "unlimited" if name.startswith("limit_") else "unknown" if name.endswith("nbytes") else "none"
    if name.endswith("nbytes") and type(value) is int:
        return nbytes_text(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {part}" for key, part in value.items()) or "none"
    return str(value)
