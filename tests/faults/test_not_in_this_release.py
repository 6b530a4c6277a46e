"""Catalogs of several ranks and object stores are refused by name, before anything is written: nothing is half done."""

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


def test_a_catalog_of_several_ranks_is_refused_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda _: 4)
    catalog = Catalog(tmp_path / "catalog")
    for call in (catalog.save, catalog.async_save):
        with pytest.raises(UnsupportedError, match="4 ranks"):
            call(1, STATE)
    assert catalog.generations() == []


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
