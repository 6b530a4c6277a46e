"""Which commands there are.

The module of each is imported when it is run or its help is asked for: most need much that the others do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}


class _Place(NamedTuple):
    module: str
    function: str
    command_class: str = ""


COMMANDS = {
    "ls": _Place("sucrose.cli.ls", "ls"),
    "gc": _Place("sucrose.cli.gc", "gc"),
    "show": _Place("sucrose.cli.show", "show"),
    "verify": _Place("sucrose.cli.verify", "verify"),
    "diff": _Place("sucrose.cli.diff", "diff"),
    "cat": _Place("sucrose.cli.cat", "cat"),
    "convert": _Place("sucrose.cli.convert", "convert"),
    "flatten": _Place("sucrose.cli.flatten", "flatten"),
    "sign": _Place("sucrose.cli.sign", "sign"),
    "upload": _Place("sucrose.cli.upload", "upload"),
    "env": _Place("sucrose.cli.env", "env"),
    "plot": _Place("sucrose.cli.plot", "plot"),
    "report": _Place("sucrose.cli.report", "report"),
    "run": _Place("sucrose.cli.run", "run", "RunCommand"),
    "explain": _Place("sucrose.cli.explain", "explain"),
    "runs": _Place("sucrose.cli.runs", "runs"),
    "compare": _Place("sucrose.cli.compare", "compare"),
}


class Commands(TyperGroup):
    """The commands, made when they are asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": dict.fromkeys(COMMANDS)})

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the interface
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the interface
        if cmd_name not in COMMANDS:
            return None
        if self.commands[cmd_name] is None:
            self.commands[cmd_name] = _make(cmd_name)
        return self.commands[cmd_name]


def load_all() -> None:
    """Imports the modules of all commands: for a process that runs many of them."""
    for place in COMMANDS.values():
        import_module(place.module)


def _make(name: str) -> Any:
    place = COMMANDS[name]
    module = import_module(place.module)
    command_class = getattr(module, place.command_class) if place.command_class else TyperCommand
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=CONTEXT_SETTINGS)
    alone.command(name, cls=command_class, context_settings=CONTEXT_SETTINGS)(getattr(module, place.function))
    return get_command(alone)
