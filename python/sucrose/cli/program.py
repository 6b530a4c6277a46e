"""The program: its commands, and how errors are told.

An error is one line on stderr and the exit status 1; `--debug` shows where it came from. Wrong usage ends
with status 2, as usual.
"""

from __future__ import annotations

import io
import logging
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from sucrose.cli.formatting import printable
from sucrose.cli.gc import gc
from sucrose.cli.ls import ls

app = typer.Typer(
    name="sucrose",
    help="Looks after checkpoints that torch-sucrose has written.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(ls)
app.command()(gc)


@dataclass(slots=True)
class _Invocation:
    """What holds for all commands."""

    debug: bool = False


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,
) -> None:
    context.obj.debug = debug


def main() -> None:
    """Runs the command line of this process, and ends the process."""
    invocation = _Invocation()
    logging.getLogger("sucrose").addHandler(logging.NullHandler())  # the commands tell what there is to tell
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no error
    try:
        app(obj=invocation)
    except Exception as error:
        if invocation.debug:
            raise
        told = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(f"sucrose: {printable(told)}\n")
        sys.exit(1)
