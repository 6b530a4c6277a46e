"""`sucrose verify`: what is damaged is found, named, and told by the status. None of these can import torch."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from checkpoint_commands import Sucrose, damage, take
from command_line import SOURCES
from safetensors.torch import save_file

import sucrose as package
from sucrose import Catalog, Snapshot, StateDict

if TYPE_CHECKING:
    from collections.abc import Iterator

WHOLE, DAMAGED, NOTHING = 0, 1, 2


@pytest.fixture(scope="module")
def sucrose() -> Iterator[Sucrose]:
    command = Sucrose(with_torch=False)
    yield command
    command.close()


def states(content: dict[str, Any]) -> list[tuple[str, str]]:
    return [(Path(checked["path"]).name, checked["status"]) for checked in content["checked"]]


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}], ids=["plain", "zstd"])
def test_a_flipped_byte_is_found_and_the_tensor_named(
    sucrose: Sucrose, tmp_path: Path, options: dict[str, Any]
) -> None:
    state = {"s": {"first": torch.randn(3 << 20), "second": torch.randn(3 << 20)}}
    path = take(tmp_path / "step_1", state, **options)
    assert sucrose.lines("verify", path, status=WHOLE)[0].startswith(f"{path}: sound, 24")
    [file] = (path / "data").iterdir()
    damage(file, file.stat().st_size - 100)
    [checked] = sucrose.json("verify", path, status=DAMAGED)["checked"]
    [found] = checked["damage"]
    assert (found["file"], found["keys"]) == (f"data/{file.name}", ["0/s/second"])
    head, line = sucrose.lines("verify", path, status=DAMAGED)
    assert head.startswith(f"{path}: damaged")
    assert "'0/s/second'" in line
    assert "first" not in line


@pytest.mark.parametrize("file", [".snapshot_metadata", ".snapshot_index", "data/0_0.safetensors"])
def test_each_file_of_a_snapshot_is_checked(sucrose: Sucrose, tmp_path: Path, file: str) -> None:
    path = take(tmp_path / "step_1", {"s": {"w": torch.ones(10)}})
    whole = (path / file).read_bytes()
    (path / file).write_bytes(whole[:-1])
    content = sucrose.json("verify", path, status=DAMAGED)
    assert states(content) == [("step_1", "damaged")]
    assert not content["sound"]
    (path / file).write_bytes(whole)
    sucrose.run("verify", path, status=WHOLE)
    (path / file).unlink()
    status = NOTHING if file == ".snapshot_metadata" else DAMAGED
    sucrose.run("verify", path, status=status)


def test_a_base_that_is_gone_is_damage(sucrose: Sucrose, tmp_path: Path) -> None:
    state = StateDict(frozen=torch.ones(1 << 20), trained=torch.zeros(8))
    base = Snapshot.take(tmp_path / "step_1", {"state": state})
    state["trained"] += 1
    Snapshot.take(tmp_path / "step_2", {"state": state}, base=base)
    sucrose.run("verify", tmp_path / "step_2", status=WHOLE)
    (tmp_path / "step_1").rename(tmp_path / "elsewhere")
    [checked] = sucrose.json("verify", tmp_path / "step_2", status=DAMAGED)["checked"]
    assert "step_1" in checked["damage"][0]["message"]


def test_a_file_of_torch_save_is_compared_with_its_checksums(sucrose: Sucrose, tmp_path: Path) -> None:
    for name, save in (("ours.pt", package.save), ("torchs.pt", torch.save)):
        path = tmp_path / name
        save({"w": torch.arange(100_000)}, path)
        sucrose.run("verify", path, status=WHOLE)
        damage(path, 200_000)
        [checked] = sucrose.json("verify", path, status=DAMAGED)["checked"]
        assert checked["damage"][0]["file"].endswith("data/0")
        path.write_bytes(path.read_bytes()[:-10])
        sucrose.run("verify", path, status=DAMAGED)


def test_a_safetensors_file_is_checked_as_far_as_that_is_possible(sucrose: Sucrose, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(10)}, path)
    [line] = sucrose.lines("verify", path, status=WHOLE)
    assert "no checksums" in line
    whole = path.read_bytes()
    for length in (len(whole) - 1, 20, 9, 8, 1):  # in the data, in the header, and in its length
        path.write_bytes(whole[:length])
        [checked] = sucrose.json("verify", path, status=DAMAGED)["checked"]
        assert checked["kind"] == "safetensors"
        assert f"has {length} bytes" in checked["damage"][0]["message"]


def test_an_empty_file_is_said_to_be_empty(sucrose: Sucrose, tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.pt"):
        (tmp_path / name).touch()
        [checked] = sucrose.json("verify", tmp_path / name, status=NOTHING)["checked"]
        assert checked["status"] == "unknown"
        assert checked["remark"].endswith("it is empty")


def test_a_folder_is_checked_in_the_order_of_its_numbers(sucrose: Sucrose, tmp_path: Path) -> None:
    names = ["step_5", "step_10", "step_100"]
    for name in names:
        take(tmp_path / name, {"s": {"w": torch.ones(3)}})
    assert [name for name, _ in states(sucrose.json("verify", tmp_path))] == names


def test_all_snapshots_of_a_catalog_are_checked(sucrose: Sucrose, tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    first, second, third = [catalog.save(step, {"s": StateDict(w=torch.ones(10))}) for step in (1, 2, 3)]
    Snapshot.take(tmp_path / "another", {"s": StateDict(w=torch.ones(10))})
    assert sucrose.json("verify", tmp_path, status=WHOLE)["sound"]
    damage(Path(second.path, "data", "0_0.safetensors"), -1)
    Path(third.path, ".snapshot_metadata").unlink()
    content = sucrose.json("verify", tmp_path, status=DAMAGED)
    assert states(content) == [
        ("another", "sound"), (first.id, "sound"), (second.id, "damaged"), (third.id, "damaged"),
    ]  # fmt: skip
    assert os.path.isdir(third.path)  # looking moves nothing


def test_what_is_no_checkpoint_has_a_status_of_its_own(sucrose: Sucrose, tmp_path: Path) -> None:
    whole = take(tmp_path / "step_1", {"s": {"w": torch.ones(10)}})
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("Once upon a time")
    for other in ("empty", "text", "no-such"):
        content = sucrose.json("verify", tmp_path / other, whole, status=NOTHING)
        assert states(content) == [(other, "unknown"), ("step_1", "sound")]
        remark = content["checked"][0]["remark"]
        assert remark
        assert "Errno" not in remark
    damage(whole / "data" / "0_0.safetensors", -1)
    sucrose.run("verify", tmp_path / "no-such", whole, status=DAMAGED)


def on_a_terminal(*arguments: str | Path, **variables: str) -> str:
    """What the command shows on a terminal of its own."""
    controller, terminal = pty.openpty()
    environment = {"PYTHONPATH": SOURCES, "HOME": "/nonexistent", "TERM": "xterm", "COLUMNS": "100", **variables}
    command = [sys.executable, "-m", "sucrose", *map(str, arguments)]
    with subprocess.Popen(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as running:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(controller, 1 << 16):
                shown += piece
        except OSError:  # that is how the end of a terminal is told
            pass
        assert running.wait(60) == 0
    os.close(controller)
    return shown.decode()


def test_a_terminal_shows_progress_and_bold_heads_and_neither_where_that_is_not_wanted(tmp_path: Path) -> None:
    path = take(tmp_path / "[red]", {"s": {"w": torch.ones(10)}})
    shown = on_a_terminal("verify", path)
    assert "[red]" in shown
    assert "\x1b[?25l" in shown  # the cursor is hidden while a bar moves
    assert f"{path}: sound" in shown
    before_the_verdict = shown.partition(f"{path}: sound")[0]
    assert before_the_verdict.rpartition("\x1b[2K")[2] == ""  # the bar's line is empty again, not written on
    assert "\x1b[1m" in on_a_terminal("show", path)
    assert "\x1b" not in on_a_terminal("show", path, NO_COLOR="1", TERM="dumb")
