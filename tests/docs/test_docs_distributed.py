"""The examples of docs/distributed.md, one after another, on two ranks."""

from __future__ import annotations

import re
from pathlib import Path

from ranks import run_ranks, values_of

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "distributed.md"


def test_the_examples_run_on_two_ranks(tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert examples
    program = "\n".join([*examples, "dist.destroy_process_group()"])
    values_of(run_ranks(2, program, tmp_path, backend=None, store="torchrun"))
