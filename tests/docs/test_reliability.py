"""The page on reliability has every fault, and the tests that it names are there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from soak.result import MIN_KILLS_ON_RECORD, ON_RECORD, summary

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (F\d+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_every_fault_has_a_row() -> None:
    assert [fault for fault, _, _ in ROWS] == [f"F{number}" for number in range(1, 31)]


def test_every_row_names_tests_that_are_there() -> None:
    missing = []
    for fault, _, proof in ROWS:
        names = re.findall(r"`(tests/[^`]+)`", proof)
        assert names, fault
        missing += [f"{fault}: {name}" for name in names if not is_there(name)]
    assert not missing


def is_there(name: str) -> bool:
    path, _, function = name.partition("::")
    if not (ROOT / path).exists():
        return False
    if not function:
        return True
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


def test_every_test_of_a_fault_is_named() -> None:
    files = [f"tests/faults/{path.name}" for path in (ROOT / "tests/faults").glob("test_*.py")]
    assert [name for name in files if name not in PAGE] == []


def test_the_counts_of_the_soak_are_those_of_its_last_run() -> None:
    found = re.search(r"<!-- soak: begin -->\n(.*)<!-- soak: end -->", PAGE, re.DOTALL)
    assert found is not None
    result = json.loads(ON_RECORD.read_text(encoding="utf-8"))
    assert found[1] == summary(result)
    assert result["kills"] >= MIN_KILLS_ON_RECORD
    assert result["lost"] == 0
