"""JSON and YAML that say more, or something else, than they seem to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from forged_snapshots import forge, nothing_happens, write_forged, write_index_line

from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError, SucroseError, UnsupportedError
from sucrose.formats import limits
from sucrose.formats.generation import decode_generation
from sucrose.formats.manifest import SnapshotMetadata, decode_metadata
from sucrose.scenarios.record import decode_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Snapshot.take(tmp_path / "s", {"state": StateDict(weight=torch.ones(3), n=1)})
    return tmp_path / "s"


def index_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / ".snapshot_index").read_bytes().partition(b"\n")[0])
    return found


def test_a_value_that_stands_twice_in_the_metadata_is_refused(folder: Path) -> None:
    """One reader would restore the first, another the second."""
    text = (folder / ".snapshot_metadata").read_text()
    twice = text.replace(
        '"0/state/n":', '"0/state/n":{"type":"int","serialized_value":"9","replicated":false},"0/state/n":'
    )
    for forged in (twice, twice.replace('"0/state/n"', '"0/state/\\u006e"', 1), twice.replace(",", " , ")):
        write_forged(folder, forged.encode(), index_of(folder))
        with pytest.raises(CorruptionError, match="stands twice"):
            Snapshot(folder).read_object("0/state/n")


@pytest.mark.parametrize("member", ["location", "byte_range", "type"])
def test_a_member_that_stands_twice_in_an_entry_is_refused(folder: Path, member: str) -> None:
    text = (folder / ".snapshot_metadata").read_text()
    entry = json.loads(text)["manifest"]["0/state/weight"]
    one = f'"{member}":{json.dumps(entry[member], separators=(",", ":"))}'
    assert one in text
    write_forged(folder, text.replace(one, f"{one},{one}").encode(), index_of(folder))
    with pytest.raises(CorruptionError):
        Snapshot(folder).read_object("0/state/weight")


def test_a_file_that_stands_twice_in_the_index_is_refused(folder: Path) -> None:
    line = (folder / ".snapshot_index").read_bytes().partition(b"\n")[0]
    name = b'"data/0_0.safetensors":'
    write_index_line(folder, line.replace(name, name + b'{"nbytes":0,"digests":""},' + name))
    with pytest.raises(CorruptionError, match="stands twice"):
        Snapshot(folder).read_object("0/state/weight")


@pytest.mark.parametrize("nested", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("file", [".snapshot_metadata", ".snapshot_index"])
def test_text_that_is_nested_a_million_times_is_refused(folder: Path, file: str, nested: str) -> None:
    bomb = (nested * 1_000_000).encode()
    if file == ".snapshot_index":
        write_index_line(folder, bomb)
    else:
        write_forged(folder, b'{"version":"0.1.0","world_size":1,"manifest":' + bomb, index_of(folder))
    with pytest.raises(CorruptionError):
        Snapshot(folder).read_object("0/state/weight")
    for decode in (decode_record, decode_generation):
        with pytest.raises(CorruptionError):
            decode(bomb, path="file")  # type: ignore[operator]


@pytest.mark.parametrize(
    "number", ["1" * 100_000, "1e400", "-1e400", "NaN", "Infinity", "0x10", "1_0", "01", "1.0", "true"]
)
def test_numbers_that_are_none_or_too_many_are_refused(folder: Path, number: str) -> None:
    text = (folder / ".snapshot_metadata").read_text().replace('"world_size":1', f'"world_size":{number}')
    write_forged(folder, text.encode(), index_of(folder))
    with pytest.raises(CorruptionError):
        Snapshot(folder).read_object("0/state/weight")


def test_an_int_of_a_million_digits_is_not_converted(folder: Path) -> None:
    forge(folder, lambda metadata, index: metadata["manifest"]["0/state/n"].update(serialized_value="9" * 1_000_000))
    with pytest.raises(CorruptionError, match="0/state/n"):
        Snapshot(folder).read_object("0/state/n")


@pytest.mark.parametrize("encoding", ["utf-32", "latin-1", "cp037"])
def test_text_in_another_encoding_is_refused(folder: Path, encoding: str) -> None:
    text = (folder / ".snapshot_metadata").read_text().replace("state", "stäte")
    write_forged(folder, text.encode(encoding), index_of(folder))
    with pytest.raises(CorruptionError):
        Snapshot(folder).read_object("0/stäte/weight")


def test_keys_that_look_alike_are_different_keys(tmp_path: Path) -> None:
    """Composed and decomposed letters, and letters of other alphabets, do not fall together."""
    state = StateDict(**{"é": 1, "e\u0301": 2, "a": 3, "\u0430": 4, "K": 5, "\u212a": 6, "ﬁ": 7, "fi": 8, "a\u200b": 9})
    Snapshot.take(tmp_path / "s", {"state": state})
    assert Snapshot(tmp_path / "s").get_state_dict_for_key("state") == dict(state)


# --- counts and sizes -------------------------------------------------------------------------------------------------


def test_a_million_entries_are_read_or_refused_and_found_quickly(folder: Path) -> None:
    entry = b'{"type":"list"}'
    manifest = b",".join(b'"0/k%d":%s' % (number, entry) for number in range(300_000))
    write_forged(folder, b'{"version":"0.1.0","world_size":131072,"manifest":{' + manifest + b"}}", index_of(folder))
    snapshot = Snapshot(folder)
    assert snapshot.read_object("0/k299999") == []
    with pytest.raises(SucroseError, match="not in the snapshot"):
        snapshot.read_object("3/k300001")


@pytest.mark.parametrize(
    ("file", "limit"), [(".snapshot_metadata", "MAX_METADATA_NBYTES"), (".snapshot_index", "MAX_INDEX_NBYTES")]
)
def test_a_record_that_is_longer_than_any_is_not_read(folder: Path, file: str, limit: str) -> None:
    most = getattr(limits, limit)
    with open(folder / file, "r+b") as opened:
        opened.truncate(most + 1)  # a hole: takes no space
    with nothing_happens(folder), pytest.raises(CorruptionError, match=f"at most {most}") as caught:
        Snapshot(folder).read_object("0/state/weight")
    assert caught.value.path == str(folder / file)


def test_what_would_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("sucrose.formats.manifest.MAX_ENTRIES", 5)
        with pytest.raises(UnsupportedError, match="at most 5 values"):
            Snapshot.take(tmp_path / "s", {"state": StateDict(**{f"k{number}": number for number in range(9)})})
    assert list(tmp_path.iterdir()) == []
    deep: Any = 1
    for _ in range(limits.MAX_NESTING + 1):
        deep = [deep]
    with pytest.raises(UnsupportedError, match="deep"):
        Snapshot.take(tmp_path / "s", {"state": StateDict(deep=deep)})
    Snapshot.take(tmp_path / "s", {"state": StateDict(deep=deep[0][0][0])})
    assert Snapshot(tmp_path / "s").get_state_dict_for_key("state")["deep"] == deep[0][0][0]


# --- YAML -------------------------------------------------------------------------------------------------------------

BOMBS = {
    "laughs": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
    "laughs of mappings": "a: &a {x: 1}\nb: {y: *a, z: *a}\n",
    "merged": "a: &a {x: 1}\nb: {<<: *a, y: 2}\n",
    "merged over and over": "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: &c {<<: [*b, *b]}\n",
    "in itself": "a: &a [*a]\n",
    "key twice": "version: 0.1.0\nversion: 0.1.0\n",
    "python object": "a: !!python/object/apply:os.system ['touch created']\n",
    "python name": "a: !!python/name:os.system\n",
    "binary": "a: !!binary AAAA\n",
    "timestamp": "a: 9999-99-99\n",
    "unhashable key": "? [1, 2]\n: 3\n",
    "several documents": "a: 1\n---\nb: 2\n",
    "deep flow": "[" * 100_000,
    "deep block": "- " * 5_000 + "x\n",
    "nothing": "# nothing\n",
    "tab": "\tx: 1\n",
    "a scalar": "just text\n",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_yaml_that_is_more_than_plain_nodes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    head = "" if kind in ("key twice", "deep flow", "deep block", "nothing", "tab", "a scalar") else "version: 0.1.0\n"
    with nothing_happens(tmp_path), pytest.raises(CorruptionError):
        decode_metadata((head + BOMBS[kind]).encode(), path="metadata")


def test_a_billion_laughs_are_refused_at_once() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(CorruptionError, match="several places"):
        decode_metadata("\n".join(lines).encode(), path="metadata")


def test_yaml_of_old_releases_is_read() -> None:
    text = b"version: 0.1.0\nworld_size: 1\nmanifest:\n  0/s: {type: dict, keys: [n]}\n"
    text += b"  0/s/n: {type: int, serialized_value: '7', replicated: false, readable: null}\n"
    metadata = decode_metadata(text, path="metadata")
    assert isinstance(metadata, SnapshotMetadata)
    assert metadata.manifest["0/s/n"].get_value() == 7  # type: ignore[union-attr]


def test_more_yaml_than_any_release_wrote_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sucrose.formats.manifest.MAX_YAML_NBYTES", 100)
    with pytest.raises(CorruptionError, match="at most 100"):
        decode_metadata(b"a: 1\n" * 30, path="metadata")
