"""A broken generation goes to quarantine, and the one before it is used; what is not its fault is an error."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sucrose import Catalog, Generation, StateDict
from sucrose.catalog import directory as directory_module
from sucrose.errors import (
    CorruptionError,
    FormatVersionError,
    IncompleteSnapshotError,
    StateMismatchError,
    UnsafeObjectError,
)
from sucrose.formats.generation import GENERATION_FILE
from sucrose.formats.index import INDEX_FILE
from sucrose.formats.manifest import METADATA_FILE
from sucrose.storage import LocalDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

DATA_FILE = "data/0_0.safetensors"


def state(value: float = 0.0, *, numel: int = 1000) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((numel,), float(value)), words={"some", "words"})}


def flip(path: Path, offset: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def cut(path: Path, nbytes: int = 1) -> None:
    os.truncate(path, path.stat().st_size - nbytes)


def an_object(generation: Path) -> Path:
    return next((generation / "objects").rglob("words*"))


STRUCTURE: dict[str, Callable[[Path], object]] = {
    "record flipped": lambda path: flip(path / GENERATION_FILE, 5),
    "record cut": lambda path: cut(path / GENERATION_FILE),
    "record empty": lambda path: (path / GENERATION_FILE).write_bytes(b""),
    "record missing": lambda path: (path / GENERATION_FILE).unlink(),
    "record a directory": lambda path: [(path / GENERATION_FILE).unlink(), (path / GENERATION_FILE).mkdir()],
    "index flipped": lambda path: flip(path / INDEX_FILE, 9),
    "index cut": lambda path: cut(path / INDEX_FILE, 40),
    "index missing": lambda path: (path / INDEX_FILE).unlink(),
    "metadata flipped": lambda path: flip(path / METADATA_FILE, 9),
    "metadata missing": lambda path: (path / METADATA_FILE).unlink(),
    "metadata empty": lambda path: (path / METADATA_FILE).write_bytes(b""),
    "data cut": lambda path: cut(path / DATA_FILE),
    "data longer": lambda path: cut(path / DATA_FILE, -1),
    "data missing": lambda path: (path / DATA_FILE).unlink(),
    "data folder missing": lambda path: shutil.rmtree(path / "data"),
    "data folder a file": lambda path: [shutil.rmtree(path / "data"), (path / "data").write_bytes(b"")],
    "object missing": lambda path: an_object(path).unlink(),
    "object cut": lambda path: cut(an_object(path)),
    "data a symbolic link to nowhere": lambda path: [(path / DATA_FILE).unlink(), (path / DATA_FILE).symlink_to("x")],
}
CONTENTS: dict[str, Callable[[Path], object]] = {
    "data flipped": lambda path: flip(path / DATA_FILE),
    "object flipped": lambda path: flip(an_object(path)),
}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(tmp_path)
    for step in (1, 2, 3):
        catalog.save(step, state(step))
    return catalog


def newest(catalog: Catalog) -> Path:
    return Path(catalog.generations()[-1].path)


def check_quarantine(catalog: Catalog, name: str, log: pytest.LogCaptureFixture) -> None:
    [quarantined] = catalog.quarantined()
    assert quarantined.name == name
    assert quarantined.path == os.path.join(catalog.root, "quarantine", name)
    assert quarantined.reason
    assert "\n" not in quarantined.reason
    [warning] = [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
    assert name in warning
    assert quarantined.reason in warning
    assert "\n" not in warning
    assert not os.path.exists(os.path.join(catalog.root, name))
    assert os.listdir(quarantined.path)


@pytest.mark.parametrize("damage", STRUCTURE)
def test_latest_passes_over_a_generation_of_which_something_is_missing_or_changed(
    catalog: Catalog, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = newest(catalog)
    STRUCTURE[damage](path)
    found = catalog.latest()
    assert found is not None
    assert found.step == 2
    check_quarantine(catalog, path.name, caplog)
    assert catalog.steps() == [1, 2]


@pytest.mark.parametrize("damage", STRUCTURE | CONTENTS)
def test_a_restore_falls_back_to_the_generation_before(
    catalog: Catalog, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = newest(catalog)
    (STRUCTURE | CONTENTS)[damage](path)
    found = state()
    generation = catalog.restore_latest(found, allow_pickle=True)
    assert generation is not None
    assert generation.step == found["state"]["value"] == 2
    assert found["state"]["tensor"].eq(2).all()
    check_quarantine(catalog, path.name, caplog)
    again = state()
    assert catalog.restore_latest(again, allow_pickle=True) == generation
    assert len(caplog.records) == 1


@pytest.mark.parametrize("damage", CONTENTS)
def test_latest_reads_the_contents_where_it_is_asked_to(
    catalog: Catalog, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = newest(catalog)
    CONTENTS[damage](path)
    unread = catalog.latest()
    assert unread is not None
    assert unread.step == 3
    found = catalog.latest(verify=True)
    assert found is not None
    assert found.step == 2
    check_quarantine(catalog, path.name, caplog)


def test_several_broken_ones_are_passed_over(catalog: Catalog) -> None:
    for generation, damage in zip(catalog.generations()[1:], ("data flipped", "record flipped"), strict=True):
        (STRUCTURE | CONTENTS)[damage](Path(generation.path))
    found = state()
    generation = catalog.restore_latest(found, allow_pickle=True)
    assert generation is not None
    assert generation.step == found["state"]["value"] == 1
    assert len(catalog.quarantined()) == 2


def test_what_is_in_quarantine_is_never_removed(catalog: Catalog) -> None:
    flip(newest(catalog) / DATA_FILE)
    catalog.restore_latest(state(), allow_pickle=True)
    [quarantined] = catalog.quarantined()
    keeping = Catalog(catalog.root, keep_last=1)
    keeping.save(4, state(4))
    keeping.collect()
    assert keeping.steps() == [4]
    assert keeping.quarantined() == [quarantined]
    assert (Path(quarantined.path) / DATA_FILE).exists()


def test_a_catalog_without_any_sound_generation_is_like_an_empty_one(catalog: Catalog) -> None:
    for generation in catalog.generations():
        cut(Path(generation.path) / DATA_FILE)
    untouched = state(-1.0)
    assert catalog.restore_latest(untouched, allow_pickle=True) is None
    assert untouched["state"]["tensor"].eq(-1).all()
    assert len(catalog.quarantined()) == 3
    assert catalog.save(1, state(7)) == catalog.latest()


def test_tensors_that_are_overwritten_by_the_last_generation_are_an_error(catalog: Catalog) -> None:
    for generation in catalog.generations():
        flip(Path(generation.path) / DATA_FILE)
    with pytest.raises(CorruptionError, match="may have been overwritten") as caught:
        catalog.restore_latest(state(), allow_pickle=True)
    assert caught.value.path == catalog.root


def test_an_older_generation_that_does_not_fit_says_that_tensors_were_overwritten(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    catalog.save(1, state(1, numel=500))
    broken = catalog.save(2, state(2))
    flip(Path(broken.path) / DATA_FILE)
    with pytest.raises(StateMismatchError, match="may have been overwritten") as caught:
        catalog.restore_latest(state(), allow_pickle=True)
    assert broken.id in str(caught.value)
    assert caught.value.key == "0/state/tensor"
    assert catalog.steps() == [1]


def mismatch(catalog: Catalog) -> None:
    catalog.restore_latest(state(numel=10), allow_pickle=True)


def unsafe_object(catalog: Catalog) -> None:
    catalog.save(3, {"state": StateDict(path=Path("an object of any class"))})
    catalog.restore_latest({"state": StateDict(path=None)})


@pytest.mark.parametrize(("use", "error"), [(mismatch, StateMismatchError), (unsafe_object, UnsafeObjectError)])
def test_a_state_that_does_not_fit_is_the_programs_error_and_quarantines_nothing(
    catalog: Catalog, use: Callable[[Catalog], None], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        use(catalog)
    assert "overwritten" not in str(caught.value)
    assert catalog.quarantined() == []
    assert catalog.steps() == [1, 2, 3]


class LoadsFromElsewhere(StateDict):
    """Its own file is missing or broken, not the generation's."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise self["error"]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "missing", "/elsewhere"),
        OSError(errno.EIO, "disk", "/elsewhere"),
        CorruptionError("broken", path="/elsewhere"),
        IncompleteSnapshotError(errno.ENOENT, "broken", "/elsewhere", path="/elsewhere"),
        ValueError("of the program"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_the_programs_own_files_quarantine_nothing(tmp_path: Path, error: Exception) -> None:
    catalog = Catalog(tmp_path)
    catalog.save(1, {"own": StateDict(value=1)})
    with pytest.raises(type(error)) as caught:
        catalog.restore_latest({"own": LoadsFromElsewhere(error=error)})
    assert caught.value is error
    assert catalog.steps() == [1]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM])
@pytest.mark.parametrize("file", [GENERATION_FILE, INDEX_FILE, METADATA_FILE])
def test_what_this_process_may_not_or_cannot_read_is_raised(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, number: int, file: str
) -> None:
    refuse(monkeypatch, file, number)
    for use in (catalog.latest, lambda: catalog.restore_latest(state(), allow_pickle=True)):
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            use()
        assert caught.value.errno == number
    monkeypatch.undo()
    assert catalog.quarantined() == []
    assert catalog.steps() == [1, 2, 3]


@pytest.mark.parametrize("number", [errno.EIO, errno.EUCLEAN, errno.EBADMSG])
@pytest.mark.parametrize("file", [GENERATION_FILE, INDEX_FILE, METADATA_FILE])
def test_what_the_disk_does_not_give_back_is_damage(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, number: int, file: str
) -> None:
    path = newest(catalog)
    refuse(monkeypatch, os.path.join(path, file), number)
    found = catalog.latest()
    assert found is not None
    assert found.step == 2
    [quarantined] = catalog.quarantined()
    assert quarantined.name == path.name
    assert os.strerror(number) in quarantined.reason


def refuse(monkeypatch: pytest.MonkeyPatch, ending: str, number: int) -> None:
    """Reading files whose path ends so fails, without the name of the file as read(2) has none."""
    import builtins

    real = builtins.open

    def opened(path: Any, *args: Any, **kwargs: Any) -> Any:
        file = real(path, *args, **kwargs)
        if str(path).endswith(ending) and "r" in (args[0] if args else "r"):
            file.close()
            raise OSError(number, os.strerror(number))
        return file

    monkeypatch.setattr(builtins, "open", opened)


def test_an_index_of_a_newer_release_is_raised(catalog: Catalog) -> None:
    from xxhash import xxh3_128_hexdigest

    path = newest(catalog)
    line = b'{"format_version":3}'
    (path / INDEX_FILE).write_bytes(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n")
    for use in (catalog.latest, lambda: catalog.restore_latest(state(), allow_pickle=True)):
        with pytest.raises(FormatVersionError, match="version 3"):
            use()
    assert catalog.quarantined() == []


def test_an_older_generation_replayed_under_the_name_of_a_newer_one_is_found(catalog: Catalog) -> None:
    older, newer = catalog.generations()[1:]
    for file in (DATA_FILE, "objects"):
        target = Path(newer.path) / file
        if target.is_dir():
            shutil.rmtree(target)
            shutil.copytree(Path(older.path) / file, target)
        else:
            shutil.copyfile(Path(older.path) / file, target)
    found = state()
    generation = catalog.restore_latest(found, allow_pickle=True)
    assert generation == older
    assert [quarantined.name for quarantined in catalog.quarantined()] == [newer.id]


def test_a_generation_that_disappears_while_it_is_looked_at_is_not_broken(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = directory_module.check_structure

    def moved_meanwhile(storage: LocalDirectory, **options: Any) -> Any:
        monkeypatch.undo()
        shutil.move(storage.root, os.path.join(catalog.root, "taken by somebody"))
        return check(storage, **options)

    monkeypatch.setattr(directory_module, "check_structure", moved_meanwhile)
    found = catalog.latest()
    assert found is not None
    assert found.step == 2
    assert catalog.quarantined() == []


def test_where_a_broken_one_cannot_be_moved_it_is_passed_over_all_the_same(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(catalog)
    flip(path / DATA_FILE)
    (Path(catalog.root) / "quarantine").write_text("a file is in the way")
    found = state()
    generation = catalog.restore_latest(found, allow_pickle=True)
    assert generation is not None
    assert generation.step == found["state"]["value"] == 2
    [warning] = caplog.messages
    assert path.name in warning
    assert "cannot be moved" in warning
    assert path.exists()


def test_a_broken_record_that_cannot_be_moved_is_told_of_once(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = (Path(generation.path) for generation in catalog.generations())
    cut(third / DATA_FILE)
    cut(second / GENERATION_FILE, 20)
    (Path(catalog.root) / "quarantine").write_text("a file is in the way")
    found = catalog.latest()
    assert found is not None
    assert found.id == first.name
    assert len(caplog.messages) == 2
    assert any(second.name in message for message in caplog.messages)
    assert any(third.name in message for message in caplog.messages)


def test_a_root_whose_name_is_no_text_has_a_quarantine_too(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / os.fsdecode(b"\xff\xe9"))
    old, new = (catalog.save(step, state(step)) for step in (1, 2))
    cut(Path(new.path) / DATA_FILE)
    found = state()
    assert catalog.restore_latest(found, allow_pickle=True) == old
    assert found["state"]["value"] == 1
    [quarantined] = catalog.quarantined()
    assert quarantined.name == new.id
    assert r"\udcff\udce9" in quarantined.reason


def test_the_reason_is_not_written_through_a_symbolic_link(catalog: Catalog) -> None:
    path = newest(catalog)
    precious = Path(catalog.root) / "precious"
    precious.write_text("mine")
    (path / ".reason").symlink_to(precious)
    cut(path / DATA_FILE)
    assert catalog.latest() == catalog.generations()[-1]
    assert precious.read_text() == "mine"
    assert [quarantined.name for quarantined in catalog.quarantined()] == [path.name]


def test_a_reader_of_a_generation_holds_it_while_it_verifies(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `restore_latest` has chosen is there until it is read, whoever collects."""
    keeping = Catalog(catalog.root, keep_last=1)
    removed: list[Generation] = []

    class Collects(StateDict):
        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            keeping.save(9, state(9))
            removed.extend(keeping.collect().removed)
            super().load_state_dict(state_dict)

    found = Collects(**state()["state"])
    generation = catalog.restore_latest({"state": found}, allow_pickle=True)
    assert generation is not None
    assert generation.step == found["value"] == 3
    assert generation not in removed
    assert keeping.steps() == [3, 9]
    keeping.collect()
    assert keeping.steps() == [9]
