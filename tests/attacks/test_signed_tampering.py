"""Somebody without the key changes a signed snapshot."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import xxhash
from signed_snapshots import (
    DATA,
    INDEX,
    KEY,
    METADATA,
    OTHER_KEY,
    SIGNATURE,
    flipped,
    state_of,
    take_signed,
    weight_in,
    with_other_index,
)

from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError, SignatureError, SucroseError
from sucrose.formats.signature import check_signature, snapshot_signer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    return take_signed(tmp_path / "step_1")


def digests_of(data: bytes, kind: str) -> str:
    if kind == "xxh3-128":
        return xxhash.xxh3_128_hexdigest(data)
    return hashlib.sha256(data).hexdigest()[:32]


def refuse(path: Path) -> SignatureError:
    """Every way to read it, each refused before anything was looked at; the message of the first."""
    target = state_of(0.0)
    ways: list[Callable[[], object]] = [
        lambda: Snapshot(path, signing_key=KEY).metadata,
        lambda: Snapshot(path, signing_key=KEY).restore(target),
        lambda: Snapshot(path, signing_key=KEY).restore(target, allow_pickle=True),
        lambda: Snapshot(path, signing_key=KEY).read_object("0/state/steps"),
        lambda: Snapshot(path, signing_key=KEY).get_state_dict_for_key("state"),
        lambda: Snapshot(path, signing_key=KEY).verify(),
    ]
    errors = []
    for way in ways:
        with pytest.raises(SignatureError) as caught:
            way()
        errors.append(caught.value)
    assert float(target["state"]["weight"].sum()) == 0
    assert errors[0].path is not None
    assert os.path.samefile(errors[0].path, path)
    assert KEY not in str(errors[0])
    return errors[0]


def test_what_is_signed_is_restored_with_the_key_and_without(signed: Path, each_engine: str) -> None:
    assert weight_in(signed, signing_key=KEY) == 1
    assert weight_in(signed) == 1
    target = state_of(0.0)
    Snapshot(signed, signing_key=KEY).restore(target)
    assert target["state"]["group"] == (1, 2)
    assert Snapshot(signed, signing_key=KEY).verify()
    assert Snapshot(signed).verify()


def test_an_asynchronous_take_is_signed_too(tmp_path: Path) -> None:
    snapshot = Snapshot.async_take(tmp_path / "step_1", state_of(), signing_key=KEY).wait()
    assert float(snapshot.read_object("0/state/weight")[0]) == 1
    assert weight_in(tmp_path / "step_1", signing_key=KEY) == 1


@pytest.mark.parametrize("name", [METADATA, INDEX, SIGNATURE])
def test_every_changed_byte_of_the_small_files_is_refused(signed: Path, name: str) -> None:
    files = {file: (signed / file).read_bytes() for file in (METADATA, INDEX, SIGNATURE)}
    signer = snapshot_signer(KEY)
    check_signature(files[SIGNATURE], signer, index=files[INDEX], metadata=files[METADATA], snapshot_path=str(signed))
    for at in range(len(files[name])):
        changed = {**files, name: flipped(files[name], at)}
        with pytest.raises(SignatureError):
            check_signature(
                changed[SIGNATURE], signer, index=changed[INDEX], metadata=changed[METADATA], snapshot_path="here"
            )
    for at in (0, len(files[name]) // 2, len(files[name]) - 1):
        (signed / name).write_bytes(flipped(files[name], at))
        refuse(signed)


@pytest.mark.parametrize("length", [0, 1, 19, 40, 112, 113])
def test_a_truncated_signature_is_refused(signed: Path, length: int) -> None:
    data = (signed / SIGNATURE).read_bytes()
    assert len(data) == 114
    (signed / SIGNATURE).write_bytes(data[:length])
    assert "damaged" in str(refuse(signed))


def test_what_follows_a_signature_is_no_part_of_it(signed: Path) -> None:
    data = (signed / SIGNATURE).read_bytes()
    for extended in (data + b"\n", data + data, b" " + data, data.upper()):
        (signed / SIGNATURE).write_bytes(extended)
        refuse(signed)


def test_a_signature_that_is_longer_than_any_is_the_file_that_verify_names(signed: Path) -> None:
    (signed / SIGNATURE).write_bytes(b"x" * (1 << 20))
    [problem] = Snapshot(signed, signing_key=KEY).verify().problems
    assert problem.file == SIGNATURE


def test_bytes_that_move_between_index_and_metadata_change_the_signature(signed: Path) -> None:
    index, metadata = (signed / INDEX).read_bytes(), (signed / METADATA).read_bytes()
    signature = (signed / SIGNATURE).read_bytes()
    for cut in (1, 10, len(metadata)):
        with pytest.raises(SignatureError):
            check_signature(
                signature,
                snapshot_signer(KEY),
                index=index + metadata[:cut],
                metadata=metadata[cut:],
                snapshot_path="here",
            )


def test_changed_data_is_found_by_its_digest(signed: Path, each_engine: str) -> None:
    data = (signed / DATA).read_bytes()
    (signed / DATA).write_bytes(flipped(data, len(data) - 1))
    with pytest.raises(CorruptionError) as caught:
        Snapshot(signed, signing_key=KEY).restore(state_of())
    assert caught.value.key == "0/state/weight"
    assert not Snapshot(signed, signing_key=KEY).verify()


@pytest.mark.parametrize("kind", ["sha256-128", "xxh3-128"])
def test_data_that_is_changed_together_with_its_digests_is_refused(signed: Path, kind: str) -> None:
    data = flipped((signed / DATA).read_bytes(), 4200)
    (signed / DATA).write_bytes(data)

    def forge(index: dict[str, Any]) -> None:
        index["digest"] = kind
        index["metadata"]["digests"] = digests_of((signed / METADATA).read_bytes(), kind)
        for name, record in index["files"].items():
            record["digests"] = digests_of((signed / name).read_bytes(), kind)

    with_other_index(signed, forge)
    assert Snapshot(signed).verify()  # for whoever has no key the forgery is perfect
    assert "changed after it was signed" in str(refuse(signed))


def test_files_that_change_places_between_two_signed_snapshots_are_found(tmp_path: Path) -> None:
    one, two = take_signed(tmp_path / "one", 1.0), take_signed(tmp_path / "two", 2.0)
    for name in (METADATA, INDEX, SIGNATURE):
        shutil.copy(two / name, tmp_path / "kept")
        shutil.copy(one / name, two / name)
        if (two / name).read_bytes() != (tmp_path / "kept").read_bytes():
            refuse(two)
        shutil.copy(tmp_path / "kept", two / name)
    shutil.copy(one / DATA, two / DATA)
    with pytest.raises(CorruptionError):
        weight_in(two, signing_key=KEY)


def test_a_signature_of_another_snapshot_is_none_of_this_one(tmp_path: Path) -> None:
    one, forged = take_signed(tmp_path / "one"), tmp_path / "forged"
    Snapshot.take(forged, state_of(666.0))
    shutil.copy(one / SIGNATURE, forged / SIGNATURE)
    assert "changed after it was signed" in str(refuse(forged))


def test_a_snapshot_that_somebody_else_has_signed_is_told_from_one_that_was_changed(tmp_path: Path) -> None:
    path = take_signed(tmp_path / "one", key=OTHER_KEY)
    assert "signed with another key" in str(refuse(path))


def test_moving_a_whole_signed_snapshot_is_no_forgery(signed: Path, tmp_path: Path) -> None:
    shutil.copytree(signed, tmp_path / "backup")
    assert weight_in(tmp_path / "backup", signing_key=KEY) == 1


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_forged_pickle_is_not_read_even_where_pickles_are_allowed(tmp_path: Path) -> None:
    path, made = tmp_path / "step_1", tmp_path / "made"
    Snapshot.take(path, {"state": StateDict(x=Payload(made))}, signing_key=OTHER_KEY)
    with pytest.raises(SignatureError):
        Snapshot(path, signing_key=KEY).restore({"state": StateDict(x=None)}, allow_pickle=True)
    assert not made.exists()


def test_a_signature_is_no_permission_to_run_pickles(tmp_path: Path) -> None:
    path, made = tmp_path / "step_1", tmp_path / "made"
    Snapshot.take(path, {"state": StateDict(x=Payload(made))}, signing_key=KEY)
    with pytest.raises(SucroseError, match="allow_pickle"):
        Snapshot(path, signing_key=KEY).restore({"state": StateDict(x=None)})
    assert not made.exists()
    Snapshot(path, signing_key=KEY).restore({"state": StateDict(x=None)}, allow_pickle=True)
    assert made.exists()


@pytest.mark.parametrize("name", [METADATA, INDEX, SIGNATURE, DATA])
def test_links_to_files_of_another_snapshot_are_not_followed(signed: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(signed / name, elsewhere)
    (signed / name).unlink()
    (signed / name).symlink_to(elsewhere)
    with pytest.raises((CorruptionError, SignatureError)):
        weight_in(signed, signing_key=KEY)


def test_a_signed_snapshot_that_is_swapped_after_it_was_opened_is_found(signed: Path, tmp_path: Path) -> None:
    snapshot = Snapshot(signed, signing_key=KEY)
    assert snapshot.read_object("0/state/steps") == 7
    signed.rename(tmp_path / "away")
    Snapshot.take(signed, state_of(666.0))
    with pytest.raises(CorruptionError):
        snapshot.read_object("0/state/weight")


def test_the_object_that_took_a_snapshot_reads_no_forgery_of_it(tmp_path: Path) -> None:
    path = tmp_path / "step_1"
    snapshot = Snapshot.take(path, state_of(), signing_key=KEY)
    path.rename(tmp_path / "away")
    Snapshot.take(path, state_of(666.0))
    with pytest.raises(SignatureError):
        snapshot.read_object("0/state/weight")


def test_references_lose_the_key_when_they_are_pickled_and_then_read_nothing(signed: Path) -> None:
    snapshot = Snapshot(signed, signing_key=KEY)
    pickled = pickle.dumps(snapshot)
    assert KEY.encode() not in pickled
    with pytest.raises(SucroseError, match="do not go along with a pickle"):
        _ = pickle.loads(pickled).metadata
