"""`sucrose show`, `verify`, `cat`, `diff`, `convert`, `sign` and `flatten` of snapshots at URLs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import CommandLine
from safetensors.torch import load_file
from signed_snapshots import KEY

from sucrose import Snapshot, StateDict

BUCKET = f"memory://{uuid.uuid4().hex}"

# Commands are forked from the process that runs this, and so have its objects.
_FILL = """
from pathlib import Path
from sucrose.storage.objects import open_storage
storage = open_storage({bucket!r})
for path in Path({folder!r}).rglob("*"):
    if path.is_file():
        storage.put(path.relative_to({folder!r}).as_posix(), path.read_bytes())
"""


@pytest.fixture(scope="module")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    folder = tmp_path_factory.mktemp("stored")
    first = {"model": StateDict(weight=torch.arange(6.0), bias=torch.ones(2)), "rest": StateDict(step=1)}
    second = {"model": StateDict(weight=torch.arange(6.0), bias=torch.zeros(2)), "rest": StateDict(step=1)}
    Snapshot.take(folder / "runs/step_1", first)
    Snapshot.take(folder / "runs/step_2", second, base=folder / "runs/step_1")
    Snapshot.take(folder / "runs/damaged", first)
    data = folder / "runs/damaged/data/0_0.safetensors"
    data.write_bytes(data.read_bytes()[:-1] + b"\xff")
    (folder / "catalog/step_7-0123abcd").mkdir(parents=True)
    (folder / "catalog/step_7-0123abcd/.snapshot_metadata").write_bytes(b"{}")
    (folder / "runs/other").mkdir()
    (folder / "runs/other/.metadata").write_bytes(b"of torch.distributed.checkpoint")
    command_line = CommandLine(_FILL.format(bucket=BUCKET, folder=str(folder)), with_torch=True)
    yield command_line
    command_line.close()


def told(command_line: CommandLine, *arguments: Any, status: int = 0) -> Any:
    done = command_line.run(*arguments, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def test_show_tells_what_is_in_a_snapshot_at_a_url(command_line: CommandLine) -> None:
    about = told(command_line, "show", f"{BUCKET}/runs/step_2/")
    assert about["path"] == f"{BUCKET}/runs/step_2"
    assert about["bases"] == [f"{BUCKET}/runs/step_1"]
    assert {entry["path"] for entry in about["entries"]} == {"model/weight", "model/bias", "rest/step"}


def test_verify_reads_a_snapshot_at_a_url_and_all_below_one(command_line: CommandLine) -> None:
    sound = told(command_line, "verify", f"{BUCKET}/runs/step_1")
    assert [(one["path"], one["status"]) for one in sound["checked"]] == [(f"{BUCKET}/runs/step_1", "sound")]
    every = told(command_line, "verify", f"{BUCKET}/runs", status=1)
    statuses = {one["path"].rpartition("/")[2]: one["status"] for one in every["checked"]}
    assert statuses == {"damaged": "damaged", "step_1": "sound", "step_2": "sound"}
    damage = next(one["damage"] for one in every["checked"] if one["damage"])
    assert [(one["file"], one["offset"]) for one in damage] == [("data/0_0.safetensors", 0)]


def test_cat_and_diff_read_values_at_urls(command_line: CommandLine) -> None:
    done = command_line.run("cat", f"{BUCKET}/runs/step_1", "model/bias", "--json")
    assert done.returncode == 0, done.stderr
    assert "1.0" in done.stdout
    difference = told(command_line, "diff", f"{BUCKET}/runs/step_1", f"{BUCKET}/runs/step_2", status=1)
    assert [change["path"] for change in difference["changes"]] == ["model/bias"]


def test_a_snapshot_at_a_url_is_converted_and_flattened_to_files(command_line: CommandLine, tmp_path: Path) -> None:
    told(command_line, "convert", f"{BUCKET}/runs/step_2", tmp_path / "a.safetensors", "--key", "model")
    assert torch.equal(load_file(tmp_path / "a.safetensors")["weight"], torch.arange(6.0))
    flat = told(command_line, "flatten", f"{BUCKET}/runs/step_2", tmp_path / "flat")
    assert flat["copied_from"] == [f"{BUCKET}/runs/step_1"]
    assert Snapshot(tmp_path / "flat").read_object("0/model/bias").sum() == 0


def test_a_snapshot_at_a_url_is_signed(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUCROSE_SIGNING_KEY", KEY)
    assert told(command_line, "sign", f"{BUCKET}/runs/step_1")["signed"] == [f"{BUCKET}/runs/step_1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("convert", f"{BUCKET}/runs/step_1", "s3://bucket/a.safetensors"), "paths of this machine"),
        (("flatten", f"{BUCKET}/runs/step_2"), "target"),
        (("show", f"{BUCKET}/nothing"), ".snapshot_metadata"),
        (("show", f"{BUCKET}/runs/other"), "copy it to a folder"),
        (("show", f"{BUCKET}/catalog"), f"'sucrose ls {BUCKET}/catalog' lists; one of them is step_7-0123abcd"),
        (("flatten", f"{BUCKET}/catalog", "flat"), f"'sucrose ls {BUCKET}/catalog'"),
        (("show", "nowhere://bucket/s"), "nowhere"),
    ],
    ids=[
        "converting to a URL",
        "flattening in place",
        "nothing there",
        "another kind",
        "a catalog",
        "a catalog to flatten",
        "an unknown scheme",
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    command_line: CommandLine, arguments: tuple[str, ...], said: str
) -> None:
    done = command_line.run(*arguments)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
