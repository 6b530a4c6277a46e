"""Somebody without the key makes a signed snapshot look like one that needs no signature."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from signed_snapshots import INDEX, KEY, METADATA, SIGNATURE, state_of, take_signed, weight_in, with_other_index

from sucrose import Snapshot
from sucrose.errors import ConfigError, SignatureError
from sucrose.formats.signature import encode_signature, snapshot_signer

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    return take_signed(tmp_path / "step_1")


def refuse(path: Path, *, match: str) -> None:
    with pytest.raises(SignatureError, match=match) as caught:
        Snapshot(path, signing_key=KEY).restore(state_of())
    assert caught.value.path == str(path)


def test_without_its_signature_it_is_refused_with_the_way_out(signed: Path) -> None:
    (signed / SIGNATURE).unlink()
    refuse(signed, match=r"is not signed.*SUCROSE_SIGNING_KEY.*Snapshot\(path\)\.sign\(\)")
    assert weight_in(signed) == 1


def test_a_snapshot_that_was_never_signed_is_refused(tmp_path: Path) -> None:
    Snapshot.take(tmp_path / "plain", state_of())
    refuse(tmp_path / "plain", match="is not signed")


def test_without_index_and_signature_it_is_refused(signed: Path) -> None:
    (signed / INDEX).unlink()
    refuse(signed, match="has no index")
    (signed / SIGNATURE).unlink()
    refuse(signed, match="has no index")


def test_the_format_of_an_older_release_is_refused(signed: Path) -> None:
    def as_version_1(index: dict[str, Any]) -> None:
        index["format_version"], index["digest"] = 1, "xxh3-128"

    with_other_index(signed, as_version_1)
    refuse(signed, match="changed after it was signed")
    (signed / SIGNATURE).unlink()
    refuse(signed, match="is not signed")


def test_golden_snapshots_of_older_releases_are_refused_under_a_key(tmp_path: Path) -> None:
    golden = [path.parent for path in GOLDEN.rglob(METADATA)]
    assert golden
    for path in golden:
        with pytest.raises(SignatureError):
            _ = Snapshot(path, signing_key=KEY).metadata


def test_a_newer_signature_is_refused_by_its_version(signed: Path) -> None:
    data = (signed / SIGNATURE).read_bytes()
    (signed / SIGNATURE).write_bytes(data.replace(b"signature 1 ", b"signature 2 ed25519 "))
    refuse(signed, match="signature of version 2, this release checks 1")


@pytest.mark.parametrize("algorithm", [b"none", b"hmac-md5", b""])
def test_no_other_algorithm_is_accepted(signed: Path, algorithm: bytes) -> None:
    data = (signed / SIGNATURE).read_bytes()
    (signed / SIGNATURE).write_bytes(data.replace(b"hmac-sha256", algorithm))
    refuse(signed, match="damaged")


def test_digests_that_a_forger_could_match_are_refused_even_if_they_are_signed(tmp_path: Path) -> None:
    path = tmp_path / "step_1"
    Snapshot.take(path, state_of())
    index, metadata = (path / INDEX).read_bytes(), (path / METADATA).read_bytes()
    assert json.loads(index.split(b"\n")[0])["digest"] == "xxh3-128"
    (path / SIGNATURE).write_bytes(encode_signature(snapshot_signer(KEY), index=index, metadata=metadata))
    refuse(path, match="'xxh3-128', which a forger could match")


def test_digests_cannot_be_turned_off_under_a_key(signed: Path) -> None:
    snapshot = Snapshot(signed, signing_key=KEY)
    for read in (
        lambda: snapshot.restore(state_of(), verify=False),
        lambda: snapshot.read_object("0/state/weight", verify=False),
        lambda: snapshot.get_state_dict_for_key("state", verify=False),
    ):
        with pytest.raises(ConfigError, match="verify=False cannot go with a signing key"):
            read()
    Snapshot(signed).restore(state_of(), verify=False)


def test_an_older_snapshot_in_the_place_of_a_newer_one_is_found_where_files_are_mixed(tmp_path: Path) -> None:
    older, newer = take_signed(tmp_path / "older", 1.0), take_signed(tmp_path / "newer", 2.0)
    for name in (INDEX, SIGNATURE):
        shutil.copy(older / name, newer / name)
    # The metadata of both is the same. So is what was signed, and the data of the newer one does not fit.
    assert not Snapshot(newer, signing_key=KEY).verify()
