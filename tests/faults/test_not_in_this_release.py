"""Several ranks and object stores are refused by name, before anything is written, rather than half supported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch

from sucrose import Catalog, Snapshot, StateDict
from sucrose.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

STATE = {"state": StateDict(tensor=torch.ones(3))}


def test_a_group_of_several_ranks_is_refused_with_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Snapshot.take(tmp_path / "s", STATE)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda _: 4)
    calls = [
        lambda: Snapshot.take(tmp_path / "s", STATE, overwrite=True),
        lambda: Snapshot.async_take(tmp_path / "s", STATE, overwrite=True),
        lambda: Snapshot(tmp_path / "s").restore(STATE),
        lambda: Catalog(tmp_path / "catalog").save(1, STATE),
    ]
    for call in calls:
        with pytest.raises(UnsupportedError, match="4 ranks"):
            call()
    assert os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "http", "hf"])
def test_an_object_store_is_refused_with_its_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = f"{scheme}://bucket/step_1"
    calls = [
        lambda: Snapshot.take(path, STATE),
        lambda: Snapshot.async_take(path, STATE),
        lambda: Snapshot(path).restore(STATE),
        lambda: Catalog(path).save(1, STATE),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=f"no storage for {scheme}://"):
            call()
    assert os.listdir(tmp_path) == []
