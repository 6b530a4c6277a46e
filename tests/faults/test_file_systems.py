"""Every way of saving and restoring on file systems that are mounted for it, with each backend."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from mounts import MIB, disk_image, overlayfs, read_only, tmpfs

import sucrose
import sucrose.engine
from sucrose import Catalog, Snapshot, StateDict
from sucrose.engine import make_engine
from sucrose.errors import ConfigError
from sucrose.options import current_options, override_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

MOUNTS = {
    "tmpfs": lambda folder: tmpfs(folder, nbytes=64 * MIB),
    "overlayfs": overlayfs,
    "ext4": lambda folder: disk_image(folder, "ext4", nbytes=96 * MIB),
    "xfs": lambda folder: disk_image(folder, "xfs", nbytes=512 * MIB),
    "btrfs": lambda folder: disk_image(folder, "btrfs", nbytes=256 * MIB),
    "vfat": lambda folder: disk_image(folder, "vfat", nbytes=96 * MIB),
}


@pytest.fixture(params=["io_uring", "threads", "reference"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The test runs on an engine with this backend."""
    kind = "reference" if request.param == "reference" else "native"
    monkeypatch.setenv("SUCROSE_ENGINE", kind)
    if kind == "native":
        try:
            with override_options(engine="native", io_backend=request.param):
                engine = make_engine(current_options())
        except ConfigError as error:
            pytest.skip(f"no such backend here: {error}")
        monkeypatch.setitem(sucrose.engine._shared, "native", engine)
    with override_options(direct_min_nbytes=4096):
        yield str(request.param)


@pytest.fixture(params=MOUNTS)
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    mount: AbstractContextManager[Path] = MOUNTS[request.param](tmp_path / request.param)
    with mount as folder:
        yield folder


def state(value: float, numel: int = 400_000) -> dict[str, Any]:
    return {"state": StateDict(tensor=torch.full((numel,), value), small=torch.full((3,), value), object=(value, "é"))}


def test_everything_works_and_leaves_nothing(backend: str, mounted: Path) -> None:
    target = mounted / "s"
    Snapshot.take(target, state(1.0))
    Snapshot.take(target, state(2.0), overwrite=True)
    Snapshot.async_take(target, state(3.0), overwrite=True).wait()
    found = state(0.0)
    Snapshot(target).restore(found)
    assert_same(dict(found["state"]), dict(state(3.0)["state"]))
    assert Snapshot(target).verify()
    catalog = Catalog(mounted / "catalog", keep_last=2)
    for step in (1, 2, 3):
        catalog.save(step, state(float(step)))
    catalog.collect()
    found = state(0.0)
    newest = catalog.restore_latest(found)
    assert newest is not None
    assert (newest.step, catalog.steps()) == (3, [2, 3])
    assert_same(dict(found["state"]), dict(state(3.0)["state"]))
    sucrose.save({"tensor": torch.arange(300_000)}, mounted / "f.pt")
    sucrose.save({"tensor": torch.arange(400_000)}, mounted / "f.pt")
    assert_same(sucrose.load(mounted / "f.pt"), {"tensor": torch.arange(400_000)})
    assert not list(mounted.rglob(".*.tmp-*"))


def test_what_can_only_be_read_is_restored_and_refuses_saves(backend: str, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", nbytes=64 * MIB) as folder:
        Snapshot.take(folder / "s", state(1.0))
        Catalog(folder / "catalog").save(1, state(1.0))
        newest = Catalog(folder / "catalog").save(2, state(2.0))
        sucrose.save({"tensor": torch.arange(10)}, folder / "f.pt")
        before = sorted(folder.rglob("*"))
        with open(f"{newest.path}/.snapshot_metadata", "r+b") as file:
            file.write(b"x")
        with read_only(folder):
            found = state(0.0)
            Snapshot(folder / "s").restore(found)
            assert_same(dict(found["state"]), dict(state(1.0)["state"]))
            restored = Catalog(folder / "catalog").restore_latest(found)  # the newest cannot go to quarantine
            assert restored is not None
            assert restored.step == 1
            assert_same(sucrose.load(folder / "f.pt"), {"tensor": torch.arange(10)})
            saves = [
                lambda: Snapshot.take(folder / "s", state(3.0), overwrite=True),
                lambda: Snapshot.async_take(folder / "s", state(3.0), overwrite=True).wait(),
                lambda: Catalog(folder / "catalog").save(3, state(3.0)),
                lambda: sucrose.save(1, folder / "f.pt"),
            ]
            for save in saves:
                with pytest.raises(OSError, match=os.strerror(errno.EROFS)) as caught:
                    save()
                assert caught.value.errno == errno.EROFS
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("backend", ["io_uring", "threads"], indirect=True)
def test_direct_writes_that_are_refused_when_they_come_go_through_the_page_cache(
    backend: str, tmp_path: Path, nth: int
) -> None:
    testing = pytest.importorskip("sucrose.testing")
    values = torch.arange(4 << 20)  # 32 MiB: several chunks
    with testing.inject("pwrite", nth=nth, errno=errno.EINVAL) as injection:
        sucrose.save(values, tmp_path / "f.pt")  # the first write asks whether direct ones are taken
    assert injection.hits > 0
    assert_same(torch.load(tmp_path / "f.pt"), values)
    assert os.listdir(tmp_path) == ["f.pt"]
