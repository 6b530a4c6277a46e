"""The command ``sucrose`` as people start it, without the time that its imports take, and without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from warm_python import WarmPython

if TYPE_CHECKING:
    import subprocess

SOURCES = str(Path(__file__).parents[2] / "python")


class CommandLine:
    """Each command is a process of its own, forked from one that has imported the program. A warning is an error.

    Args:
        preload: what else is imported, a statement.
        with_torch: whether the commands may import torch; otherwise that fails.
    """

    def __init__(self, preload: str = "", *, with_torch: bool = False) -> None:
        torch = "import torch" if with_torch else "sys.modules['torch'] = None"
        self._python = WarmPython(
            f"import sys, warnings; sys.path.insert(0, {SOURCES!r}); {torch}\n"
            f"import sucrose.cli.commands, sucrose.cli.program; sucrose.cli.commands.load_all()\n{preload}\n"
            "warnings.simplefilter('error'); warnings.simplefilter('ignore', ResourceWarning)"  # of the fork's stdin
        )

    def run(self, *arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the command in a folder, with a home that does not exist."""
        variables = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
        variables["HOME"] = variables["XDG_STATE_HOME"] = str((folder or Path.cwd()) / "no-such-home")
        program = (
            f"import os, sys; os.chdir({str(folder or Path.cwd())!r}); from sucrose.cli.program import main; main()"
        )
        return self._python.run(program, [*map(str, arguments)], variables)

    def close(self) -> None:
        """Ends the process that they are forked from."""
        self._python.close()
