"""Bases that somebody replaces, and snapshots that come to refer to them meanwhile."""

from __future__ import annotations

import builtins
import errno
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from xxhash import xxh3_128_hexdigest

from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError, IncompleteSnapshotError, StorageError, StorageFullError
from sucrose.snapshot.incremental import dependents as notes
from sucrose.storage import StagedDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def take(path: Path, state: dict[str, Any], **arguments: Any) -> Snapshot:
    return Snapshot.take(path, {"state": StateDict(state)}, **arguments)


def contents(path: Path) -> dict[str, Any]:
    return Snapshot(path).get_state_dict_for_key("state")


def during_commit(monkeypatch: pytest.MonkeyPatch, target: Path, *, inside: bool, then: Callable[[], None]) -> None:
    """Calls `then` once while `target` is committed: before everything, or right before the rename."""
    commit = StagedDirectory.commit
    check_bases = StagedDirectory._check_bases
    waiting = [then]

    def maybe(staged: StagedDirectory) -> None:
        if waiting and staged.target == str(target):
            waiting.pop()()

    def commit_and_maybe(self: StagedDirectory, *arguments: Any, **others: Any) -> None:
        if not inside:
            maybe(self)
        commit(self, *arguments, **others)

    def check_and_maybe(self: StagedDirectory) -> None:
        check_bases(self)
        if inside:
            maybe(self)

    monkeypatch.setattr(StagedDirectory, "commit", commit_and_maybe)
    monkeypatch.setattr(StagedDirectory, "_check_bases", check_and_maybe)


def test_a_snapshot_that_came_to_be_needed_while_its_successor_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"weight": torch.randn(1000)}
    take(tmp_path / "a", state, fingerprints=True)
    during_commit(
        monkeypatch, tmp_path / "a", inside=False, then=lambda: take(tmp_path / "b", state, base=tmp_path / "a")
    )
    with pytest.raises(FileExistsError) as caught:
        take(tmp_path / "a", {"weight": torch.zeros(1000)}, overwrite=True)
    assert caught.value.filename == str(tmp_path / "a")
    assert_same(contents(tmp_path / "a"), state)
    assert_same(contents(tmp_path / "b"), state)


def test_nothing_comes_to_refer_to_a_snapshot_in_the_instant_of_its_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"weight": torch.randn(1000)}
    take(tmp_path / "a", state, fingerprints=True)
    refused = []

    def refer() -> None:
        with pytest.raises(IncompleteSnapshotError) as caught:
            take(tmp_path / "b", state, base=tmp_path / "a")
        refused.append(caught.value.path)

    during_commit(monkeypatch, tmp_path / "a", inside=True, then=refer)
    take(tmp_path / "a", {"weight": torch.zeros(1000)}, overwrite=True)
    assert refused == [str(tmp_path / "a")]
    assert sorted(os.listdir(tmp_path)) == ["a"]
    take(tmp_path / "b", state, base=tmp_path / "a")  # the next one may


def test_a_snapshot_is_not_replaced_in_the_instant_in_which_others_come_to_refer_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "_PATIENCE_S", 0.1)
    state = {"weight": torch.randn(1000)}
    take(tmp_path / "a", state, fingerprints=True)
    refused = []

    def replace() -> None:
        with pytest.raises(StorageError) as caught:
            take(tmp_path / "a", {"weight": torch.zeros(1000)}, overwrite=True)
        refused.append(caught.value.errno)

    during_commit(monkeypatch, tmp_path / "b", inside=True, then=replace)
    take(tmp_path / "b", state, base=tmp_path / "a")
    assert refused == [errno.EBUSY]
    assert_same(contents(tmp_path / "a"), state)
    assert_same(contents(tmp_path / "b"), state)


def test_a_full_disk_does_not_cost_the_note_of_the_snapshot_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"weight": torch.randn(1000)}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    opened = builtins.open

    def full(path: Any, mode: str = "r", *arguments: Any, **others: Any) -> Any:
        file = opened(path, mode, *arguments, **others)
        if ".dependents" in str(path) and mode != "rb":
            file.close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return file

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", full)
        with pytest.raises(StorageFullError):
            take(tmp_path / "b", state, base=tmp_path / "a", overwrite=True)
    assert_same(contents(tmp_path / "b"), state)
    with pytest.raises(FileExistsError):
        take(tmp_path / "a", state, overwrite=True)


def test_a_base_inside_of_what_would_be_replaced_is_refused(tmp_path: Path) -> None:
    state = {"weight": torch.randn(1000)}
    take(tmp_path / "a", state)
    take(tmp_path / "a" / "nested", state, fingerprints=True)
    with pytest.raises(ValueError, match="save beside it"):
        take(tmp_path / "a", state, base=tmp_path / "a" / "nested", overwrite=True)
    take(tmp_path / "beside", state, base=tmp_path / "a" / "nested")
    with pytest.raises(FileExistsError):  # as little as one that the base refers to
        take(tmp_path / "a", state, base=tmp_path / "beside", overwrite=True)
    assert_same(contents(tmp_path / "a"), state)
    assert_same(contents(tmp_path / "a" / "nested"), state)


def test_a_base_of_the_same_shapes_with_other_bytes_is_found_before_anything_is_changed(tmp_path: Path) -> None:
    state = {"kept": torch.randn(1000), "trained": torch.randn(1000)}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    take(tmp_path / "a", {**state, "trained": torch.zeros(1000)})
    into = StateDict(kept=torch.ones(1000), trained=torch.ones(1000))
    with pytest.raises(CorruptionError, match="another one is there now"):
        Snapshot(tmp_path / "b").restore({"state": into})
    assert_same(dict(into), {"kept": torch.ones(1000), "trained": torch.ones(1000)})


def test_a_damaged_index_of_the_base_is_in_nobodys_way(tmp_path: Path) -> None:
    state = {"weight": torch.randn(1000)}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    (tmp_path / "a" / ".snapshot_index").write_bytes(b"{}")
    assert_same(contents(tmp_path / "b"), state)


def test_a_tensor_that_somebody_has_cut_within_its_rows_is_written_anew(tmp_path: Path) -> None:
    halves = torch.randn(4, 2000)
    one, rest = halves[:1, :1000].contiguous(), torch.cat([halves[0, 1000:], *halves[1:]])
    take(tmp_path / "a", {"one": one, "between": torch.zeros(10), "rest": rest})
    metadata = json.loads((tmp_path / "a" / ".snapshot_metadata").read_bytes())
    manifest = metadata["manifest"]
    entry, begin = manifest.pop("0/state/one"), manifest.pop("0/state/rest")["byte_range"][0]
    del manifest["0/state/between"]
    parts = [
        ([0, 0], [1, 1000], entry["byte_range"]),
        ([0, 1000], [1, 1000], [begin, begin + 4000]),
        ([1, 0], [3, 2000], [begin + 4000, begin + 28000]),
    ]
    chunks = [
        {"offsets": offsets, "sizes": sizes, "tensor": {**entry, "shape": sizes, "byte_range": byte_range}}
        for offsets, sizes, byte_range in parts
    ]
    manifest["0/state"]["keys"] = ["weight"]
    manifest["0/state/weight"] = {
        "type": "ChunkedTensor",
        "dtype": "torch.float32",
        "shape": [4, 2000],
        "chunks": chunks,
        "replicated": False,
    }
    encoded = json.dumps(metadata).encode()
    index = json.loads((tmp_path / "a" / ".snapshot_index").read_bytes().split(b"\n")[0])
    index["metadata"] = {"nbytes": len(encoded), "digests": xxh3_128_hexdigest(encoded)}
    line = json.dumps(index).encode()
    (tmp_path / "a" / ".snapshot_metadata").write_bytes(encoded)
    (tmp_path / "a" / ".snapshot_index").write_bytes(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n")
    assert_same(contents(tmp_path / "a"), {"weight": halves})
    take(tmp_path / "b", {"weight": halves}, base=tmp_path / "a")
    assert_same(contents(tmp_path / "b"), {"weight": halves})
