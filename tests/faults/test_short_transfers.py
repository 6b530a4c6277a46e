"""Reads and writes that move less than they were asked to, and completions in another order (F3)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal

import pytest
import torch
from saves import SAVES, Save

from sucrose import Snapshot, StateDict
from sucrose.testing import inject, short_transfers, shuffled_completions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("nbytes", [1, 4095, "half"], ids=str)
@pytest.mark.parametrize("save", SAVES, ids=str)
@pytest.mark.usefixtures("each_backend")
def test_short_reads_and_writes_change_nothing(save: Save, nbytes: int | Literal["half"], quick_path: Path) -> None:
    with short_transfers(nbytes):
        for value in (1, 2):
            save.save(quick_path, value)
            assert save.found(quick_path) == value
    assert save.found(quick_path) == 2


@pytest.mark.parametrize("nbytes", [4095, "half"], ids=str)
@pytest.mark.usefixtures("each_backend")
def test_short_direct_transfers_of_several_chunks_change_nothing(nbytes: int | Literal["half"], tmp_path: Path) -> None:
    tensor = torch.randint(0, 255, ((9 << 20) + 13,), dtype=torch.uint8)
    with short_transfers(nbytes):
        Snapshot.take(tmp_path / "s", {"state": StateDict(tensor=tensor)})
        found = Snapshot(tmp_path / "s").read_object("0/state/tensor")
    assert found.equal(tensor)
    assert Snapshot(tmp_path / "s").read_object("0/state/tensor").equal(tensor)


@pytest.mark.parametrize("seed", range(1, 5))
def test_completions_in_any_order_and_cancelled_ones_change_nothing(
    seed: int, each_backend: str, tmp_path: Path
) -> None:
    tensor = torch.randint(0, 255, ((17 << 20) + 13,), dtype=torch.uint8)
    with shuffled_completions(seed), inject("completion", nth=seed, errno=errno.ECANCELED, times=2) as cancelled:
        Snapshot.take(tmp_path / "s", {"state": StateDict(tensor=tensor)})
    assert cancelled.hits == (2 if each_backend == "io_uring" else 0)
    assert Snapshot(tmp_path / "s").read_object("0/state/tensor").equal(tensor)
