"""The code of the document that describes snapshots runs as it stands there."""

from __future__ import annotations

import os
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).resolve().parent / "snapshot.rst"


def code_blocks() -> list[str]:
    """The blocks of the document that concern local paths."""
    blocks = []
    for part in DOCUMENT.read_text().split(".. code-block:: Python\n\n")[1:]:
        lines = []
        for line in part.splitlines():
            if line and not line.startswith("    "):
                break
            lines.append(line)
        blocks.append(textwrap.dedent("\n".join(lines)).strip())
    return [block for block in blocks if "s3://" not in block]


@pytest.fixture
def documented_path() -> Iterator[Path]:
    """The path that the document writes to, for as long as the test runs."""
    top = Path("/path")
    try:
        top.mkdir()
    except OSError as error:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            raise
        pytest.skip(f"the document writes below {top}, which cannot be made here: {error}")
    try:
        yield top / "to" / "my" / "snapshot"
    finally:
        shutil.rmtree(top)


def program(seed: int) -> dict[str, Any]:
    """What the document takes for granted: a model and its optimizer, somewhat trained."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(3):
        model(torch.rand(8, 4)).sum().backward()
        optimizer.step()
    return {"model": model, "optimizer": optimizer}


def test_a_second_program_continues_with_the_state_of_the_first(documented_path: Path) -> None:
    describe, describe_more, take, refer, restore = code_blocks()

    first = program(seed=1)
    for block in (describe, describe_more):
        exec(block, first)
    first["extra_state"]["iterations"] = 3
    exec(take, first)
    assert documented_path.is_dir()

    second = program(seed=2)
    weight = second["model"].weight
    for block in (describe, describe_more, refer, restore):
        exec(block, second)
    assert second["extra_state"]["iterations"] == 3
    assert second["model"].weight is weight
    for name in ("model", "optimizer"):
        assert_same(second[name].state_dict(), first[name].state_dict())


def test_the_program_that_took_a_snapshot_can_go_back_to_it(documented_path: Path) -> None:
    _, describe, take, _, restore = code_blocks()
    names = program(seed=1)
    exec(describe, names)
    exec(take, names)
    weight = names["model"].weight.detach().clone()
    names["extra_state"]["iterations"] = 9
    with torch.no_grad():
        names["model"].weight.zero_()
    exec(restore, names)
    assert_same(names["model"].weight.detach(), weight)
    assert names["extra_state"]["iterations"] == 0
