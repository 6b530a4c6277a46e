"""How autopatch gets into a program, and which programs it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

PACKAGES = Path(__file__).parents[2] / "python"

# What Python does with a .pth file that lies beside the packages.
AT_START = f"import site; site.addsitedir({str(PACKAGES)!r})\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs Python with a torch that has nothing in it."""
    (tmp_path / "torch.py").write_text("answer = 42\n")
    (tmp_path / "home").mkdir()

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(PACKAGES),
            **settings,
        }
        return subprocess.run(
            [sys.executable, *arguments],
            check=False,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_without_the_variable_nothing_of_ours_is_imported(run: Run) -> None:
    result = run("-c", AT_START + "import sys; print([name for name in sys.modules if name.startswith('sucrose')])")
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_with_the_variable_torch_is_waited_for_and_not_imported(run: Run) -> None:
    result = run("-c", AT_START + "import sys; print('torch' in sys.modules)", LATTICE_AUTOPATCH="torch")
    assert (result.stdout, result.stderr) == ("False\n", "")


def test_another_value_is_an_error_of_the_import_of_torch_that_says_what_is_allowed(run: Run) -> None:
    result = run("-c", AT_START + "print('started')\nimport torch", LATTICE_AUTOPATCH="tensorflow")
    assert result.stdout == "started\n"
    assert result.returncode == 1
    assert result.stderr.endswith("ConfigError: LATTICE_AUTOPATCH='tensorflow': expected torch, or nothing\n")


def test_python_starts_with_one_line_when_the_package_is_broken(run: Run, tmp_path: Path) -> None:
    broken = "import sys; sys.modules['sucrose.autopatch.import_hook'] = None\n"
    # -S: where the package is installed its own .pth file would come first.
    result = run("-S", "-c", broken + AT_START + "print('started')", LATTICE_AUTOPATCH="torch")
    assert result.stdout == "started\n"
    assert result.stderr.startswith("sucrose: LATTICE_AUTOPATCH has no effect: ")
    assert result.stderr.count("\n") == 1


def test_a_module_that_is_waited_for_looks_as_ever(run: Run) -> None:
    program = """
from sucrose.autopatch.import_hook import when_imported
when_imported("torch", lambda: print("imported", sys.modules["torch"].answer))
finders = len(sys.meta_path)
import torch, importlib.machinery
print(type(torch.__loader__).__name__, torch.__spec__.loader is torch.__loader__, finders - len(sys.meta_path))
import torch
when_imported("torch", lambda: print("at once"))
"""
    result = run("-c", "import sys\n" + program)
    assert result.stdout == "imported 42\nSourceFileLoader True 1\nat once\n", result.stderr


def test_a_script_runs_as_python_would_run_it(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "beside.py").write_text("value = 'imported'\n")
    (folder / "train.py").write_text(
        "import atexit, pickle, sys\n"
        "import beside\n"
        "class Own: pass\n"
        "atexit.register(lambda: print(type(pickle.loads(pickle.dumps(Own()))) is Own))\n"
        "print(__name__, __file__, sys.argv, sys.path[0], __spec__, beside.value, flush=True)\n"
        "sys.exit(5)\n"
    )
    plain = run("scripts/train.py", "--lr", "0.1")
    patched = run("-m", "sucrose.autopatch", "scripts/train.py", "--lr", "0.1")
    assert plain.returncode == patched.returncode == 5
    assert patched.stdout == plain.stdout
    assert patched.stderr == plain.stderr == ""


def test_a_module_runs_as_python_would_run_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "train.py").write_text(
        "import sys\nfrom . import __name__ as parent\n"
        "print(__name__, __file__, sys.argv, sys.path[0], __package__, parent, __spec__.name)\n"
    )
    plain = run("-m", "package.train", "-v")
    patched = run("-m", "sucrose.autopatch", "-m", "package.train", "-v")
    assert plain.returncode == patched.returncode == 0, patched.stderr
    assert patched.stdout == plain.stdout


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--what"], ["no_such_script.py"], ["-m", "no_such_module"]])
def test_a_program_that_is_not_there_is_one_line_on_stderr(arguments: list[str], run: Run) -> None:
    result = run("-m", "sucrose.autopatch", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(("usage: ", "python -m sucrose.autopatch: "))
    assert "Traceback" not in result.stderr


def test_only_the_program_itself_is_followed(run: Run) -> None:
    program = """
import multiprocessing, os, subprocess, sys
from sucrose.autopatch.program import is_program

ask = [sys.executable, "-c", "from sucrose.autopatch.program import is_program; print(is_program())"]

def print_answer():
    print(is_program(), flush=True)

if __name__ == "__main__":
    subprocess.run(ask, check=True)  # of a launcher that does not train itself
    print_answer()
    subprocess.run(ask, check=True)
    subprocess.run(["sh", "-c", '"$@"; :', "sh", *ask], check=True)
    child = multiprocessing.get_context("fork").Process(target=print_answer)
    child.start()
    child.join()
    os.environ["SUCROSE_AUTOPATCH_PID"] = "1999999999"  # a mark of a program that was no ancestor
    subprocess.run(ask, check=True)
"""
    result = run("-u", "-c", program)
    assert result.stdout.split() == ["True", "True", "False", "False", "False", "True"], result.stderr
    assert "this process was started by multiprocessing" in result.stderr


def test_several_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from sucrose.autopatch.program import refuse_several_ranks
    from sucrose.errors import UnsupportedError

    monkeypatch.setenv("WORLD_SIZE", "1")
    refuse_several_ranks()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UnsupportedError, match="of 4"):
        refuse_several_ranks()
