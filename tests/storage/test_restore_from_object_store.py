"""Snapshots that lie in object stores restore as those on disks do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitwise import assert_same
from signed_snapshots import KEY, OTHER_KEY
from stored_folders import counted_requests, new_bucket, put_folder, rename_to_digests, threads_that_stay

from sucrose import Snapshot, StateDict
from sucrose.errors import ConfigError, CorruptionError, IncompleteSnapshotError, SignatureError, UnsupportedError
from sucrose.storage import open_directory
from sucrose.storage.objects import Storage
from sucrose.storage.objects.directory import ObjectDirectory
from sucrose.storage.objects.memory import MemoryBackend

GOLDEN = Path(__file__).parents[1] / "golden"
DATA = "data/0_0.safetensors"

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per_tensor")


def storage_at(url: str, **options: Any) -> Storage:
    directory = open_directory(url, options or None)
    assert isinstance(directory, ObjectDirectory)
    return directory.storage


def state(seed: int = 0) -> dict[str, StateDict]:
    """Tensors of several chunks and of none, tied ones, primitives and objects."""
    torch.manual_seed(seed)
    weight = torch.randn(1_500, 1_000)
    return {
        "model": StateDict(weight=weight, tied=weight, bias=torch.randn(7).bfloat16(), empty=torch.empty(0, 3)),
        "rest": StateDict(step=seed, groups=[{"betas": (0.9, seed), "set": {seed}}], sparse=torch.eye(3).to_sparse()),
    }


def zeroed(of: dict[str, StateDict]) -> dict[str, StateDict]:
    """The same containers, whose tensors are zeros."""
    made = {key: StateDict(dict(value)) for key, value in of.items()}
    weight = torch.zeros_like(of["model"]["weight"])
    made["model"].update(weight=weight, tied=weight, bias=torch.zeros(7).bfloat16())
    made["rest"].update(step=-1, groups=[])
    return made


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a snapshot of `state()`."""
    Snapshot.take(tmp_path / "s", state())
    return stored(tmp_path / "s")


def stored(folder: Path, url: str | None = None) -> str:
    url = url or f"{new_bucket()}/runs/{folder.name}"
    put_folder(storage_at(url), folder)
    return url


def changed(url: str, name: str, offset: int) -> None:
    storage = storage_at(url)
    data = bytearray(storage.read(name))
    data[offset] ^= 1
    storage.put(name, data)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_snapshot_restores_in_place_bit_for_bit(each_engine: str, tmp_path: Path, compression: str) -> None:
    Snapshot.take(tmp_path / "s", state(), compression=compression)
    target = zeroed(state())
    weight = target["model"]["weight"]
    report = Snapshot(stored(tmp_path / "s")).restore(target)
    assert {key: dict(value) for key, value in target.items()}.keys() == state().keys()
    for key, value in state().items():
        assert_same(dict(target[key]), dict(value), key)
    assert target["model"]["weight"] is weight
    assert target["model"]["tied"] is weight
    assert report.nbytes >= weight.nbytes
    assert not threads_that_stay()


def test_values_are_read_one_by_one_without_a_target(each_engine: str, url: str) -> None:
    snapshot = Snapshot(url)
    assert_same(snapshot.read_object("0/model/bias"), state()["model"]["bias"])
    assert_same(snapshot.read_object("0/model/weight", memory_budget_bytes=1), state()["model"]["weight"])
    assert_same(snapshot.read_object("0/model/weight", verify=False), state()["model"]["weight"])
    assert_same(snapshot.read_objects(["0/rest/groups", "0/rest/step"]), [state()["rest"]["groups"], 0])
    assert_same(snapshot.get_state_dict_for_key("rest"), dict(state()["rest"]))
    assert snapshot.metadata.world_size == 1
    assert snapshot.bases == ()


@pytest.mark.parametrize("sample", sorted(path.name for path in GOLDEN.iterdir() if (path / "snapshot").is_dir()))
def test_a_golden_sample_reads_as_it_does_from_a_disk(sample: str) -> None:
    bucket = new_bucket()
    put_folder(storage_at(bucket), GOLDEN / sample)
    there, here = Snapshot(f"{bucket}/snapshot"), Snapshot(GOLDEN / sample / "snapshot")
    keys = {path.split("/")[1] for path in here.get_manifest() if path.count("/") == 1}
    for key in sorted(keys):
        assert_same(there.get_state_dict_for_key(key), here.get_state_dict_for_key(key), key)


def test_a_snapshot_without_folder_lies_right_in_its_bucket(tmp_path: Path) -> None:
    Snapshot.take(tmp_path / "s", state())
    url = stored(tmp_path / "s", new_bucket())
    assert_same(Snapshot(f"{url}/").read_object("0/rest/step"), 0)
    assert Snapshot(url).verify()


@pytest.mark.parametrize("where", ["in the store", "on a disk"])
def test_the_index_of_the_commit_record_is_the_one_that_counts(tmp_path: Path, where: str) -> None:
    Snapshot.take(tmp_path / "s", state(), signing_key=KEY)
    url = stored(tmp_path / "s")
    storage = storage_at(url)
    rename_to_digests(storage)
    storage.put(".snapshot_index", b"that of a snapshot which this one has replaced")
    storage.put(".snapshot_signature", b"likewise")
    if where == "on a disk":
        for file in storage.list():
            path = tmp_path / "copied" / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(storage.read(file.name))
        url = str(tmp_path / "copied")
    snapshot = Snapshot(url, signing_key=KEY)
    assert_same(snapshot.get_state_dict_for_key("model"), dict(state()["model"]))
    assert snapshot.verify()
    with pytest.raises(SignatureError):
        Snapshot(url, signing_key=OTHER_KEY).get_manifest()


def test_a_snapshot_that_is_replaced_while_it_is_opened_is_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        Snapshot.take(tmp_path / str(seed), {"rest": StateDict(step=seed)})
    url = stored(tmp_path / "1")
    storage = storage_at(url)
    rename_to_digests(storage)
    fetch, swapped = MemoryBackend.fetch, []

    def fetch_and_swap(backend: MemoryBackend, key: str, max_nbytes: int | None) -> bytes:
        data = fetch(backend, key, max_nbytes)
        if key.endswith(".snapshot_metadata") and not swapped:
            swapped.append(key)
            storage.delete([file.name for file in storage.list()])
            put_folder(storage, tmp_path / "2")
            rename_to_digests(storage)
        return data

    monkeypatch.setattr(MemoryBackend, "fetch", fetch_and_swap)
    assert Snapshot(url).read_object("0/rest/step") == 2
    assert swapped


def test_what_is_damaged_is_named_with_its_url(url: str) -> None:
    weight = state()["model"]["weight"].nbytes
    changed(url, DATA, weight - 100)
    report = Snapshot(url).verify()
    assert [(problem.file, problem.offset) for problem in report.problems] == [(DATA, 4 << 20)]
    assert "0/model/weight" in report.problems[0].keys
    with pytest.raises(CorruptionError) as raised:
        Snapshot(url).restore(zeroed(state()))
    assert raised.value.path == f"{url}/{DATA}"
    assert raised.value.key in ("0/model/weight", "0/model/tied")
    assert raised.value.offset == 4 << 20
    assert not threads_that_stay()


@pytest.mark.parametrize("damage", ["cut", "longer", "missing"])
def test_a_file_of_another_length_is_found_before_anything_is_changed(url: str, damage: str) -> None:
    storage = storage_at(url)
    data = storage.read(DATA)
    storage.delete([DATA])
    if damage != "missing":
        storage.put(DATA, data[:-1] if damage == "cut" else data + b"x")
    target = zeroed(state())
    with pytest.raises(CorruptionError) as raised:
        Snapshot(url).restore(target)
    assert raised.value.path == f"{url}/{DATA}"
    assert raised.value.key is not None
    assert not target["model"]["weight"].any()
    assert [problem.file for problem in Snapshot(url).verify().problems] == [DATA]


def test_a_file_that_is_cut_while_it_is_read_is_an_error_that_names_the_place(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_into = MemoryBackend.fetch_into

    def cut(backend: MemoryBackend, key: str, offset: int, into: memoryview) -> int:
        return fetch_into(backend, key, offset, into) if offset == 0 else fetch_into(backend, key, offset, into[:-9])

    monkeypatch.setattr(MemoryBackend, "fetch_into", cut)
    with pytest.raises(CorruptionError) as raised:
        Snapshot(url).restore(zeroed(state()))
    assert raised.value.path == f"{url}/{DATA}"
    assert raised.value.key is not None
    assert raised.value.offset is not None
    assert raised.value.offset > 4 << 20
    assert not threads_that_stay()


def test_an_object_that_was_changed_is_named(url: str) -> None:
    name = next(file.name for file in storage_at(url).list("objects/0/rest"))
    changed(url, name, 20)
    with pytest.raises(CorruptionError) as raised:
        Snapshot(url).get_state_dict_for_key("rest")
    assert raised.value.path == f"{url}/{name}"
    assert raised.value.key is not None
    storage_at(url).delete([name])
    with pytest.raises(CorruptionError) as raised:
        Snapshot(url).get_state_dict_for_key("rest")
    assert raised.value.path == f"{url}/{name}"


def test_a_snapshot_without_a_commit_record_is_incomplete(url: str) -> None:
    storage_at(url).delete([".snapshot_metadata"])
    for other in (url, f"{new_bucket()}/nothing"):
        with pytest.raises(IncompleteSnapshotError) as raised:
            Snapshot(other).restore(zeroed(state()))
        assert raised.value.path == other
    storage_at(url).put(".snapshot_metadata", b"{}")
    with pytest.raises(CorruptionError):
        Snapshot(url).restore(zeroed(state()))


def test_many_objects_are_fetched_side_by_side_and_no_file_is_looked_at_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = {f"key{number}": {number} for number in range(60)}
    Snapshot.take(tmp_path / "s", {"rest": StateDict(objects, weight=torch.ones(9))})
    url = stored(tmp_path / "s")
    with counted_requests(monkeypatch, pause_s=0.005) as requests:
        found = Snapshot(url, storage_options={"concurrency": 7}).get_state_dict_for_key("rest")
    assert found.pop("weight").sum() == 9
    assert found == objects
    assert requests.counts["size"] == 0
    assert requests.counts["page"] <= 2
    assert 2 <= requests.most_at_once <= 7


def test_a_snapshot_is_signed_where_it_lies(url: str) -> None:
    with pytest.raises(SignatureError):
        Snapshot(url, signing_key=KEY).get_manifest()
    Snapshot(url, signing_key=KEY).sign()
    assert Snapshot(url, signing_key=KEY).verify()
    assert_same(Snapshot(url, signing_key=KEY).get_state_dict_for_key("model"), dict(state()["model"]))
    Snapshot(url, signing_key=[OTHER_KEY, KEY]).sign()
    assert Snapshot(url, signing_key=OTHER_KEY).verify()
    changed(url, DATA, 5000)
    assert not Snapshot(url, signing_key=OTHER_KEY).verify()


@pytest.fixture
def referring(tmp_path: Path) -> str:
    """The URL of a snapshot that finds most of itself in the one beside it."""
    Snapshot.take(tmp_path / "base", state(1), fingerprints=True)
    Snapshot.take(tmp_path / "s", {**state(1), "new": StateDict(x=torch.ones(5))}, base=tmp_path / "base")
    bucket = new_bucket()
    put_folder(storage_at(f"{bucket}/runs"), tmp_path)
    return f"{bucket}/runs/s"


def test_a_snapshot_that_refers_to_another_one_reads_what_is_there(referring: str, tmp_path: Path) -> None:
    snapshot = Snapshot(referring)
    assert snapshot.bases == (f"{referring[:-2]}/base",)
    assert snapshot.verify()
    assert_same(snapshot.get_state_dict_for_key("model"), dict(state(1)["model"]))
    flat = snapshot.flatten(tmp_path / "flat")
    assert flat.bases == ()
    shutil.rmtree(tmp_path / "base")
    assert_same(flat.get_state_dict_for_key("model"), dict(state(1)["model"]))
    with pytest.raises(UnsupportedError):
        snapshot.flatten()


def test_a_base_that_is_gone_or_another_one_is_an_error(referring: str, tmp_path: Path) -> None:
    base = storage_at(f"{referring[:-2]}/base")
    metadata = base.read(".snapshot_metadata")
    base.delete([".snapshot_metadata"])
    with pytest.raises(IncompleteSnapshotError, match="base"):
        Snapshot(referring).get_state_dict_for_key("model")
    assert not Snapshot(referring).verify()
    base.put(".snapshot_metadata", metadata)
    Snapshot.take(tmp_path / "other", {"x": StateDict(y=1)})
    put_folder(base, tmp_path / "other")
    with pytest.raises(CorruptionError):
        Snapshot(referring).get_state_dict_for_key("model")


def test_options_are_for_object_stores_only(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="region"):
        Snapshot(tmp_path / "s", storage_options={"region": "x"})
    with pytest.raises(ConfigError):
        Snapshot(url, storage_options={"concurrency": 0})
    with pytest.raises(UnsupportedError):
        Snapshot.take(tmp_path / "t", state(), base=url)
