"""Names that lead out of the snapshot: nothing outside is opened, however the path is written.

Everywhere a file with the right contents waits outside, so that an attack that works would go unnoticed otherwise.
"""

from __future__ import annotations

import builtins
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from forged_snapshots import forge, nothing_happens

from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError, SucroseError

DATA = "data/0_0.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Snapshot.take(tmp_path / "s", {"state": StateDict(weight=torch.ones(3), leaf=(1,))})
    for outside in (tmp_path, tmp_path / "s" / "data"):
        shutil.copy(tmp_path / "s" / DATA, outside / "secret")
    return tmp_path / "s"


def names(folder: Path) -> dict[str, str]:
    outside = folder.parent / "secret"
    return {
        "parent": "../secret",
        "absolute": str(outside),
        "double slash": f"/{outside}",
        "through a folder": "data/../../secret",
        "through many": "data/" + "../" * 40 + str(outside)[1:],
        "dots and dots": "./../secret",
        "at the end": "data/..",
        "nothing": "",
        "the folder itself": ".",
        "a zero byte": f"{DATA}\0.txt",
        "too long": "data/" + "x" * 5000,
        "a proc link": f"/proc/self/root{outside}",
    }


NAMES = list(names(Path("/tmp/s")))


def move_to(folder: Path, name: str) -> None:
    """Metadata and index that say the tensor and the object are in the file of that name."""

    def change(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        index["files"][name] = index["files"][DATA]
        metadata["manifest"]["0/state/weight"]["location"] = name
        metadata["manifest"]["0/state/leaf"]["location"] = name

    forge(folder, change)


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_that_leads_out_of_the_snapshot_is_refused(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_to(folder, names(folder)[kind])
    opened = record_opened(monkeypatch)
    for read in (
        lambda: Snapshot(folder).restore({"state": StateDict(weight=torch.zeros(3))}),
        lambda: Snapshot(folder).restore({"state": StateDict(weight=torch.zeros(3))}, verify=False),
        lambda: Snapshot(folder).read_object("0/state/weight"),
        lambda: Snapshot(folder).read_object("0/state/leaf"),
    ):
        with nothing_happens(folder.parent), pytest.raises(SucroseError) as caught:
            read()
        assert isinstance(caught.value, CorruptionError)
    assert not [path for path in opened if not path.startswith(str(folder))]


@pytest.mark.parametrize("kind", NAMES)
def test_verification_and_catalogs_open_nothing_outside_either(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sucrose.catalog.soundness import check_structure
    from sucrose.storage import LocalDirectory

    move_to(folder, names(folder)[kind])
    opened = record_opened(monkeypatch)
    with pytest.raises(CorruptionError):
        check_structure(LocalDirectory(str(folder)), None)
    with suppress(CorruptionError):
        assert not Snapshot(folder).verify()
    assert not [path for path in opened if not path.startswith(str(folder))]


LOOKALIKES = [
    "\uff0e\uff0e/secret", "\u2025/secret", "..\\secret", "%2e%2e/secret", "..\u2215secret", "data/\u2024\u2024/secret"
]  # fmt: skip


@pytest.mark.parametrize("name", LOOKALIKES, ids=ascii)
def test_letters_that_only_look_like_dots_and_slashes_are_letters(folder: Path, name: str) -> None:
    """No part of the program normalizes Unicode or decodes escapes on the way to the file."""
    move_to(folder, name)
    with nothing_happens(folder.parent), pytest.raises(CorruptionError, match="missing"):
        Snapshot(folder).read_object("0/state/weight")


def test_keys_of_a_state_that_look_like_paths_stay_inside_when_they_are_written(tmp_path: Path) -> None:
    state = StateDict(**{"../../up": (1,), "..": (2,), "/etc/passwd": (3,), ".": (4,), "a\0b": (5,), "": (6,)})
    with nothing_happens():
        Snapshot.take(tmp_path / "deep" / "er" / "s", {"../x": state})
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == ["s"]
    assert Snapshot(tmp_path / "deep" / "er" / "s").get_state_dict_for_key("../x") == dict(state)


def record_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that Python opens from now on, of files below the test's folder."""
    opened: list[str] = []

    def note(module: Any, name: str) -> None:
        real = getattr(module, name)

        def noting(path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, str) and ("secret" in path or "pytest-of" in path):
                opened.append(os.path.abspath(path))
            return real(path, *args, **kwargs)

        monkeypatch.setattr(module, name, noting)

    note(builtins, "open")
    note(os, "open")
    return opened
