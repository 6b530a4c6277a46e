"""State managers with a signing key: pickles are trusted by signature, wherever the folder is."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from signed_snapshots import KEY
from warm_python import WarmPython

from sucrose import Catalog
from sucrose.errors import SignatureError, UnsafeObjectError
from sucrose.state.local import LocalCheckpoints
from sucrose.state.values import freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "SUCROSE_SIGNING_KEY"


class Point:
    """Of the program's own classes: its pickle needs the full unpickler."""

    def __init__(self, x: int) -> None:
        self.x = x


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that all users can write to, and that is no reason not to trust what is signed."""
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(0o777)
    return root


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


def save(root: Path, value: object) -> None:
    LocalCheckpoints(str(root), keep_last=None).save({"a": freeze(value, "a")})


def found(root: Path) -> Any:
    checkpoints = LocalCheckpoints(str(root), keep_last=None)
    states = checkpoints.newest()
    assert states is not None
    try:
        return thaw(states.read("a"), key="a", source=checkpoints.where, distrust=states.distrust)
    finally:
        states.close()


def test_without_a_key_objects_in_a_shared_folder_are_refused(shared: Path) -> None:
    save(shared, Point(3))
    with pytest.raises(UnsafeObjectError, match="writable by all users"):
        found(shared)


@pytest.mark.usefixtures("with_key")
def test_with_a_key_objects_in_a_shared_folder_are_restored(shared: Path) -> None:
    save(shared, Point(3))
    assert found(shared).x == 3


@pytest.mark.usefixtures("with_key")
def test_the_key_that_has_signed_is_missing(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(shared, Point(3))
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UnsafeObjectError):
        found(shared)


@pytest.mark.usefixtures("with_key")
@pytest.mark.parametrize("key", [None, "the key of another job"], ids=["unsigned", "other-key"])
def test_a_planted_generation_runs_no_code_and_the_last_one_that_is_signed_is_found(
    shared: Path, tmp_path: Path, key: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(shared, "mine")
    monkeypatch.delenv(VARIABLE)
    if key is not None:
        monkeypatch.setenv(VARIABLE, key)
    save(tmp_path / "elsewhere", Payload(tmp_path / "made"))
    (planted,) = Catalog(tmp_path / "elsewhere").generations()
    shutil.move(planted.path, shared)
    monkeypatch.setenv(VARIABLE, KEY)
    assert found(shared) == "mine"
    assert not (tmp_path / "made").exists()
    assert str(shared / planted.id) in caplog.text
    caplog.clear()
    checkpoints = LocalCheckpoints(str(shared), keep_last=None)
    assert checkpoints.newest() is not None
    checkpoints.save({"a": freeze("mine again", "a")})
    told = [record for record in caplog.records if planted.id in record.getMessage()]
    assert len(told) == 1  # though the newest was looked for twice
    assert found(shared) == "mine again"


@pytest.mark.usefixtures("with_key")
def test_where_nothing_is_signed_the_program_neither_restores_nor_begins_anew(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    save(shared, Payload(tmp_path / "made"))
    monkeypatch.setenv(VARIABLE, KEY)
    with pytest.raises(SignatureError, match=r"no generation in .* is signed"):
        found(shared)
    with pytest.raises(SignatureError):
        save(shared, "mine")
    assert not (tmp_path / "made").exists()


PROGRAM = """
import sys
import lattice_addons

class Point:
    def __init__(self, x):
        self.x = x

sys.modules["program"] = sys.modules["__main__"]
Point.__module__ = "program"
group = lattice_addons.StateManagerGroup()
group.register("point")
point = group.get("point")
print("found", None if point is None else point.x)
group.update("point", Point(1 if point is None else point.x + 1))
"""


@pytest.fixture(scope="module")
def warm_python() -> Iterator[WarmPython]:
    python = WarmPython("import torch, lattice_addons, sucrose.catalog, sucrose.state.local")
    yield python
    python.close()


def run(python: WarmPython, root: Path, key: str | None) -> tuple[int, str, str]:
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(root.parent),
        "PATH": os.environ["PATH"],
        "LATTICE_CHECKPOINT_TYPE": "local",
        "LATTICE_CHECKPOINT_CONFIG": f"root={root}",
        **({} if key is None else {VARIABLE: key}),
    }
    done = python.run(PROGRAM, [], environment)
    return done.returncode, done.stdout, done.stderr


def test_a_program_that_is_started_again_finds_its_signed_objects_in_a_shared_folder(
    shared: Path, warm_python: WarmPython
) -> None:
    for expected in (None, 1):
        code, out, err = run(warm_python, shared, KEY)
        assert (code, out) == (0, f"found {expected}\n"), err
    _, out, err = run(warm_python, shared, None)
    assert "found 2" not in out
    assert "writable by all users" in err
    code, out, err = run(warm_python, shared, "x" * 16)
    assert code != 0
    assert "SignatureError" in err
    assert KEY not in out + err
    assert run(warm_python, shared, KEY)[1] == "found 2\n"
