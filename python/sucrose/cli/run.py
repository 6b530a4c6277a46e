"""`sucrose run`: a script with a scenario and overrides that need not be written in it."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sucrose.config import OVERRIDES, SCENARIO, check_scenario_name
from sucrose.config.overrides import is_override, parse_override, split_overrides
from sucrose.errors import ConfigError

_ARGUMENTS = "sucrose.cli.run.arguments"


class RunCommand(TyperCommand):
    """A command whose arguments after ``--`` are another program's; without it the two dashes would only be dropped."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_ARGUMENTS] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])


def run(
    context: typer.Context,
    script: Annotated[str, typer.Argument(help="As for python.")],
    scenario: Annotated[str, typer.Argument(help="Its name, such as base/case1.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="FIELD=VALUE, +FIELD=VALUE for a new field, ~FIELD to remove one; behind -- the script's arguments.",
            metavar="OVERRIDES [-- ARGS]",
        ),
    ] = None,
    is_module: Annotated[
        bool, typer.Option("--module", "-m", help="SCRIPT is the name of a module, as for python -m.")
    ] = False,
) -> None:
    """Runs a Python script; its sucrose.scenario(...) then takes the scenario and the overrides given here."""
    given = overrides or []
    check_scenario_name(scenario)
    for override in given:
        if not is_override(override):
            raise typer.BadParameter(
                f"{override!r} is no override such as optim.lr=1e-3; arguments of the script come after --"
            )
        parse_override(override)
    if not is_module and not os.path.exists(script):
        raise FileNotFoundError(errno.ENOENT, "there is no such script", script)
    if not sys.executable:
        raise ConfigError("this Python does not know its own path (sys.executable), so it cannot be started again")
    environment = {
        **os.environ,
        SCENARIO: scenario,
        OVERRIDES: shlex.join([*split_overrides(os.environ.get(OVERRIDES, "")), *given]),
    }
    # A name that begins with a dash would be an option of Python's.
    path = os.path.join(os.curdir, script) if script.startswith("-") else script
    program = ["-m", script] if is_module else [path]
    sys.stdout.flush()
    sys.stderr.flush()
    # The script takes over this process, so that signals, the exit status and the process id are its own.
    os.execve(sys.executable, [sys.executable, *program, *context.meta[_ARGUMENTS]], environment)  # noqa: S606  # no shell wanted
