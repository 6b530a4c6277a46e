from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PEERS = {"torch.save", "safetensors", "DCP", "torchsnapshot", "torch-checkpointing"}


def run(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def has_figures(line: dict) -> bool:
    return len(line["samples"]) == 1 and line["derived"]["gbps"]["median"] > 0


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    tiny = ("--case", "P1", "--state", "large", "--scale", "0.001", "--runs", "1", "--machine", "tiny")
    run("benchmarks", *tiny, "--dir", folder, "--out", folder)
    assert [path.name for path in folder.iterdir()] == ["P1-tiny.json"], "the files it measured with are gone"
    return folder / "P1-tiny.json"


@pytest.fixture
def cell(result: Path) -> dict:
    return json.loads(result.read_text())["cells"][0]


def test_every_contender_has_figures_or_a_reason(cell):
    lines = {line["name"]: line for line in cell["lines"]}
    assert {"sucrose", *PEERS} <= lines.keys()
    for line in lines.values():
        assert has_figures(line) != bool(line["missing"]), line


def test_ours_and_torch_save_came_back_bit_equal(cell):
    lines = {line["name"]: line for line in cell["lines"]}
    assert has_figures(lines["sucrose"])
    assert has_figures(lines["torch.save"])
    assert all(line["equal"] for line in lines.values() if line["role"] != "limit" and not line["missing"])


def test_the_raw_limit_is_in_the_same_run(cell):
    limits = [line for line in cell["lines"] if line["role"] == "limit"]
    assert len(limits) == 3
    assert all(has_figures(line) or "fio" in line["missing"] for line in limits)


def test_the_report_replaces_what_is_between_its_markers(result):
    pytest.importorskip("matplotlib")
    readme = result.parent / "README.md"
    readme.write_text("before\n<!-- results: begin -->stale text<!-- results: end -->\nafter\n")
    run("benchmarks.report", "--results", result.parent, "--readme", readme)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale text" not in text
    assert "| sucrose | **" in text
    assert "A try-out at scale 0.001" in text
    assert (result.parent / "P1-tiny.png").exists()
