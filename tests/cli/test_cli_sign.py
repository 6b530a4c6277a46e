"""`sucrose sign`, and what `sucrose verify` says of signatures where a key is set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from checkpoint_commands import Sucrose, damage, take

from sucrose import Snapshot, StateDict

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY, OTHER_KEY = "a key of sixteen bytes", "another key of sixteen"
SIGNED, REFUSED = 0, 1


@pytest.fixture(scope="module")
def sucrose() -> Iterator[Sucrose]:
    command = Sucrose(with_torch=True)
    yield command
    command.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return take(tmp_path / "step_1", {"s": {"w": torch.ones(1000)}})


@pytest.fixture
def with_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is set, since the snapshot at `path` was taken without one."""
    assert path.exists()
    monkeypatch.setenv("SUCROSE_SIGNING_KEY", KEY)


def checked(sucrose: Sucrose, path: Path, *, status: int) -> dict[str, Any]:
    [content] = sucrose.json("verify", path, status=status)["checked"]
    assert isinstance(content, dict)
    return content


def test_without_a_key_signatures_are_not_looked_at(sucrose: Sucrose, path: Path) -> None:
    content = checked(sucrose, path, status=SIGNED)
    assert (content["status"], content["signature"]) == ("sound", None)
    assert "SUCROSE_SIGNING_KEY" in sucrose.error("sign", path)


@pytest.mark.usefixtures("with_key")
def test_what_is_not_signed_is_said_to_be_unsigned_until_it_is_signed(sucrose: Sucrose, path: Path) -> None:
    content = checked(sucrose, path, status=REFUSED)
    assert (content["status"], content["signature"], content["damage"]) == ("unsigned", "missing", [])
    assert "sucrose sign" in content["remark"]
    [line] = sucrose.lines("verify", path, status=REFUSED)
    assert line.startswith(f"{path}: unsigned (")
    assert KEY not in line
    assert sucrose.lines("sign", path) == [f"{path}: signed"]
    content = checked(sucrose, path, status=SIGNED)
    assert (content["status"], content["signature"]) == ("sound", "valid")
    assert torch.equal(Snapshot(path).read_object("0/s/w"), torch.ones(1000))


def test_what_is_signed_with_another_key_is_foreign(
    sucrose: Sucrose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Snapshot.take(tmp_path / "theirs", {"s": StateDict(w=torch.ones(3))}, signing_key=OTHER_KEY)
    monkeypatch.setenv("SUCROSE_SIGNING_KEY", KEY)
    content = checked(sucrose, tmp_path / "theirs", status=REFUSED)
    assert (content["status"], content["signature"], content["damage"]) == ("foreign", "other key", [])


@pytest.mark.usefixtures("with_key")
def test_what_was_changed_since_it_was_signed_is_damaged(sucrose: Sucrose, path: Path) -> None:
    sucrose.run("sign", path)
    damage(path / ".snapshot_index", 40)
    content = checked(sucrose, path, status=REFUSED)
    assert (content["status"], content["signature"]) == ("damaged", "invalid")
    assert "after it was signed" in content["damage"][0]["message"]
    assert "after it was signed" in sucrose.error("sign", path)
    (path / ".snapshot_signature").write_bytes((path / ".snapshot_signature").read_bytes()[:-2])
    content = checked(sucrose, path, status=REFUSED)
    assert (content["status"], content["signature"]) == ("damaged", "invalid")
    assert ".snapshot_signature" in content["damage"][0]["message"]


@pytest.mark.usefixtures("with_key")
def test_damage_of_the_data_is_damage_and_the_signature_is_valid_all_the_same(sucrose: Sucrose, path: Path) -> None:
    sucrose.run("sign", path)
    damage(path / "data" / "0_0.safetensors", -1)
    content = checked(sucrose, path, status=REFUSED)
    assert (content["status"], content["signature"]) == ("damaged", "valid")


@pytest.mark.usefixtures("with_key")
def test_several_are_signed_and_the_first_that_is_damaged_ends_it(sucrose: Sucrose, path: Path, tmp_path: Path) -> None:
    second = take(tmp_path / "step_2", {"s": {"w": torch.ones(3)}})
    assert sucrose.json("sign", path, second) == {"signed": [str(path), str(second)]}
    third = take(tmp_path / "step_3", {"s": {"w": torch.ones(3)}})
    broken = Path(Snapshot(third).path)
    (broken / ".snapshot_signature").unlink()
    damage(broken / "data" / "0_0.safetensors", -1)
    assert "chunk 0" in sucrose.error("sign", broken)
    assert checked(sucrose, broken, status=REFUSED)["status"] == "unsigned"
