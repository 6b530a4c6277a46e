"""The samples of the document that describes state managers run as they stand there, in programs that are restarted."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from warm_python import WarmPython

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).resolve().parent / "state_management.rst"

RUN_A_FILE = """
import sys
__file__ = sys.argv[1]
exec(compile(open(__file__).read(), __file__, "exec"))
"""


def samples() -> list[str]:
    blocks = []
    for part in DOCUMENT.read_text().split(".. code-block:: python\n\n")[1:]:
        lines = []
        for line in part.splitlines():
            if line and not line.startswith("   "):
                break
            lines.append(line)
        blocks.append(textwrap.dedent("\n".join(lines)).strip() + "\n")
    return blocks


REGISTER, REFERENCE, COPY, FIND_AGAIN, CLOSURE, SYMBOLIC, FILE = samples()


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    python = WarmPython()
    yield python
    python.close()


@pytest.fixture(params=["nothing set", "a directory set"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """A user's, who has set no variable, or those that choose where states are kept."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("LATTICE_", "XDG_"))}
    variables["HOME"] = str(tmp_path / "home")
    if "PYTHONPATH" in variables:  # programs are started in another folder
        variables["PYTHONPATH"] = os.path.abspath(variables["PYTHONPATH"])
    if request.param == "a directory set":
        variables["LATTICE_CHECKPOINT_TYPE"] = "local"
        variables["LATTICE_CHECKPOINT_CONFIG"] = f"root={tmp_path}/states=here,atexit_saving=enabled"
    return variables


class Program:
    """A file that is run again and again, in a process of its own each time, with other contents."""

    def __init__(self, python: WarmPython, folder: Path, environment: dict[str, str]) -> None:
        self._python = python
        self._folder = folder
        self._environment = environment

    def run(self, source: str) -> str:
        """Standard output."""
        path = self._folder / "program.py"
        path.write_text(f"import os\nos.chdir({str(self._folder)!r})\n{source}")
        result = self._python.run(RUN_A_FILE, [str(path)], self._environment)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


@pytest.fixture
def program(warm: WarmPython, tmp_path: Path, environment: dict[str, str]) -> Program:
    return Program(warm, tmp_path, environment)


def test_a_registered_state_without_a_value_is_none(program: Program) -> None:
    assert program.run(f"{REGISTER}print(mgr.get('state1'))") == "None"


@pytest.mark.parametrize("sample", [REFERENCE, COPY], ids=["by reference", "a copy"])
def test_the_next_run_finds_the_state_again(program: Program, sample: str) -> None:
    program.run(sample)
    assert program.run(f"{FIND_AGAIN}print(type(state).__name__, dict(state))") == "PicklableDict {'k1': 3}"


def test_the_first_run_of_the_sample_that_looks_for_a_state_finds_none(program: Program) -> None:
    assert program.run(f"{FIND_AGAIN}print(mgr.get('state1'))") == "None"


def test_by_reference_later_changes_are_saved_and_in_a_copy_they_are_not(program: Program) -> None:
    program.run(f"{REFERENCE}state['k1'] = 4")
    assert program.run(f"{FIND_AGAIN}print(state['k1'])") == "4"
    program.run(f"{COPY}state['k1'] = 5")
    assert program.run(f"{FIND_AGAIN}print(state['k1'])") == "3"


@pytest.mark.parametrize("sample", [CLOSURE, SYMBOLIC], ids=["a closure", "a variable by its name"])
def test_a_number_has_its_last_value_in_the_next_run(program: Program, sample: str) -> None:
    assert program.run(f"{sample}print(mgr.get('loss'))") == "0.2"
    until_registered = sample.partition("loss = 0.1")[0]
    assert program.run(f"{until_registered}print(mgr.get('loss'))") == "0.2"


def test_a_file_has_its_contents_and_its_position_again(program: Program, tmp_path: Path) -> None:
    program.run(FILE)
    (tmp_path / "test.txt").write_text("something else, and longer than before")
    until_registered = FILE.partition("f = open")[0]
    assert (
        program.run(f"{until_registered}f = mgr.get('file')\nprint(f.name.endswith('test.txt'), f.mode, f.tell())")
        == "True w 5"
    )
    assert (tmp_path / "test.txt").read_text() == "hello"


def test_a_file_that_is_gone_is_there_again_and_can_be_written_on(program: Program, tmp_path: Path) -> None:
    program.run(FILE)
    (tmp_path / "test.txt").unlink()
    until_registered = FILE.partition("f = open")[0]
    program.run(f"{until_registered}f = mgr.get('file')\nf.write(', again')")
    assert (tmp_path / "test.txt").read_text() == "hello, again"


def test_a_program_that_is_started_from_the_shell_finds_its_state(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    for source, expected in ((REFERENCE, ""), (f"{FIND_AGAIN}print(dict(state))", "{'k1': 3}")):
        path.write_text(source)
        result = subprocess.run(
            [sys.executable, path],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == expected
        tells_where = [line for line in result.stderr.splitlines() if "are kept in" in line]
        assert len(tells_where) == ("LATTICE_CHECKPOINT_CONFIG" not in environment)
