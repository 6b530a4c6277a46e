"""What holds for all commands."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from command_line import SOURCES

from sucrose.cli.commands import COMMANDS


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "run"])  # run ends as the script does
def test_every_command_can_answer_programs(name: str) -> None:
    function = getattr(import_module(COMMANDS[name].module), COMMANDS[name].function)
    assert "as_json" in signature(function).parameters


def test_a_command_imports_what_it_needs_and_nothing_of_the_others(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv = ['sucrose', 'ls', '.']\n"
        "from sucrose.cli.program import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env={"PYTHONPATH": SOURCES, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(done.stdout.split())
    assert "sucrose.cli.ls" in imported
    assert not imported & {
        "torch",
        "rich",
        "rich.console",
        "numpy",
        "jinja2",
        "sucrose.scenarios",
        "sucrose.interchange",
    }
