"""The examples of docs/cli.md: the program, and the commands with what they print, in their order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from warm_python import WarmPython

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "cli.md"
COMMAND = re.compile(r"^\$ sucrose (.*?)(?:\s+# status (\d))?$")
SETTING = re.compile(r"^\$ export (SUCROSE_SIGNING_KEY)=")


class Example(NamedTuple):
    """A command of the document, and what the document says of it."""

    arguments: str
    variables: dict[str, str]
    status: int
    shown: str


def examples(text: str) -> list[Example]:
    """All of them. What a line exports holds until the block ends, and is any key that is long enough."""
    found: list[Example] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        variables: dict[str, str] = {}
        for line in block.splitlines():
            command, setting = COMMAND.match(line), SETTING.match(line)
            if setting is not None:
                variables[setting[1]] = "a key of sixteen bytes"
            elif command is not None:
                found.append(Example(command[1], dict(variables), int(command[2] or 0), ""))
            else:
                found[-1] = found[-1]._replace(shown=f"{found[-1].shown}{line}\n")
    return found


def test_the_program_and_the_commands_of_the_document_do_what_it_says(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    commands = examples(text)
    assert {example.arguments.split()[0] for example in commands} == set(
        re.findall(r"^## ([a-z]+)$", text, re.MULTILINE)
    )
    python = WarmPython("import torch, sucrose.cli.commands, sucrose.cli.program; sucrose.cli.commands.load_all()")
    try:
        for arguments, variables, status, shown in commands:
            start = f"import os; os.chdir({str(tmp_path)!r}); from sucrose.cli.program import main; main()"
            done = python.run(start, shlex.split(arguments), {**os.environ, **variables, "HOME": str(tmp_path)})
            assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
            if shown:
                assert [line.split() for line in done.stdout.splitlines()] == [
                    line.split() for line in shown.splitlines()
                ]
    finally:
        python.close()


def test_the_document_has_a_section_or_a_mention_for_every_command() -> None:
    from sucrose.cli.commands import COMMANDS

    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"## {name}\n" not in text and f"`{name}`" not in text] == []
