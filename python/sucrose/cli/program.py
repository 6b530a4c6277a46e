"""The program: its commands, and how errors are told.

An error is one line on stderr and the exit status 1; `--debug` shows where it came from. Wrong usage ends
with status 2, as usual.
"""

from __future__ import annotations

import io
import logging
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated

import typer

from sucrose.cli.compare import compare
from sucrose.cli.explain import explain
from sucrose.cli.formatting import tell
from sucrose.cli.gc import gc
from sucrose.cli.ls import ls
from sucrose.cli.plot import plot
from sucrose.cli.report import report
from sucrose.cli.run import RunCommand, run
from sucrose.cli.runs import runs
from sucrose.config.plain_values import printable

app = typer.Typer(
    name="sucrose",
    help="Looks after checkpoints that torch-sucrose has written.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(ls)
app.command()(gc)
app.command()(plot)
app.command()(report)
app.command(cls=RunCommand)(run)
app.command()(explain)
app.command()(runs)
app.command()(compare)


@dataclass(slots=True)
class _Invocation:
    """What holds for all commands."""

    debug: bool = False


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
