"""Any byte of any file changed, cut, exchanged or replayed is found, and what is not touched can still be read."""

from __future__ import annotations

import json
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash
from bitwise import assert_same

import sucrose
from sucrose import Catalog, Snapshot, StateDict
from sucrose.engine import CHUNK_NBYTES
from sucrose.errors import CorruptionError, FormatVersionError, SucroseError
from sucrose.options import override_options

TENSORS = {
    "first": torch.arange(CHUNK_NBYTES // 8 + 1000),
    "middle": torch.arange(CHUNK_NBYTES // 4 + 3000, dtype=torch.int32),
    "last": torch.arange(1001, dtype=torch.int16),
}
DATA = "data/0_0.safetensors"
INDEX, METADATA = ".snapshot_index", ".snapshot_metadata"


def small_state(value: int) -> dict[str, Any]:
    tensors = {name: torch.full((20,), value) for name in ("a", "b")}
    return {"state": StateDict(**tensors, object=(value, "é"), number=value)}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "s"
    Snapshot.take(path, {"state": StateDict(**TENSORS)})
    return path


@pytest.fixture
def folder(large: Path, tmp_path: Path) -> Path:
    shutil.copytree(large, tmp_path / "s")
    return tmp_path / "s"


def ranges_of(folder: Path) -> dict[str, tuple[int, int]]:
    manifest = json.loads((folder / METADATA).read_text())["manifest"]
    return {name: tuple(manifest[f"0/state/{name}"]["byte_range"]) for name in TENSORS}


def changed(content: bytes, offset: int, mask: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ mask]) + content[offset + 1 :]


def assert_refused(folder: Path) -> CorruptionError:
    target = small_state(0)
    with pytest.raises(CorruptionError) as caught:
        Snapshot(folder).restore(target)
    assert_same(dict(target["state"]), dict(small_state(0)["state"]))
    assert not Snapshot(folder).verify()
    return caught.value


@pytest.mark.parametrize("name", [METADATA, INDEX])
def test_every_byte_of_the_records_counts(tmp_path: Path, name: str) -> None:
    Snapshot.take(tmp_path / "s", small_state(1))
    content, masks = (tmp_path / "s" / name).read_bytes(), random.Random(name)
    for offset in range(len(content)):
        (tmp_path / "s" / name).write_bytes(changed(content, offset, masks.randrange(1, 256)))
        error = assert_refused(tmp_path / "s")
        assert Path(str(error.path)).name in (METADATA, INDEX), offset
    (tmp_path / "s" / name).write_bytes(content)
    assert Snapshot(tmp_path / "s").verify()


@pytest.mark.parametrize("name", [METADATA, INDEX, ".generation"])
def test_a_generation_with_a_changed_byte_gives_way_to_the_one_before(tmp_path: Path, name: str) -> None:
    catalog = Catalog(tmp_path / "catalog")
    catalog.save(1, small_state(1))
    path = Path(catalog.save(2, small_state(2)).path)
    shutil.copytree(path, tmp_path / "intact")
    content, masks = (path / name).read_bytes(), random.Random(name)
    for offset in range(0, len(content), 1 if name == ".generation" else 7):
        (path / name).write_bytes(changed(content, offset, masks.randrange(1, 256)))
        found = small_state(0)
        with suppress(FormatVersionError):  # the changed byte was the version's
            newest = Catalog(tmp_path / "catalog").restore_latest(found)
            assert newest is not None, offset
            assert_same(dict(found["state"]), dict(small_state(newest.step)["state"]))
            assert newest.step == 1, offset
        shutil.rmtree(tmp_path / "catalog" / "quarantine", ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(tmp_path / "intact", path)
    newest = Catalog(tmp_path / "catalog").restore_latest(small_state(0))
    assert newest is not None
    assert newest.step == 2


def test_no_byte_of_a_single_file_changes_a_value(tmp_path: Path) -> None:
    value = {"weight": torch.arange(50), "step": 7, "name": "é"}
    sucrose.save(value, tmp_path / "f.pt")
    content, masks, refused = (tmp_path / "f.pt").read_bytes(), random.Random(3), 0
    for offset in range(len(content)):
        (tmp_path / "f.pt").write_bytes(changed(content, offset, masks.randrange(1, 256)))
        try:
            found = sucrose.load(tmp_path / "f.pt")
        except SucroseError:
            refused += 1
        else:
            assert_same(found, value, f"byte {offset}")  # it was padding, or a field that nobody reads
    assert refused > len(content) // 4


def test_a_changed_byte_of_the_data_names_the_tensor_and_leaves_the_others_readable(folder: Path) -> None:
    content, ranges = (folder / DATA).read_bytes(), ranges_of(folder)
    choice = random.Random(5)
    boundaries = {edge + by for edges in ranges.values() for edge in edges for by in (-1, 0)}
    offsets = sorted({0, len(content) - 1, *boundaries} - {len(content)}) + [
        choice.randrange(len(content)) for _ in range(30)
    ]
    for offset in offsets:
        with open(folder / DATA, "r+b") as file:
            file.seek(offset)
            file.write(bytes([content[offset] ^ choice.randrange(1, 256)]))
        chunk = offset // CHUNK_NBYTES
        for name, (begin, end) in ranges.items():
            if begin // CHUNK_NBYTES <= chunk <= (end - 1) // CHUNK_NBYTES:
                with pytest.raises(CorruptionError, match=f"chunk {chunk} of ") as caught:
                    Snapshot(folder).read_object(f"0/state/{name}")
                assert (caught.value.key, caught.value.offset) == (f"0/state/{name}", chunk * CHUNK_NBYTES)
            else:
                assert_same(Snapshot(folder).read_object(f"0/state/{name}"), TENSORS[name])
        with pytest.raises(CorruptionError):
            Snapshot(folder).restore({"state": StateDict(**{k: torch.zeros_like(v) for k, v in TENSORS.items()})})
        assert [problem.offset for problem in Snapshot(folder).verify().problems] == [chunk * CHUNK_NBYTES]
        with open(folder / DATA, "r+b") as file:
            file.seek(offset)
            file.write(content[offset : offset + 1])
    assert Snapshot(folder).verify()


def test_cut_at_any_boundary_or_beside_it_and_extended(folder: Path) -> None:
    content = (folder / DATA).read_bytes()
    edges = {0, 8, CHUNK_NBYTES, 2 * CHUNK_NBYTES, len(content)}
    edges |= {edge for pair in ranges_of(folder).values() for edge in pair}
    lengths = {edge + by for edge in edges for by in (-1, 0, 1)} | {len(content) + 4096, len(content) + CHUNK_NBYTES}
    for length in sorted(lengths - {-1, len(content)}):
        (folder / DATA).write_bytes(content[:length].ljust(length, b"\0"))
        with pytest.raises(CorruptionError) as caught:
            Snapshot(folder).restore({"state": StateDict(**{k: torch.zeros_like(v) for k, v in TENSORS.items()})})
        assert caught.value.path == str(folder / DATA), length
        assert [problem.file for problem in Snapshot(folder).verify().problems] == [DATA], length


def test_two_chunks_that_have_changed_places_are_both_found(folder: Path) -> None:
    content = (folder / DATA).read_bytes()
    first, second = content[:CHUNK_NBYTES], content[CHUNK_NBYTES : 2 * CHUNK_NBYTES]
    (folder / DATA).write_bytes(second + first + content[2 * CHUNK_NBYTES :])
    with pytest.raises(CorruptionError, match="chunk 0 of '0/state/first'"):
        Snapshot(folder).read_object("0/state/first")
    assert [problem.offset for problem in Snapshot(folder).verify().problems] == [0, CHUNK_NBYTES]
    assert_same(Snapshot(folder).read_object("0/state/last"), TENSORS["last"])


def test_two_files_of_one_size_that_have_changed_places_are_both_found(tmp_path: Path) -> None:
    with override_options(max_file_nbytes=100):
        Snapshot.take(tmp_path / "s", small_state(1))
    one, two = (tmp_path / "s" / f"data/0_{number}.safetensors" for number in (0, 1))
    assert one.stat().st_size == two.stat().st_size
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
    with pytest.raises(CorruptionError):
        Snapshot(tmp_path / "s").restore(small_state(0))
    found = {problem.file for problem in Snapshot(tmp_path / "s").verify().problems}
    assert found == {"data/0_0.safetensors", "data/0_1.safetensors"}


def test_any_file_of_an_older_snapshot_that_is_replayed_into_a_newer_one_is_found(tmp_path: Path) -> None:
    Snapshot.take(tmp_path / "older", small_state(1))
    Snapshot.take(tmp_path / "newer", small_state(2))
    names = [path.relative_to(tmp_path / "newer") for path in (tmp_path / "newer").rglob("*") if path.is_file()]
    assert len(names) == 4
    for name in names:
        replayed = tmp_path / "older" / name
        kept = (tmp_path / "newer" / name).read_bytes()
        assert len(replayed.read_bytes()) == len(kept)
        shutil.copy(replayed, tmp_path / "newer" / name)
        with pytest.raises(CorruptionError):
            Snapshot(tmp_path / "newer").restore(small_state(0))
        assert not Snapshot(tmp_path / "newer").verify()
        (tmp_path / "newer" / name).write_bytes(kept)
    assert Snapshot(tmp_path / "newer").verify()


def read_index(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / INDEX).read_bytes().partition(b"\n")[0]))


def write_index(folder: Path, index: dict[str, Any]) -> None:
    line = json.dumps(index).encode()
    (folder / INDEX).write_bytes(line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n")


MISSING = {
    "of a data file": lambda index: index["files"].pop(DATA),
    "of an object": lambda index: index["files"].pop("objects/0/state/object"),
    "of all files": lambda index: index["files"].clear(),
    "all of a data file's chunks": lambda index: index["files"][DATA].update(digests=""),
    "half of a chunk's": lambda index: index["files"][DATA].update(digests=index["files"][DATA]["digests"][:16]),
    "one too many": lambda index: index["files"][DATA].update(digests=index["files"][DATA]["digests"] * 2),
    "of the metadata": lambda index: index["metadata"].update(digests=""),
    "the metadata's record": lambda index: index.pop("metadata"),
    "the list of files": lambda index: index.pop("files"),
    "the kind of digest": lambda index: index.pop("digest"),
    "another kind of digest": lambda index: index.update(digest="crc32"),
}


@pytest.mark.parametrize("what", MISSING)
def test_a_digest_that_is_missing_where_one_is_due_is_an_error(each_engine: str, tmp_path: Path, what: str) -> None:
    Snapshot.take(tmp_path / "s", small_state(1))
    index = read_index(tmp_path / "s")
    MISSING[what](index)
    write_index(tmp_path / "s", index)
    target = small_state(0)
    with pytest.raises(SucroseError) as caught:
        Snapshot(tmp_path / "s").restore(target)
    assert caught.value.path is not None
    assert os.fspath(caught.value.path).startswith(str(tmp_path / "s"))
    assert_same(dict(target["state"]), dict(small_state(0)["state"]))
    with pytest.raises(SucroseError):
        Snapshot(tmp_path / "s").get_state_dict_for_key("state")
    assert not Snapshot(tmp_path / "s").verify()
