from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from benchmarks.contenders import Role
from benchmarks.loop import STEPS_AFTER, STEPS_BEFORE, LoopTrace, run_loop
from benchmarks.records import Cell, Line, Operation
from warm_benchmarks import WarmBenchmarks

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmBenchmarks]:
    benchmarks = WarmBenchmarks()
    yield benchmarks
    benchmarks.close()


def results(benchmarks: WarmBenchmarks, folder: Path, *arguments: str) -> dict[str, dict]:
    tiny = ("--scale", "0.001", "--runs", "1", "--machine", "tiny", "--limit", "60")
    done = benchmarks.run(*arguments, *tiny, "--dir", folder, "--tmpfs", folder, "--out", folder)
    assert done.returncode == 0, done.stderr
    return {path.name.removesuffix("-tiny.json"): json.loads(path.read_text()) for path in folder.glob("*.json")}


def lines_of(cell: dict) -> dict[str, dict]:
    return {line["name"]: line for line in cell["lines"]}


def test_cases_for_a_gpu_are_skipped_with_the_reason_where_there_is_none(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--case", "G", "--scale", "0.001", "--runs", "1"]
    places = ["--dir", str(tmp_path), "--tmpfs", str(tmp_path), "--out", str(tmp_path)]
    no_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, *places], cwd=ROOT, env=no_gpu, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for case in ("G1", "G2", "G3", "G4"):
        assert f"{case} is skipped: torch " in done.stderr
    assert list(tmp_path.iterdir()) == [], "a case that was skipped must not look measured"


def test_a_stall_has_its_durable_end_and_what_was_saved_is_what_was_there_at_the_call(warm, tmp_path):
    names = ("sucrose async_take", "DCP async_save", "torch.save")
    found = results(warm, tmp_path, "--case", "P5", "--state", "large", "--contender", *names)
    lines = lines_of(found["P5"]["cells"][0])
    assert lines.keys() == {*names, "memcpy"}
    for line in lines.values():
        assert not line["missing"], line
        assert line["equal"], line
        assert 0 < line["samples"][0] <= line["durable_s"][0]


def test_a_training_loop_records_every_step_and_its_plot_is_drawn(warm, tmp_path):
    pytest.importorskip("matplotlib")
    found = results(warm, tmp_path, "--case", "P5-loop", "--contender", "sucrose async_take", "torch.save")
    for line in found["P5-loop"]["cells"][0]["lines"]:
        assert not line["missing"], line
        assert line["equal"], line
        assert len(line["loops"]) == 2, "the first and one more"
        for loop in line["loops"]:
            assert len(loop["step_s"]) == STEPS_BEFORE + 1 + loop["background_steps"] + STEPS_AFTER
            assert loop["stall_s"] <= min(loop["durable_s"], loop["step_s"][loop["save_step"]])
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results: begin -->\n<!-- results: end -->\n")
    run("benchmarks.report", "--results", tmp_path, "--readme", readme)
    assert "durable after" in readme.read_text()
    assert (tmp_path / "P5-loop-tiny.png").exists()


def test_cases_for_a_gpu_run_the_same_way_with_states_on_the_cpu(warm, tmp_path):
    names = ("sucrose", "engine")
    state = ("--state", "large", "--contender", *names)
    found = results(warm, tmp_path, "--case", "G1", "G3", "--device", "cpu", *state)
    assert found.keys() == {"G1", "G3"}
    cells = [cell for result in found.values() for cell in result["cells"]]
    assert {cell["operation"] for cell in cells} == {"device to host", "host to device", "save to tmpfs", "save"}
    for cell in cells:
        assert cell["device"] == "cpu"
        ours = [line for line in cell["lines"] if line["name"] in names]
        assert ours
        assert all(line["equal"] and not line["missing"] for line in ours), ours


def test_steps_that_begin_before_the_save_is_durable_are_in_its_background():
    steps_to_come = iter(range(STEPS_BEFORE + 1 + 3))
    durable = threading.Event()

    def step() -> None:
        if next(steps_to_come, None) is None:
            durable.set()

    trace = run_loop(step, lambda: None, lambda: durable.wait)
    assert trace.save_step == STEPS_BEFORE
    assert trace.background_steps >= 4
    assert len(trace.step_s) == STEPS_BEFORE + 1 + trace.background_steps + STEPS_AFTER


def test_slow_down_compares_the_steps_in_the_background_with_those_before():
    steps = (1.0, 1.0, 5.0, 1.5, 1.7, 1.0)
    trace = LoopTrace(step_s=steps, save_step=2, stall_s=4.0, durable_s=7.0, background_steps=2)
    assert trace.slow_down_percent == pytest.approx(60)
    alone = LoopTrace(step_s=steps, save_step=2, stall_s=4.0, durable_s=4.0, background_steps=0)
    assert alone.slow_down_percent == 0


def test_an_error_in_the_background_of_a_loop_is_raised():
    def fail() -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        run_loop(lambda: None, lambda: None, lambda: fail)


def test_what_takes_two_stages_is_limited_by_the_slower_one():
    def limit(name: str, stage: str, *samples: float) -> Line:
        return Line(name=name, role=Role.LIMIT, stage=stage, samples=samples)

    lines = (limit("copy", "copy", 2.0, 1.0), limit("fast", "storage", 1.0, 4.0), limit("slow", "storage", 3.0, 3.0))
    cell = Cell(operation=Operation.SAVE, state="large", nbytes=1, n_tensors=1, lines=lines)
    assert cell.limit_s() == (2.0, 3.0)
