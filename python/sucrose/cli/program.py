"""The program: what holds for all commands, and how errors are told.

An error is one line on stderr and the exit status 1, or 2 for commands that have an answer with status 1, as diff(1)
has; `--debug` shows where it came from. Wrong usage ends with status 2, as usual.
"""

from __future__ import annotations

import io
import logging
import sys
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated

import typer

from sucrose.cli.commands import CONTEXT_SETTINGS, Commands
from sucrose.cli.formatting import tell
from sucrose.config.plain_values import error_line, printable

app = typer.Typer(
    name="sucrose",
    cls=Commands,
    help="Looks after checkpoints that torch-sucrose has written.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings=CONTEXT_SETTINGS,
)


@dataclass(slots=True)
class Invocation:
    """What holds for all commands.

    Attributes:
        debug: show tracebacks.
        error_status: the exit status where something fails; a command may set another.
    """

    debug: bool = False
    error_status: int = 1


def _show_version(is_asked_for: bool) -> None:
    if is_asked_for:
        tell(f"sucrose {version('torch-sucrose')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    context.obj.debug = debug


def main() -> None:
    """Runs the command line of this process, and ends the process."""
    invocation = Invocation()
    logging.getLogger("sucrose").addHandler(logging.NullHandler())  # the commands tell what there is to tell
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no error
    try:
        app(obj=invocation)
    except Exception as error:  # noqa: BLE001 - it is told, and the status says so
        if invocation.debug:
            for line in "".join(traceback.format_exception(error)).splitlines():
                sys.stderr.write(f"{printable(line)}\n")
        else:
            sys.stderr.write(f"sucrose: {printable(error_line(error))}\n")
        sys.exit(invocation.error_status)
