"""Folders of torch.distributed.checkpoint that cannot be written: the error is one of ours, and nothing is left."""

from __future__ import annotations

import errno
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from checkpoint_commands import Sucrose, take
from mounts import MIB, tmpfs

from sucrose.errors import StorageError, StorageFullError, UnsupportedError
from sucrose.interchange import dcp_sink
from sucrose.interchange.conversion import convert

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return take(tmp_path / "step_1", {"s": {"w": torch.ones(1 << 20), "n": 3}})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "disk", nbytes=2 * MIB) as folder:
        yield folder


@contextmanager
def largest_file(nbytes: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_does_not_fit_is_refused_in_one_line_before_it_is_written(source: Path, small_disk: Path) -> None:
    command = Sucrose(with_torch=True)
    try:
        line = command.error("convert", source, small_disk / "y", "--to", "dcp")
    finally:
        command.close()
    assert "needs 4.0 MiB" in line
    assert "Nothing was written" in line
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_is_full_in_the_middle_is_told_with_the_figures(
    source: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dcp_sink, "check_free_space", lambda *_, **__: None)  # somebody else used it up since then
    with pytest.raises(StorageFullError) as caught:
        convert(source, small_disk / "y", to="dcp")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.needed_nbytes == 4 * MIB
    assert list(small_disk.iterdir()) == []


def test_another_failure_of_a_write_keeps_its_errno(source: Path, tmp_path: Path) -> None:
    with largest_file(1 << 20), pytest.raises(StorageError, match="nothing was committed") as caught:
        convert(source, tmp_path / "y", to="dcp")
    assert caught.value.errno == errno.EFBIG
    assert caught.value.path == str(tmp_path / "y")
    assert [file.name for file in tmp_path.iterdir()] == ["step_1"]


def test_names_that_are_the_same_to_the_format_are_refused(tmp_path: Path) -> None:
    torch.save({"a": {"b.c": torch.ones(1)}, "a.b": {"c": torch.ones(1)}}, tmp_path / "clash.pt")
    with pytest.raises(UnsupportedError, match="cannot hold this state"):
        convert(tmp_path / "clash.pt", tmp_path / "y", to="dcp")
    assert [file.name for file in tmp_path.iterdir()] == ["clash.pt"]
