"""`sucrose explain` and `sucrose run`, as people start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from warm_python import WarmPython

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
    Succeed: TypeAlias = Callable[..., str]

SOURCES = str(Path(__file__).parents[2] / "python")

CONFIG = """
base:
  model: {dim: 100, name: 'd${model.dim}'}
  optim.lr: 1e-3
base/case1:
  model.dim: 200
broken:
  a: 1
  b: ${nowhere}
"""
SCRIPT = """
import json, os, sys
import beside
print(json.dumps({
    "argv": sys.argv,
    "name": __name__,
    "path": sys.path[0],
    "pid": os.getpid(),
    "file": __file__,
    "beside": beside.__file__,
    "executable": sys.executable,
    "scenario": os.environ["SUCROSE_SCENARIO"],
    "overrides": os.environ["SUCROSE_OVERRIDES"],
}))
from sucrose.config import Config, read_config_file
print(json.dumps(Config(read_config_file(os.path.dirname(__file__)), os.environ["SUCROSE_SCENARIO"]).resolved()))
sys.exit(7)
"""


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sucrose", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUCROSE_")}
    return {**kept, "PYTHONPATH": SOURCES, "COLUMNS": "200", **more}


def run(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(**variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    """The program again and again, without the time that its imports take."""
    python = WarmPython(f"import sys; sys.path.insert(0, {SOURCES!r}); import sucrose.cli.program")
    yield python
    python.close()


@pytest.fixture
def start(warm: WarmPython, workspace: Path) -> Start:
    """A function that runs the command in the workspace."""

    def run_warm(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        program = f"import os, sys; os.chdir({str(workspace)!r}); from sucrose.cli.program import main; main()"
        return warm.run(program, [*map(str, arguments)], environment(**variables))

    return run_warm


@pytest.fixture
def succeed(start: Start) -> Succeed:
    """A function that returns what the command has printed."""

    def output(*arguments: str | Path, **variables: str) -> str:
        done = start(*arguments, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return output


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "train.py").write_text(SCRIPT)
    (folder / "beside.py").write_text("")
    return folder


def test_explain_lists_all_fields_with_domain_line_and_override(workspace: Path, succeed: Succeed) -> None:
    lines = succeed("explain", workspace, "base/case1", "optim.lr=5", "+new=no").splitlines()
    assert [line.split() for line in lines] == [
        ["field", "value", "domain", "line"],
        ["model.dim", "200", "base/case1", "6", *["instead", "of", "100", "in", "base:3"]],
        ["model.name", '"d200"', "base", "3", "written", "as", '"d${model.dim}"'],
        ["optim.lr", "5", "override", "'optim.lr=5'", "by", *["argument,", "instead", "of", "0.001", "in", "base:4"]],
        ["new", '"no"', "override", "'+new=no'", "by", "argument"],
    ]


def test_explain_tells_of_one_field_all_there_is_and_of_a_group_its_fields(workspace: Path, succeed: Succeed) -> None:
    text = succeed("explain", workspace, "base/case1", "model.dim", SUCROSE_OVERRIDES="model.dim=3")
    assert text.splitlines() == [
        "model.dim = 3",
        "  from the override 'model.dim=3' by SUCROSE_OVERRIDES",
        f"  instead of 200 from {workspace}/config.yaml:6, domain 'base/case1'",
        f"  instead of 100 from {workspace}/config.yaml:3, domain 'base'",
    ]
    group = succeed("explain", workspace, "base/case1", "model").splitlines()
    assert [line.split()[0] for line in group] == ["field", "model.dim", "model.name"]


def test_explain_tells_programs_the_same(workspace: Path, succeed: Succeed) -> None:
    content: dict[str, Any] = json.loads(succeed("explain", workspace, "base/case1", "--json", "optim.lr=1e-4"))
    assert (content["scenario"], content["domains"]) == ("base/case1", ["base/case1", "base"])
    assert content["overrides"] == ["optim.lr=1e-4"]
    dim, name, lr = (content["fields"][field] for field in ("model.dim", "model.name", "optim.lr"))
    assert (dim["value"], dim["domain"], dim["line"], dim["override"]) == (200, "base/case1", 6, None)
    assert [(other["domain"], other["written"]) for other in dim["shadowed"]] == [("base", 100)]
    assert (name["value"], name["written"], name["references"]) == ("d200", "d${model.dim}", {"model.dim": 200})
    assert (lr["value"], lr["domain"], lr["override"], lr["source"]) == (1e-4, None, "optim.lr=1e-4", "argument")
    assert list(json.loads(succeed("explain", workspace, "base", "--json", "model"))["fields"]) == [
        "model.dim",
        "model.name",
    ]


def test_explain_shows_the_rest_where_one_field_cannot_be_resolved(
    workspace: Path, start: Start, succeed: Succeed
) -> None:
    done = start("explain", workspace, "broken")
    assert done.returncode == 1
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["field", "value"], ["a", "1"], ["b", "?"]]
    [line] = done.stderr.splitlines()
    assert "refers to 'nowhere'" in line
    content = json.loads(succeed("explain", workspace, "broken", "--json"))
    assert "refers to 'nowhere'" in content["fields"]["b"]["problem"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("{ws}/none", "base"), "there is no such workspace"),
        (("{ws}", "bose"), "did you mean 'base'?"),
        (("{ws}", "/base"), "begins with '/'"),
        (("{ws}", "base", "model.dmi"), "did you mean 'model.dim'?"),
        (("{ws}", "base", "optim.lrr=1"), "did you mean 'optim.lr'?"),
        (("{ws}", "base", "~none"), "no field 'none'"),
    ],
)
def test_explain_says_in_one_line_what_is_wrong(
    workspace: Path, start: Start, arguments: tuple[str, ...], told: str
) -> None:
    done = start("explain", *(argument.format(ws=workspace) for argument in arguments))
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert told in line


def test_explain_is_of_one_field(workspace: Path, start: Start) -> None:
    assert start("explain", workspace, "base", "model.dim", "model.name").returncode == 2


def test_explain_needs_no_torch(workspace: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; from sucrose.cli.program import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "explain", str(workspace), "base"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "optim.lr" in done.stdout


def test_run_starts_the_script_as_python_would_with_scenario_and_overrides(workspace: Path) -> None:
    arguments = ["optim.lr=1e-2", "+x=a b", "--", "--epochs", "3", "--", "a=b"]
    done = run("run", workspace / "train.py", "base/case1", *arguments, SUCROSE_OVERRIDES="optim.lr=5 'model.dim=7'")
    assert (done.returncode, done.stderr) == (7, "")
    told, config = map(json.loads, done.stdout.splitlines())
    script = str(workspace / "train.py")
    assert told["argv"] == [script, "--epochs", "3", "--", "a=b"]
    assert (told["name"], told["path"], told["file"]) == ("__main__", str(workspace), script)
    assert told["beside"] == str(workspace / "beside.py")
    assert told["executable"] == sys.executable
    assert told["scenario"] == "base/case1"
    assert config == {"model.dim": 7, "model.name": "d7", "optim.lr": 1e-2, "x": "a b"}


def test_run_without_more_leaves_the_configuration_as_it_is(workspace: Path) -> None:
    done = run("run", "train.py", "base", cwd=workspace)
    assert (done.returncode, done.stderr) == (7, "")
    told, config = map(json.loads, done.stdout.splitlines())
    assert (told["argv"], told["overrides"]) == (["train.py"], "")
    assert config["model.dim"] == 100


def test_run_starts_a_module_as_python_would(workspace: Path) -> None:
    package = workspace / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "beside.py").write_text("text = 'relative'\n")
    (package / "train.py").write_text(
        "import os, sys\nfrom .beside import text\nprint(text, os.environ['SUCROSE_SCENARIO'], sys.argv[1:])\n"
    )
    done = run("run", "-m", "package.train", "base", "optim.lr=1", "--", "-m", "x", cwd=workspace)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "relative base ['-m', 'x']\n")


def test_a_script_that_run_has_started_is_the_process_itself(workspace: Path) -> None:
    (workspace / "train.py").write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        command("run", workspace / "train.py", "base"), env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 9


def test_a_script_that_dies_of_a_signal_has_that_status(workspace: Path) -> None:
    (workspace / "train.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert run("run", workspace / "train.py", "base").returncode == -signal.SIGKILL


def test_a_script_may_have_a_name_like_an_option(workspace: Path, start: Start) -> None:
    (workspace / "-c").write_text("import sys\nprint(sys.argv[1:])\n")
    done = start("run", "base")
    assert done.returncode == 2
    done = run("run", "./-c", "base", "--", "x", cwd=workspace)
    assert (done.returncode, done.stdout) == (0, "['x']\n")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("none.py", "base"), 1, "there is no such script"),
        (("train.py", "/base"), 1, "begins with '/'"),
        (("train.py", "base", "a..b=1"), 1, "no name of a field"),
        (("train.py", "base", "a=[1"), 1, "the override 'a=[1'"),
        (("train.py", "base", "oops"), 2, "come after --"),
        (("train.py",), 2, "Missing argument"),
        (("train.py", "base", "--epochs", "3"), 2, "--epochs"),
    ],
)
def test_run_starts_nothing_where_it_was_used_wrongly(
    workspace: Path, start: Start, arguments: tuple[str, ...], status: int, told: str
) -> None:
    done = start("run", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert told in done.stderr
