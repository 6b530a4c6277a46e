"""Symbolic links, pipes and devices where files of a snapshot should be, and hard links."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from forged_snapshots import nothing_happens

import sucrose
from sucrose import Catalog, Snapshot, StateDict
from sucrose.errors import CorruptionError
from sucrose.scenarios.checkpoints.inspection import inspect
from sucrose.storage import StagedDirectory, local

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = ["data/0_0.safetensors", "objects/0/state/leaf", ".snapshot_metadata", ".snapshot_index"]


def state(value: float = 1.0) -> dict[str, Any]:
    return {"state": StateDict(weight=torch.full((3,), value), leaf=(value,))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Snapshot.take(tmp_path / "s", state())
    return tmp_path / "s"


def to_link(path: Path) -> None:
    """The same contents, elsewhere: digests would fit."""
    outside = path.with_name("moved")
    shutil.move(path, outside)
    path.symlink_to(outside)


def to_absolute_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_device_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


KINDS = [to_link, to_absolute_link, to_pipe, to_device_link, to_folder]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("replace", KINDS, ids=lambda replace: replace.__name__)
def test_what_is_no_regular_file_of_the_snapshot_is_not_opened(
    folder: Path, file: str, replace: Callable[[Path], None]
) -> None:
    replace(folder / file)
    target = state(0.0)
    with nothing_happens(folder.parent), pytest.raises(CorruptionError) as caught:
        Snapshot(folder).restore(target)
    assert caught.value.path == str(folder / file)
    assert not target["state"]["weight"].any()
    with nothing_happens(folder.parent):
        report = Snapshot(folder).verify() if file.startswith(".") else _verified(folder)
    assert not report


def _verified(folder: Path) -> object:
    try:
        return Snapshot(folder).verify()
    except CorruptionError:
        return None


def test_a_link_in_the_place_of_a_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "data", tmp_path / "elsewhere")
    (folder / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptionError, match="symbolic link") as caught:
        Snapshot(folder).read_object("0/state/weight")
    assert caught.value.path == str(folder / "data")


def test_the_snapshot_itself_may_be_a_link_of_the_users(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("s")
    assert Snapshot(tmp_path / "latest").verify()
    assert Snapshot(tmp_path / "latest").read_object("0/state/leaf") == (1.0,)


@pytest.mark.parametrize("replace", KINDS, ids=lambda replace: replace.__name__)
@pytest.mark.parametrize("file", [".generation", ".snapshot_metadata", ".snapshot_index", "data/0_0.safetensors"])
def test_a_catalog_sets_such_a_generation_aside(tmp_path: Path, file: str, replace: Callable[[Path], None]) -> None:
    catalog = Catalog(tmp_path / "c")
    catalog.save(1, state(1.0))
    newest = catalog.save(2, state(2.0))
    replace(Path(newest.path) / file)
    target = state(0.0)
    found = catalog.restore_latest(target, allow_pickle=True)
    assert found is not None
    assert found.step == 1
    assert target["state"]["weight"].tolist() == [1.0] * 3
    assert [quarantined.name for quarantined in catalog.quarantined()] == [newest.id]


@pytest.mark.parametrize("replace", [to_pipe, to_device_link, to_absolute_link], ids=lambda replace: replace.__name__)
def test_the_reason_of_a_quarantine_is_read_from_a_file_or_not_at_all(
    tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    catalog = Catalog(tmp_path / "c")
    catalog.save(1, state())
    path = Path(catalog.save(2, state()).path)
    (path / ".generation").write_bytes(b"damaged")
    catalog.latest()
    [quarantined] = catalog.quarantined()
    replace(Path(quarantined.path) / ".reason")
    [again] = catalog.quarantined()
    assert again.reason.startswith("unknown")


def test_a_pipe_among_the_checkpoints_of_a_scenario_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "case_e1.pt")
    with pytest.raises(CorruptionError, match="no regular file"):
        inspect(str(tmp_path / "case_e1.pt"), is_snapshot=False)


def test_a_folder_planted_under_the_hidden_name_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that many may write to, somebody guesses the name: what is there is not taken over."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / f".s.tmp-{'0' * 32}").symlink_to(victim)

    class Guessed:
        hex = "0" * 32

    monkeypatch.setattr(local.uuid, "uuid4", Guessed)
    with nothing_happens(tmp_path), pytest.raises(FileExistsError):
        StagedDirectory(str(tmp_path / "s"))


def test_saving_replaces_a_hard_link_and_leaves_what_it_shares(tmp_path: Path) -> None:
    """Nothing is ever written into a file that is there: it may be somebody else's, under another name."""
    (tmp_path / "private").write_text("private")
    os.link(tmp_path / "private", tmp_path / "f.pt")
    sucrose.save({"w": torch.ones(2)}, tmp_path / "f.pt")
    assert (tmp_path / "private").read_text() == "private"
    assert (tmp_path / "private").stat().st_nlink == 1
    Snapshot.take(tmp_path / "s", state(1.0))
    kept = tmp_path / "kept"
    os.link(tmp_path / "s" / FILES[0], kept)
    before = kept.read_bytes()
    Snapshot.take(tmp_path / "s", state(2.0), overwrite=True)
    assert kept.read_bytes() == before


def test_files_are_created_with_the_umask_of_the_user(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Snapshot.take(tmp_path / "s", state())
        sucrose.save({"w": torch.ones(2)}, tmp_path / "f.pt")
    finally:
        os.umask(before)
    for path in (tmp_path / "s", *(tmp_path / "s").rglob("*"), tmp_path / "f.pt"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_writer_that_waits_at_the_other_end_of_a_pipe_is_not_listened_to(folder: Path) -> None:
    content = (folder / FILES[0]).read_bytes()
    to_pipe(folder / FILES[0])
    fd = os.open(folder / FILES[0], os.O_RDWR | os.O_NONBLOCK)  # a writer and a reader: opening would not wait
    writing = threading.Thread(target=lambda: os.write(fd, content[:4096]))
    writing.start()
    try:
        with pytest.raises(CorruptionError, match="no regular file"):
            Snapshot(folder).read_object("0/state/weight")
    finally:
        writing.join()
        os.close(fd)


MARKS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, private: path.symlink_to(private),
    "hard link": lambda path, private: os.link(private, path),
    "pipe": lambda path, private: os.mkfifo(path),
}


@pytest.mark.parametrize("kind", MARKS)
def test_a_pin_is_not_written_through_what_somebody_has_put_there(tmp_path: Path, kind: str) -> None:
    private = tmp_path / "private"
    private.write_bytes(b"mine")
    catalog = Catalog(tmp_path / "c")
    generation = catalog.save(1, state())
    (tmp_path / "c" / ".pins").mkdir()
    MARKS[kind](tmp_path / "c" / ".pins" / f"{generation.id}.pinned", private)
    with suppress(OSError):
        catalog.pin(1)
    assert private.read_bytes() == b"mine"


def test_pins_are_not_written_to_another_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    catalog = Catalog(tmp_path / "c")
    catalog.save(1, state())
    (tmp_path / "c" / ".pins").symlink_to(tmp_path / "elsewhere")
    with nothing_happens(tmp_path / "elsewhere"), pytest.raises(NotADirectoryError):
        catalog.pin(1)


@pytest.mark.parametrize("kind", MARKS)
def test_why_a_generation_is_broken_is_not_written_through_it(tmp_path: Path, kind: str) -> None:
    private = tmp_path / "private"
    private.write_bytes(b"mine")
    catalog = Catalog(tmp_path / "c")
    catalog.save(1, state())
    path = Path(catalog.save(2, state()).path)
    (path / ".generation").write_bytes(b"damaged")
    MARKS[kind](path / ".reason", private)
    found = catalog.latest()
    assert found is not None
    assert found.step == 1
    assert ".generation" in catalog.quarantined()[0].reason
    assert private.read_bytes() == b"mine"


def test_a_pipe_in_a_generation_holds_no_collection_up(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "c", keep_last=1)
    catalog.save(1, state(), pinned=True)
    catalog.collect()
    newest = catalog.save(2, state(), durable=False)
    os.mkfifo(Path(newest.path) / "pipe")
    catalog.unpin(1)
    catalog.collect()
    assert catalog.steps() == [2]


@pytest.mark.parametrize("kind", MARKS)
def test_a_note_in_a_base_is_not_written_through_what_is_there(tmp_path: Path, kind: str) -> None:
    """Its name can be guessed: it is that of the snapshot that is about to be taken."""
    private = tmp_path / "private"
    private.write_bytes(b"mine")
    base = Snapshot.take(tmp_path / "base", state())
    Snapshot.take(tmp_path / "s", state(), base=base)
    [note] = (tmp_path / "base" / ".dependents").iterdir()
    shutil.rmtree(tmp_path / "s")
    note.unlink()
    MARKS[kind](note, private)
    Snapshot.take(tmp_path / "s", state(), base=base)
    assert private.read_bytes() == b"mine"
    assert note.read_bytes() == b"../s"


def test_notes_are_not_written_to_another_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    base = Snapshot.take(tmp_path / "base", state())
    (tmp_path / "base" / ".dependents").symlink_to(tmp_path / "elsewhere")
    with nothing_happens(tmp_path / "elsewhere"):
        Snapshot.take(tmp_path / "s", state(), base=base)


def test_notes_that_are_none_do_not_matter(tmp_path: Path) -> None:
    notes = tmp_path / "s" / ".dependents"
    Snapshot.take(tmp_path / "s", state())
    notes.mkdir()
    os.mkfifo(notes / "pipe")
    (notes / "zero").write_bytes(b"../a\0b")
    (notes / "long").write_bytes(b"a" * 5000)
    (notes / "link").symlink_to("/dev/zero")
    (notes / "folder").mkdir()
    Snapshot.take(tmp_path / "s", state(2.0), overwrite=True)
    assert Snapshot(tmp_path / "s").read_object("0/state/weight").tolist() == [2.0] * 3
