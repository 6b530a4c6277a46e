"""Very many tensors, very large ones, and more files than a process may have open."""

from __future__ import annotations

import resource
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest
import torch
from bitwise import assert_same

from sucrose import Snapshot, StateDict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GIB = 1 << 30


def test_a_hundred_thousand_tensors_come_back(tmp_path: Path) -> None:
    values = torch.arange(300_000.0).view(100_000, 3)
    saved = {f"layer.{i}.weight": values[i] for i in range(100_000)}
    Snapshot.take(tmp_path / "s", {"state": StateDict(**saved)})
    state = StateDict(**{name: torch.zeros(3) for name in saved})
    report = Snapshot(tmp_path / "s").restore({"state": state})
    assert (report.tensors, report.nbytes) == (100_000, 1_200_000)
    assert_same(torch.stack(list(state.values())), values)


@contextmanager
def at_most_open_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_snapshot_may_have_more_files_than_a_process_may_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUCROSE_MAX_FILE_NBYTES", "0")  # one file for each tensor
    saved = {f"t{i}": torch.full((10,), float(i)) for i in range(600)}
    with at_most_open_files(psutil.Process().num_fds() + 200):
        snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(**saved)})
        assert_same(snapshot.get_state_dict_for_key("state"), saved)
        assert snapshot.verify().files == 600


@pytest.mark.large
def test_a_tensor_larger_than_four_gib_comes_back(tmp_path: Path) -> None:
    nbytes = 4 * GIB + 4099
    if psutil.virtual_memory().available < 3 * nbytes or shutil.disk_usage(tmp_path).free < 2 * nbytes:
        pytest.skip(f"needs {3 * nbytes} bytes of memory and {2 * nbytes} of disk")
    saved = torch.zeros(nbytes, dtype=torch.uint8)
    for at, value in ((0, 1), (2**31, 2), (2**32 - 1, 3), (2**32, 4), (nbytes - 1, 5)):
        saved[at] = value
    small = torch.arange(5)
    Snapshot.take(tmp_path / "s", {"state": StateDict(before=small, large=saved, after=small + 1)})
    state = StateDict(large=torch.empty(nbytes, dtype=torch.uint8))
    snapshot = Snapshot(tmp_path / "s")
    snapshot.restore({"state": state})
    assert torch.equal(state["large"], saved)
    del state
    assert_same(snapshot.read_object("0/state/after"), small + 1)
    budget = 16 << 20
    assert torch.equal(snapshot.read_object("0/state/large", memory_budget_bytes=budget), saved)
    assert snapshot.verify()
    shutil.rmtree(tmp_path / "s")
