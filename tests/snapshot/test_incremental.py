"""Snapshots with a base: what is written, what is referred to, and what comes back."""

from __future__ import annotations

import json
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same

from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError, IncompleteSnapshotError, UnsupportedError
from sucrose.formats.manifest import ChunkedTensorEntry, TensorEntry
from sucrose.options import override_options
from sucrose.snapshot.take_request import TakeRequest, _start
from sucrose.storage.leases import lease_for_removal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per_tensor")

MIB = 1 << 20
SMALL_NBYTES = 64 << 10  # more than the metadata of these states


def large() -> torch.Tensor:
    """Five pieces and a half: 352 rows of 64 KiB, of which 64 are a piece."""
    return torch.randn(352, 16384)


def contents(path: Path) -> dict[str, Any]:
    return Snapshot(path).get_state_dict_for_key("state", allow_pickle=True)


def own_nbytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def take(path: Path, state: dict[str, Any], **arguments: Any) -> Snapshot:
    return Snapshot.take(path, {"state": StateDict(state)}, **arguments)


def test_only_what_has_changed_is_written(tmp_path: Path, each_engine: str) -> None:
    state = {"large": large()[:130], "other": torch.randn(100, 100), "step": 1}
    base = take(tmp_path / "a", state, fingerprints=True)
    state["large"][70] += 1
    state["step"] = 2
    second = take(tmp_path / "b", state, base=base)
    assert own_nbytes(tmp_path / "b") < 4 * MIB + SMALL_NBYTES
    assert second.stats is not None
    assert second.stats.referred_nbytes == state["large"].nbytes + state["other"].nbytes - 4 * MIB
    assert second.bases == (str(tmp_path / "a"),)
    assert second.verify()
    assert_same(contents(tmp_path / "b"), state)
    assert base.bases == ()


def test_a_snapshot_of_the_same_state_has_no_tensors_of_its_own(tmp_path: Path) -> None:
    state = {"large": large(), "many": [torch.randn(10) for _ in range(100)]}
    base = take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    assert not (tmp_path / "b" / "data").exists()
    entry = Snapshot(tmp_path / "b").get_manifest()["0/state/large"]
    assert isinstance(entry, TensorEntry)
    assert entry.location == "../a/data/0_0.safetensors"
    assert entry.byte_range == base.get_manifest()["0/state/large"].byte_range  # type: ignore[union-attr]
    assert_same(contents(tmp_path / "b"), state)


def test_changed_rows_are_one_part_between_two_of_the_base(tmp_path: Path) -> None:
    state = {"large": large()}
    take(tmp_path / "a", state, fingerprints=True)
    state["large"][130] += 1
    state["large"][200] += 1
    entry = take(tmp_path / "b", state, base=tmp_path / "a").get_manifest()["0/state/large"]
    assert isinstance(entry, ChunkedTensorEntry)
    parts = [(part.offsets, part.sizes, part.tensor.location) for part in entry.chunks]
    assert parts == [
        ([0, 0], [128, 16384], "../a/data/0_0.safetensors"),
        ([128, 0], [128, 16384], "data/0_0.safetensors"),
        ([256, 0], [96, 16384], "../a/data/0_0.safetensors"),
    ]


def test_a_chain_refers_straight_to_the_file_that_has_the_bytes(tmp_path: Path) -> None:
    state = {"large": large(), "small": torch.zeros(3)}
    take(tmp_path / "0", state, fingerprints=True)
    for number in range(1, 5):
        state["small"] += 1
        state["large"][64 * number] += 1
        snapshot = take(tmp_path / str(number), state, base=tmp_path / str(number - 1))
        assert_same(contents(tmp_path / str(number)), state)
    assert snapshot.bases == tuple(str(tmp_path / str(number)) for number in range(4))
    shutil.rmtree(tmp_path / "2")
    assert not snapshot.verify()


def test_a_base_from_which_nothing_is_needed_any_more_is_none(tmp_path: Path) -> None:
    state = {"weight": torch.randn(1000)}
    take(tmp_path / "a", state, fingerprints=True)
    state["weight"] += 1
    second = take(tmp_path / "b", state, base=tmp_path / "a")
    assert second.bases == ()
    shutil.rmtree(tmp_path / "a")
    assert second.verify()
    assert_same(contents(tmp_path / "b"), state)


KINDS: dict[str, Callable[[], torch.Tensor]] = {
    "bfloat16": lambda: torch.randn(300, 9000, dtype=torch.bfloat16),
    "float8": lambda: torch.randn(300, 17000).to(torch.float8_e4m3fn),
    "complex": lambda: torch.randn(300, 2000, dtype=torch.complex64),
    "bool": lambda: torch.rand(5000, 1000) > 0.5,
    "one dimension": lambda: torch.randn(1_500_000),
    "one row": lambda: torch.randn(1, 1_500_000),
    "one element": lambda: torch.tensor(3.5),
    "one column": lambda: torch.randn(1_500_000, 1),
    "huge rows": lambda: torch.randn(3, 1_300_000),
    "transposed": lambda: torch.randn(1300, 1100).t(),
    "channels last": lambda: torch.randn(8, 16, 100, 100).to(memory_format=torch.channels_last),
    "a view with gaps": lambda: torch.randn(1400, 2000)[::2, 3:1800],
    "conjugate": lambda: torch.randn(700, 1000, dtype=torch.complex64).conj(),
    "a parameter": lambda: torch.nn.Parameter(torch.randn(1400, 1000)),
    "empty": lambda: torch.empty(0, 5),
    "quantized": lambda: torch.quantize_per_tensor(torch.randn(10, 10), 0.1, 0, torch.qint8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tensor_comes_back_changed_and_unchanged(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(1)
    state = {"tensor": KINDS[kind]()}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    expected = contents(tmp_path / "a")
    assert_same(contents(tmp_path / "b"), expected)
    tensor = state["tensor"].detach()
    if tensor.is_quantized or tensor.numel() == 0:
        return
    if tensor.dtype.itemsize > 1 or tensor.dtype is torch.bool:
        flat = tensor if tensor.ndim == 0 else tensor[-1]
        flat.copy_(~flat if tensor.dtype is torch.bool else flat + 1)
    else:
        tensor.view(torch.uint8)[-1] ^= 1
    take(tmp_path / "c", state, base=tmp_path / "b")
    plain = take(tmp_path / "plain", state)
    assert_same(contents(tmp_path / "c"), contents(tmp_path / "plain"))
    assert Snapshot(tmp_path / "c").verify()
    assert plain.verify()


def test_negative_zero_is_a_change_and_an_equal_nan_is_none(tmp_path: Path) -> None:
    state = {"zero": torch.zeros(5), "nan": torch.full((5,), torch.nan)}
    take(tmp_path / "a", state, fingerprints=True)
    state["zero"] = -torch.zeros(5)
    manifest = take(tmp_path / "b", state, base=tmp_path / "a").get_manifest()
    assert manifest["0/state/zero"].location == "data/0_0.safetensors"  # type: ignore[union-attr]
    assert manifest["0/state/nan"].location == "../a/data/0_0.safetensors"  # type: ignore[union-attr]


def test_new_removed_and_reshaped_tensors_are_what_they_are_now(tmp_path: Path) -> None:
    ones = torch.ones(100)
    take(tmp_path / "a", {"shape": ones, "dtype": ones.clone(), "removed": torch.ones(7)}, fingerprints=True)
    state = {"shape": ones.view(10, 10), "dtype": ones.view(torch.int32), "new": torch.zeros(7)}
    second = take(tmp_path / "b", state, base=tmp_path / "a")
    assert second.bases == ()
    assert_same(contents(tmp_path / "b"), state)


def test_tied_tensors_stay_tied_in_parts_as_well(tmp_path: Path) -> None:
    shared = large()
    state = {"one": shared, "two": shared, "flat": shared.view(-1), "step": torch.zeros(1)}
    take(tmp_path / "a", {"one": shared, "two": shared}, fingerprints=True)
    shared[3] += 1
    take(tmp_path / "b", {"one": shared, "two": shared}, base=tmp_path / "a")
    found = contents(tmp_path / "b")
    assert found["one"].data_ptr() == found["two"].data_ptr()
    assert_same(found["one"], shared)
    take(tmp_path / "c", state, base=tmp_path / "b")
    assert_same(contents(tmp_path / "c"), state)


def test_what_is_tied_no_longer_is_not_tied_when_it_is_restored(tmp_path: Path) -> None:
    shared = torch.randn(1000)
    take(tmp_path / "a", {"one": shared, "two": shared}, fingerprints=True)
    take(tmp_path / "b", {"one": shared, "two": shared.clone()}, base=tmp_path / "a")
    found = contents(tmp_path / "b")
    assert found["one"].data_ptr() != found["two"].data_ptr()
    assert_same(found, {"one": shared, "two": shared})


def test_a_base_without_fingerprints_is_read_for_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {"large": large(), "small": torch.randn(10)}
    take(tmp_path / "a", state)
    state["large"][0] += 1
    with caplog.at_level(logging.INFO, logger="sucrose"):
        take(tmp_path / "b", state, base=tmp_path / "a")
    assert "has no fingerprints of 2 tensors" in caplog.text
    assert own_nbytes(tmp_path / "b") < 4 * MIB + SMALL_NBYTES
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="sucrose"):
        take(tmp_path / "c", state, base=tmp_path / "b")
    assert caplog.text == ""  # takes with a base store them
    assert_same(contents(tmp_path / "c"), state)


def test_damage_of_a_base_that_has_to_be_read_is_found(tmp_path: Path) -> None:
    state = {"large": large()}
    take(tmp_path / "a", state)
    flip(tmp_path / "a" / "data" / "0_0.safetensors", 9 * MIB)
    with pytest.raises(CorruptionError) as caught:
        take(tmp_path / "b", state, base=tmp_path / "a")
    assert caught.value.offset == 8 * MIB
    assert sorted(os.listdir(tmp_path)) == ["a"]


@pytest.mark.parametrize("parts", [1 * MIB, 3 * MIB])
def test_tensors_that_are_listed_in_chunks_are_referred_to(tmp_path: Path, parts: int) -> None:
    state = {"large": large()}
    with override_options(max_chunk_nbytes=parts):
        take(tmp_path / "a", state, fingerprints=True)
        state["large"][100] += 1
        take(tmp_path / "b", state, base=tmp_path / "a")
    assert own_nbytes(tmp_path / "b") < 4 * MIB + SMALL_NBYTES
    assert_same(contents(tmp_path / "b"), state)
    take(tmp_path / "c", state, base=tmp_path / "b")
    assert_same(contents(tmp_path / "c"), state)


@pytest.mark.parametrize("compressions", [("zstd", "none"), ("none", "zstd"), ("zstd", "zstd:1")], ids=str)
def test_new_pieces_are_compressed_as_asked_and_old_ones_stay(tmp_path: Path, compressions: tuple[str, str]) -> None:
    state = {"large": large().to(torch.bfloat16)}
    take(tmp_path / "a", state, fingerprints=True, compression=compressions[0])
    state["large"][5] += 1
    second = take(tmp_path / "b", state, base=tmp_path / "a", compression=compressions[1])
    assert_same(contents(tmp_path / "b"), state)
    assert second.verify()
    second.flatten()
    shutil.rmtree(tmp_path / "a")
    assert_same(contents(tmp_path / "b"), state)


def test_async_take_has_the_state_of_the_call(tmp_path: Path) -> None:
    state = {"large": large(), "small": torch.zeros(5)}
    base = take(tmp_path / "a", state, fingerprints=True)
    state["large"][7] += 1
    before = {key: value.clone() for key, value in state.items()}
    pending = Snapshot.async_take(tmp_path / "b", {"state": StateDict(state)}, base=base)
    assert lease_for_removal(str(tmp_path / "a")) is None or pending.done()
    state["large"].zero_()
    state["small"] += 1
    second = pending.wait()
    assert_same(contents(tmp_path / "b"), before)
    assert second.bases == (str(tmp_path / "a"),)
    released = lease_for_removal(str(tmp_path / "a"))
    assert released is not None
    released.release()


def test_a_base_that_is_replaced_meanwhile_fails_the_take(tmp_path: Path) -> None:
    state = {"large": large()}
    take(tmp_path / "a", state, fingerprints=True)
    request = TakeRequest(path=tmp_path / "b", app_state={"state": StateDict(state)}, base=str(tmp_path / "a"))
    started = _start(request)
    take(tmp_path / "a", state, overwrite=True)
    assert started.wait_written()
    with pytest.raises(IncompleteSnapshotError) as caught:
        started.commit()
    assert caught.value.path == str(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_a_path_and_a_snapshot_both_name_the_base_and_links_to_it_do(tmp_path: Path) -> None:
    state = {"weight": torch.randn(100)}
    base = take(tmp_path / "a", state, fingerprints=True)
    os.symlink("a", tmp_path / "latest")
    for number, named in enumerate((base, str(tmp_path / "a"), tmp_path / "latest", f"fs://{tmp_path}/a")):
        snapshot = take(tmp_path / f"b{number}", state, base=named)
        assert snapshot.bases == (str(tmp_path / "a"),)


def test_folders_that_are_moved_together_stay_whole(tmp_path: Path) -> None:
    state = {"weight": torch.randn(100)}
    take(tmp_path / "run" / "a", state, fingerprints=True)
    take(tmp_path / "run" / "nested" / "b", state, base=tmp_path / "run" / "a")
    os.rename(tmp_path / "run", tmp_path / "moved")
    assert_same(contents(tmp_path / "moved" / "nested" / "b"), state)
    assert Snapshot(tmp_path / "moved" / "nested" / "b").bases == (str(tmp_path / "moved" / "a"),)


def test_a_folder_reached_by_a_link_refers_to_where_things_really_are(tmp_path: Path) -> None:
    state = {"weight": torch.randn(100)}
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    os.symlink(tmp_path / "disk" / "deep", tmp_path / "link")
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "link" / "b", state, base=tmp_path / "a")
    assert_same(contents(tmp_path / "link" / "b"), state)
    assert_same(contents(tmp_path / "disk" / "deep" / "b"), state)


# --- a base that is gone, or another one ------------------------------------------------------------------------------


def test_a_base_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IncompleteSnapshotError) as caught:
        take(tmp_path / "b", {"weight": torch.ones(3)}, base=tmp_path / "a")
    assert caught.value.path == str(tmp_path / "a")
    (tmp_path / "a").mkdir()
    with pytest.raises(IncompleteSnapshotError):
        take(tmp_path / "b", {"weight": torch.ones(3)}, base=tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_a_missing_base_is_told_of_before_anything_is_restored(tmp_path: Path) -> None:
    state = {"weight": torch.randn(100), "new": torch.ones(3)}
    take(tmp_path / "a", {"weight": state["weight"]}, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    os.rename(tmp_path / "a", tmp_path / "elsewhere")
    present = StateDict(weight=torch.zeros(100), new=torch.zeros(3))
    for read in (
        lambda: Snapshot(tmp_path / "b").restore({"state": present}),
        lambda: Snapshot(tmp_path / "b").read_object("0/state/new"),
    ):
        with pytest.raises(IncompleteSnapshotError, match=r"\.\./a") as caught:
            read()
        assert caught.value.path == str(tmp_path / "b")
    assert not present["new"].any()
    assert "0/state/new" in Snapshot(tmp_path / "b").get_manifest()
    report = Snapshot(tmp_path / "b").verify()
    assert {problem.file for problem in report.problems} == {"../a/.snapshot_metadata", "../a/data/0_0.safetensors"}
    os.rename(tmp_path / "elsewhere", tmp_path / "a")
    assert Snapshot(tmp_path / "b").verify()


def test_another_snapshot_in_the_place_of_the_base_is_found(tmp_path: Path) -> None:
    state = {"weight": torch.randn(100)}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    take(tmp_path / "a", {"weight": torch.randn(100), "other": 1})
    with pytest.raises(CorruptionError, match="another one is there now") as caught:
        contents(tmp_path / "b")
    assert caught.value.path == str(tmp_path / "b")


def test_damage_of_the_base_is_found_where_it_matters(tmp_path: Path) -> None:
    state = {"kept": large(), "changed": large()}
    take(tmp_path / "a", state, fingerprints=True)
    state["changed"] = large()
    take(tmp_path / "b", state, base=tmp_path / "a")
    entry = Snapshot(tmp_path / "a").get_manifest()["0/state/changed"]
    flip(tmp_path / "a" / "data" / "0_0.safetensors", entry.byte_range[0] + 9 * MIB)  # type: ignore[union-attr]
    assert not Snapshot(tmp_path / "a").verify()
    assert Snapshot(tmp_path / "b").verify()
    assert_same(contents(tmp_path / "b"), state)
    entry = Snapshot(tmp_path / "b").get_manifest()["0/state/kept"]
    flip(tmp_path / "a" / "data" / "0_0.safetensors", entry.byte_range[0] + 9 * MIB)  # type: ignore[union-attr]
    report = Snapshot(tmp_path / "b").verify()
    assert [problem.keys for problem in report.problems] == [("0/state/kept",)]
    with pytest.raises(CorruptionError) as caught:
        contents(tmp_path / "b")
    assert caught.value.key == "0/state/kept"


def test_what_others_need_is_not_replaced(tmp_path: Path) -> None:
    state = {"weight": torch.randn(100)}
    take(tmp_path / "a", state, fingerprints=True)
    second = take(tmp_path / "b", state, base=tmp_path / "a")
    for replace in (
        lambda: take(tmp_path / "a", state, overwrite=True),
        lambda: take(tmp_path / "a", state, base=tmp_path / "b", overwrite=True),
    ):
        with pytest.raises(FileExistsError):
            replace()
    assert_same(contents(tmp_path / "b"), state)
    second.flatten()
    take(tmp_path / "a", {"weight": torch.zeros(1)}, overwrite=True)
    assert_same(contents(tmp_path / "b"), state)
    with pytest.raises(FileExistsError, match="refers to it") as caught:  # nobody else does
        take(tmp_path / "b", state, base=second, overwrite=True)
    assert caught.value.filename == str(tmp_path / "b")
    assert_same(contents(tmp_path / "b"), state)


def test_a_note_of_a_snapshot_that_is_gone_is_in_nobodys_way(tmp_path: Path) -> None:
    state = {"weight": torch.randn(100)}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    take(tmp_path / "b", {"weight": torch.zeros(3)}, overwrite=True)
    take(tmp_path / "a", state, overwrite=True, fingerprints=True)
    take(tmp_path / "c", state, base=tmp_path / "a")
    shutil.rmtree(tmp_path / "c")
    take(tmp_path / "a", state, overwrite=True)


# --- made whole -------------------------------------------------------------------------------------------------------


def mixture() -> dict[str, Any]:
    shared = torch.randn(50, 50)
    return {
        "large": large(),
        "one": shared,
        "two": shared,
        "turned": torch.randn(300, 200).t(),
        "half": torch.randn(333, dtype=torch.float16),
        "nested": {"list": [torch.ones(3), 5, "text"], "object": (1, 2)},
    }


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "elsewhere"])
def test_a_flat_snapshot_needs_no_other(tmp_path: Path, in_place: bool) -> None:
    state = mixture()
    take(tmp_path / "a", state, fingerprints=True)
    state["large"][100] += 1
    state["nested"]["list"][0] += 1
    second = take(tmp_path / "b", state, base=tmp_path / "a")
    flat = second.flatten(None if in_place else tmp_path / "c")
    assert flat.path == str(tmp_path / ("b" if in_place else "c"))
    shutil.rmtree(tmp_path / "a")
    assert flat.bases == ()
    assert flat.verify()
    found = flat.get_state_dict_for_key("state")
    assert_same(found, state)
    assert found["one"].data_ptr() == found["two"].data_ptr()
    index = json.loads((tmp_path / flat.path / ".snapshot_index").read_bytes().split(b"\n")[0])
    assert index["format_version"] == 1
    # What it has by now are fingerprints, so that it can be a base at once.
    assert not (take(tmp_path / "d", state, base=flat).path and (tmp_path / "d" / "data").exists())


def test_flattening_takes_little_memory_and_ends_in_files_of_the_wanted_size(tmp_path: Path) -> None:
    state = {f"tensor {number}": torch.randn(1000, 1000) for number in range(12)}
    take(tmp_path / "a", state, fingerprints=True)
    second = take(tmp_path / "b", state, base=tmp_path / "a")
    with override_options(max_file_nbytes=10 * MIB):
        flat = second.flatten(tmp_path / "c")
    assert len(os.listdir(tmp_path / "c" / "data")) == 6
    assert_same(flat.get_state_dict_for_key("state"), state)


def test_a_whole_snapshot_in_its_own_place_is_left_as_it_is(tmp_path: Path) -> None:
    snapshot = take(tmp_path / "a", {"weight": torch.ones(3)})
    before = (tmp_path / "a" / ".snapshot_index").stat()
    snapshot.flatten()
    assert (tmp_path / "a" / ".snapshot_index").stat() == before


def test_damage_is_not_made_whole(tmp_path: Path) -> None:
    state = {"large": large()}
    take(tmp_path / "a", state, fingerprints=True)
    second = take(tmp_path / "b", state, base=tmp_path / "a")
    flip(tmp_path / "a" / "data" / "0_0.safetensors", 9 * MIB)
    for target in (None, tmp_path / "c"):
        with pytest.raises(CorruptionError):
            second.flatten(target)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert second.bases == (str(tmp_path / "a"),)


def test_a_flat_copy_replaces_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    take(tmp_path / "a", {"large": large()}, fingerprints=True)
    second = take(tmp_path / "b", {"large": large()}, base=tmp_path / "a")
    take(tmp_path / "c", {"large": large()})
    (tmp_path / "file").touch()
    for name in ("c", "file"):
        with pytest.raises(FileExistsError, match="choose a path where nothing is"):
            second.flatten(tmp_path / name)
    assert Snapshot(tmp_path / "c").verify()
    (tmp_path / "empty").mkdir()
    assert second.flatten(tmp_path / "empty").verify()


def test_what_the_original_wrote_is_not_copied_by_flattening(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".snapshot_metadata").write_text('{"version":"0.1.0","world_size":1,"manifest":{}}')
    Snapshot(tmp_path / "a").flatten()
    with pytest.raises(UnsupportedError):
        Snapshot(tmp_path / "a").flatten(tmp_path / "b")


def test_a_base_without_an_index_is_digested(tmp_path: Path) -> None:
    weight = torch.randn(1000)
    folder = tmp_path / "a"
    (folder / "0" / "state").mkdir(parents=True)
    (folder / "0" / "state" / "weight").write_bytes(weight.numpy().tobytes())
    entry = {
        "type": "Tensor",
        "location": "0/state/weight",
        "serializer": "buffer_protocol",
        "dtype": "torch.float32",
        "shape": [1000],
        "replicated": False,
        "byte_range": None,
    }
    manifest = {"0/state": {"type": "dict", "keys": ["weight"]}, "0/state/weight": entry}
    metadata = {"version": "0.1.0", "world_size": 1, "manifest": manifest}
    (folder / ".snapshot_metadata").write_text(json.dumps(metadata))
    second = take(tmp_path / "b", {"weight": weight}, base=folder)
    assert second.bases == (str(folder),)
    assert_same(contents(tmp_path / "b"), {"weight": weight})
    flip(folder / "0" / "state" / "weight", 77)
    assert not second.verify()


# --- what an index may name -------------------------------------------------------------------------------------------


def rewritten(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Changes index and metadata, and makes all digests right again."""
    from xxhash import xxh3_128_hexdigest

    index = json.loads((folder / ".snapshot_index").read_bytes().split(b"\n")[0])
    metadata = json.loads((folder / ".snapshot_metadata").read_bytes())
    change(index, metadata)
    encoded = json.dumps(metadata).encode()
    (folder / ".snapshot_metadata").write_bytes(encoded)
    index["metadata"] = {"nbytes": len(encoded), "digests": xxh3_128_hexdigest(encoded)}
    line = json.dumps(index).encode()
    (folder / ".snapshot_index").write_bytes(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n")


def rename_base(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(index: dict[str, Any], _metadata: dict[str, Any]) -> None:
        index["bases"] = {name: index["bases"]["../a"]}

    return change


@pytest.mark.parametrize(
    "name", ["..", "../..", "../../", "a", "/a", "../a/../a", "../a/..", "./../a", "../a\0b", "../a/"]
)
def test_a_base_is_another_snapshot_by_a_plain_path(tmp_path: Path, name: str) -> None:
    state = {"weight": torch.randn(100)}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    rewritten(tmp_path / "b", rename_base(name))
    with pytest.raises(CorruptionError):
        contents(tmp_path / "b")


@pytest.mark.parametrize("location", ["../a/../secret", "../secret", "../a/../a/../secret", "../../secret"])
def test_a_file_that_lies_in_no_base_is_refused(tmp_path: Path, location: str) -> None:
    state = {"weight": torch.randn(100)}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    (tmp_path / "secret").write_bytes((tmp_path / "a" / "data" / "0_0.safetensors").read_bytes())

    def change(index: dict[str, Any], metadata: dict[str, Any]) -> None:
        index["files"][location] = index["files"].pop("../a/data/0_0.safetensors")
        metadata["manifest"]["0/state/weight"]["location"] = location

    rewritten(tmp_path / "b", change)
    with pytest.raises(CorruptionError):
        contents(tmp_path / "b")


def test_a_folder_that_is_no_snapshot_is_no_base(tmp_path: Path) -> None:
    state = {"weight": torch.randn(100)}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    os.unlink(tmp_path / "a" / ".snapshot_metadata")
    with pytest.raises(IncompleteSnapshotError):
        contents(tmp_path / "b")


def test_links_in_a_base_lead_nowhere(tmp_path: Path) -> None:
    state = {"weight": torch.randn(100)}
    take(tmp_path / "a", state, fingerprints=True)
    take(tmp_path / "b", state, base=tmp_path / "a")
    os.rename(tmp_path / "a" / "data", tmp_path / "data")
    os.symlink(tmp_path / "data", tmp_path / "a" / "data")
    with pytest.raises(CorruptionError, match="symbolic link"):
        contents(tmp_path / "b")


def flip(file: Path, offset: int) -> None:
    with open(file, "r+b") as opened:
        opened.seek(offset)
        byte = opened.read(1)[0]
        opened.seek(offset)
        opened.write(bytes([byte ^ 1]))
