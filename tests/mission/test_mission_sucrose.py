"""The samples of the document that describes scenarios, put together as one script, run as they stand there."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from warm_python import WarmPython

from sucrose.post.scalars import read_scalars

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).resolve().parent / "sucrose.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


START, GET, PARTIAL, LOAD, WRITER, LOOP, SAVE = blocks("python")
CONFIG = blocks("yaml")[-1]

# What the document takes for granted. One of its samples spells an argument in another way.
DEFINITIONS = """
import torch

class ExampleModule(torch.nn.Sequential):
    def __init__(self, hidden_dim, output_dim, input_dim=None, inputdim=None):
        dims = [input_dim or inputdim, hidden_dim, output_dim]
        super().__init__(torch.nn.Linear(*dims[:2]), torch.nn.Dropout(), torch.nn.Linear(*dims[1:]))

torch.manual_seed(0)
data = torch.randn(64, 200)
"""
OPTIMIZER = "optim = torch.optim.Adam(model.parameters())\n"
TRAINING = """
for batch in data.split(16):
    loss = model(batch).square().mean()
    optim.zero_grad()
    loss.backward()
    optim.step()
    sucrose.step()
    writer.add_scalar("loss", loss.item(), ssc.num_stes)
"""


def script(n_epochs: int) -> str:
    """The samples in their order, with the training and the sample that saves in the loop."""
    body = LOOP + textwrap.indent(TRAINING + SAVE, "    ") + "    print(epoch, ssc.num_steps, ssc.num_stes)\n"
    return "".join([START, GET, DEFINITIONS, PARTIAL, OPTIMIZER, LOAD, WRITER, f"N = {n_epochs}\n", body])


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    python = WarmPython("import torch, torch.utils.tensorboard, torch._dynamo; torch.set_num_threads(1)")
    yield python
    python.close()


class Program:
    """Scripts in a folder with the document's workspace."""

    def __init__(self, python: WarmPython, folder: Path) -> None:
        self.workspace = folder / "path" / "to" / "workspace"
        self._python = python
        self._folder = folder
        self.workspace.mkdir(parents=True)
        (self.workspace / "config.yaml").write_text(CONFIG)

    def run(self, source: str) -> list[str]:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("SUCROSE_")}
        if "PYTHONPATH" in variables:
            variables["PYTHONPATH"] = os.path.abspath(variables["PYTHONPATH"])
        program = f"import os, sys\nos.chdir(sys.argv[1])\n{source}"
        done = self._python.run(program, [str(self._folder)], {**variables, "HOME": str(self._folder / "home")})
        assert done.returncode == 0, done.stderr
        return list(done.stdout.splitlines())

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.workspace / "ckpts" / "base" / "case1").iterdir())

    def checkpoint(self, epoch: int) -> dict[str, Any]:
        contents: dict[str, Any] = torch.load(
            self.workspace / "ckpts" / "base" / "case1" / f"base_case1_e{epoch}.pt", weights_only=True
        )
        return contents


@pytest.fixture
def program(warm: WarmPython, tmp_path: Path) -> Program:
    return Program(warm, tmp_path)


def test_the_samples_run_one_after_another(program: Program) -> None:
    assert "workspace:" not in CONFIG
    source = "".join([START, GET, DEFINITIONS, PARTIAL, OPTIMIZER, LOAD, WRITER, "N = 3\n", LOOP, SAVE])
    assert program.run(f"{source}print(epoch, ssc.num_stes)\n") == ["200", "3 0"]
    assert program.files() == ["base_case1_e1.pt"]


def test_both_ways_to_pass_configurations_make_the_same_model(program: Program) -> None:
    first, second = PARTIAL.split("# Here")
    source = f"{START}{DEFINITIONS}{first}one = model\n# Here{second}print(str(one) == str(model), one[0])\n"
    assert program.run(source) == ["True Linear(in_features=200, out_features=100, bias=True)"]


def test_the_training_script_saves_every_ten_epochs_and_what_is_left_at_its_end(program: Program) -> None:
    printed = program.run(script(12))
    assert printed == ["200", *(f"{epoch} {4 * epoch} {4 * epoch}" for epoch in range(1, 13))]
    assert program.files() == ["base_case1_e10.pt", "base_case1_e12.pt"]
    contents = program.checkpoint(12)
    assert contents["step"] == 48
    assert {"model", "optim"} <= contents.keys()


def test_run_again_it_does_another_n_epochs_as_if_it_had_not_been_interrupted(
    program: Program, warm: WarmPython, tmp_path: Path
) -> None:
    program.run(script(7))
    assert program.run(script(14))[1] == "8 32 32"
    whole = Program(warm, tmp_path / "whole")
    whole.run(script(21))
    ended, expected = program.checkpoint(21), whole.checkpoint(21)
    for name in ("model", "optim", "step"):
        assert_same(ended[name], expected[name], name)
    curves = [
        {
            key: (one.steps.tolist(), one.values.tolist())
            for key, one in read_scalars(str(each.workspace / "logs")).items()
        }
        for each in (program, whole)
    ]
    assert curves[0] == curves[1]
    assert curves[0]["base/case1", "loss"][0] == list(range(1, 85))


def test_a_checkpoint_that_torch_saved_under_such_a_name_resumes(program: Program) -> None:
    program.run(script(2))
    path = program.workspace / "ckpts" / "base" / "case1" / "base_case1_e2.pt"
    contents = torch.load(path, weights_only=True)
    path.unlink()
    torch.save({name: contents[name] for name in ("model", "optim", "step")}, path.with_name("base_case1_e40.pt"))
    assert program.run(script(1)) == ["200", "41 12 12"]
    assert program.files() == ["base_case1_e40.pt", "base_case1_e41.pt"]
