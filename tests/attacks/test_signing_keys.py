"""The keys: how they are given and changed, and that they show nowhere."""

from __future__ import annotations

import copy
import hashlib
import hmac
import io
import json
import logging
import pickle
import struct
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import torch
from signed_snapshots import (
    DATA,
    INDEX,
    KEY,
    OTHER_KEY,
    SIGNATURE,
    flipped,
    state_of,
    take_signed,
    weight_in,
    with_other_index,
)

from sucrose import Catalog, Snapshot, StateDict
from sucrose.errors import ConfigError, CorruptionError, IncompleteSnapshotError, SignatureError, UnsupportedError
from sucrose.formats.signature import snapshot_signer
from sucrose.formats.signing_keys import Signer
from sucrose.snapshot.take_request import TakeRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VARIABLE = "SUCROSE_SIGNING_KEY"
NEW_KEY = b"the new key, no comma in bytes"


def test_the_environment_gives_the_key_for_writing_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    Snapshot.take(tmp_path / "step_1", state_of())
    assert weight_in(tmp_path / "step_1") == 1
    assert weight_in(tmp_path / "step_1", signing_key=KEY.encode()) == 1
    monkeypatch.setenv(VARIABLE, "x" * 16)
    with pytest.raises(SignatureError, match="another key"):
        weight_in(tmp_path / "step_1")
    assert weight_in(tmp_path / "step_1", signing_key=KEY) == 1  # an argument goes before the environment
    monkeypatch.delenv(VARIABLE)
    assert weight_in(tmp_path / "step_1") == 1


@pytest.mark.parametrize("key", ["", "fifteen bytes!!", b"short", f"{KEY},short", f"{KEY},", [KEY, b""]])
def test_a_key_that_is_too_short_is_refused_wherever_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: Any
) -> None:
    uses: list[Callable[[], object]] = [
        lambda: Snapshot(tmp_path / "a", signing_key=key),
        lambda: Snapshot.take(tmp_path / "a", state_of(), signing_key=key),
        lambda: Snapshot.async_take(tmp_path / "a", state_of(), signing_key=key),
        lambda: Catalog(tmp_path / "b", signing_key=key),
    ]
    if isinstance(key, str):
        monkeypatch.setenv(VARIABLE, key)
        uses += [lambda: Snapshot.take(tmp_path / "a", state_of()), lambda: Catalog(tmp_path / "b")]
    for use in uses:
        with pytest.raises(ConfigError, match="at least 16"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_no_key_at_all_is_not_the_same_as_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="empty"):
        Snapshot(tmp_path, signing_key=[])


@pytest.mark.parametrize("key", [3, [KEY, 3]], ids=["alone", "among-others"])
def test_what_can_be_no_key_is_refused_with_what_can(tmp_path: Path, key: Any) -> None:
    with pytest.raises(TypeError, match="a signing key is a int, expected text, bytes, or several of them"):
        Snapshot(tmp_path, signing_key=key)


def test_keys_are_changed_by_setting_the_new_one_before_the_old_one(tmp_path: Path) -> None:
    old = take_signed(tmp_path / "old", 1.0, key=KEY)
    both = [NEW_KEY, KEY]
    new = take_signed(tmp_path / "new", 2.0, key=both)
    assert weight_in(old, signing_key=both) == 1
    assert weight_in(new, signing_key=both) == 2
    assert weight_in(new, signing_key=NEW_KEY) == 2
    with pytest.raises(SignatureError, match="another key"):
        weight_in(new, signing_key=KEY)
    index = (old / INDEX).read_bytes()
    Snapshot(old, signing_key=both).sign()
    assert weight_in(old, signing_key=NEW_KEY) == 1
    assert (old / INDEX).read_bytes() == index


def test_text_is_split_at_commas_and_bytes_are_not(tmp_path: Path) -> None:
    path = take_signed(tmp_path / "a", key=OTHER_KEY)
    assert b"," in OTHER_KEY
    assert weight_in(path, signing_key=[KEY, OTHER_KEY]) == 1
    path = take_signed(tmp_path / "b", key=f" {KEY} ,{'o' * 20}")
    assert weight_in(path, signing_key=KEY) == 1


def test_a_key_for_one_use_signs_nothing_of_another() -> None:
    here, there = Signer(KEY, use=b"one"), Signer(KEY, use=b"two")
    assert not there.has_signed(here.sign(b"text"), b"text")
    assert not there.knows(here.key_id)


def test_signing_makes_an_unsigned_snapshot_a_signed_one(tmp_path: Path, each_engine: str) -> None:
    path = tmp_path / "step_1"
    weight = torch.arange(3_000_000, dtype=torch.float32)  # three chunks
    Snapshot.take(path, {"state": StateDict(weight=weight, group=(1, 2))})
    Snapshot(path, signing_key=KEY).sign()
    assert torch.equal(Snapshot(path, signing_key=KEY).read_object("0/state/weight"), weight)
    assert Snapshot(path, signing_key=KEY).read_object("0/state/group") == (1, 2)
    assert Snapshot(path, signing_key=KEY).verify()
    assert Snapshot(path).verify()
    index = json.loads((path / INDEX).read_bytes().split(b"\n")[0])
    assert (index["digest"], index["format_version"]) == ("sha256-128", 2)
    assert sorted(child.name for child in path.iterdir()) == sorted(
        [INDEX, SIGNATURE, ".snapshot_metadata", "data", "objects"]
    )


def test_a_compressed_snapshot_can_be_signed_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "step_1"
    weight = torch.zeros(3_000_000)
    Snapshot.take(path, {"state": StateDict(weight=weight)}, compression="zstd")
    Snapshot(path, signing_key=KEY).sign()
    assert torch.equal(Snapshot(path, signing_key=KEY).read_object("0/state/weight"), weight)
    assert Snapshot(path, signing_key=KEY).verify()


def test_what_was_changed_after_it_was_signed_is_not_signed_again(tmp_path: Path) -> None:
    path = take_signed(tmp_path / "step_1")
    with_other_index(path, lambda index: index.update(writer="somebody"))
    with pytest.raises(SignatureError, match="changed after"):
        Snapshot(path, signing_key=[NEW_KEY, KEY]).sign()
    with pytest.raises(SignatureError):
        weight_in(path, signing_key=NEW_KEY)


def test_what_is_damaged_is_not_signed(tmp_path: Path) -> None:
    path = tmp_path / "step_1"
    Snapshot.take(path, state_of())
    data = (path / DATA).read_bytes()
    (path / DATA).write_bytes(flipped(data, len(data) - 1))
    with pytest.raises(CorruptionError):
        Snapshot(path, signing_key=KEY).sign()
    assert not (path / SIGNATURE).exists()


def test_signing_needs_a_key_an_index_and_a_snapshot(tmp_path: Path) -> None:
    Snapshot.take(tmp_path / "a", {"state": StateDict(x=1)})
    with pytest.raises(ConfigError, match=VARIABLE):
        Snapshot(tmp_path / "a").sign()
    with pytest.raises(IncompleteSnapshotError):
        Snapshot(tmp_path / "b", signing_key=KEY).sign()
    (tmp_path / "a" / INDEX).unlink()
    with pytest.raises(UnsupportedError, match="has no index"):
        Snapshot(tmp_path / "a", signing_key=KEY).sign()


def test_a_signature_that_cannot_be_written_leaves_the_snapshot_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sucrose.storage import local

    path = tmp_path / "step_1"
    Snapshot.take(path, state_of())
    replace_file = local.replace_file

    def full(target: str, data: bytes, sync: Any) -> None:
        if target.endswith(SIGNATURE):
            raise OSError(28, "No space left on device", target)
        replace_file(target, data, sync)

    monkeypatch.setattr(local, "replace_file", full)
    with pytest.raises(OSError, match="No space left"):
        Snapshot(path, signing_key=KEY).sign()
    assert weight_in(path) == 1
    monkeypatch.undo()
    Snapshot(path, signing_key=KEY).sign()
    assert weight_in(path, signing_key=KEY) == 1


def test_keys_show_in_no_repr_no_pickle_no_log_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hunter2hunter2hunter2"
    monkeypatch.setenv(VARIABLE, secret)
    caplog.set_level(logging.DEBUG)
    signer = snapshot_signer(secret)
    derived = signer._keys[0]
    catalog = Catalog(tmp_path / "catalog")
    generation = catalog.save(1, state_of())
    snapshot = Snapshot(generation.path)
    request = TakeRequest(path="x", app_state={}, signer=signer)
    shown = [repr(it) for it in (signer, snapshot, catalog, generation, request, snapshot.stats)]
    shown += [str(vars(snapshot)), caplog.text]
    pickles = [pickle.dumps(it) for it in (signer, snapshot, generation)]
    Snapshot.take(tmp_path / "plain", state_of(), signing_key=KEY)
    with pytest.raises(SignatureError) as caught:
        weight_in(tmp_path / "plain")
    stream = io.StringIO()
    traceback.print_exception(caught.value, file=stream)
    shown += [stream.getvalue(), repr(caught.value)]
    for text in shown:
        assert secret not in text
        assert derived.hex() not in text
        assert repr(derived)[2:-1] not in text
    for data in pickles:
        assert secret.encode() not in data
        assert derived not in data
    for file in (tmp_path / "catalog").rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes()
            assert derived not in file.read_bytes()


def test_copies_keep_the_key_and_pickles_refuse_to_be_used() -> None:
    signer = snapshot_signer(KEY)
    signature = signer.sign(b"text")
    assert copy.copy(signer).has_signed(signature, b"text")
    assert copy.deepcopy([signer])[0].has_signed(signature, b"text")
    pickled = pickle.loads(pickle.dumps(signer))
    for use in (lambda: pickled.sign(b"text"), lambda: pickled.has_signed(signature, b"text"), lambda: pickled.key_id):
        with pytest.raises(ConfigError, match="do not go along"):
            use()


def test_the_key_id_tells_keys_apart_and_is_not_the_key() -> None:
    assert snapshot_signer(KEY).key_id == snapshot_signer([KEY, NEW_KEY]).key_id
    assert snapshot_signer(KEY).key_id != snapshot_signer(NEW_KEY).key_id
    assert KEY.encode().hex() not in snapshot_signer(KEY).key_id


def test_a_signature_is_what_the_specification_says(tmp_path: Path) -> None:
    path = take_signed(tmp_path / "step_1")
    index, metadata = (path / INDEX).read_bytes(), (path / ".snapshot_metadata").read_bytes()
    own_key = hmac.digest(KEY.encode(), b"sucrose snapshot v1", "sha256")
    message = b"sucrose-signature 1\n" + struct.pack("<Q", len(index)) + index
    message += struct.pack("<Q", len(metadata)) + metadata
    key_id = hmac.digest(own_key, b"key id", "sha256").hex()[:16]
    signature = hmac.digest(own_key, message, "sha256").hex()
    assert (path / SIGNATURE).read_text() == f"sucrose-signature 1 hmac-sha256 {key_id} {signature}\n"
    digests = json.loads(index.split(b"\n")[0])["files"][DATA]["digests"]
    assert digests == hashlib.sha256((path / DATA).read_bytes()).hexdigest()[:32]
