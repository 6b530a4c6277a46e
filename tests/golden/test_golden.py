"""Snapshots of every version of the format that was ever released restore, bit for bit, for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitwise import assert_same
from golden.make_golden import KEY, large_tensors
from interop import states

from sucrose import RNGState, Snapshot, StateDict
from sucrose.errors import SignatureError

GOLDEN = Path(__file__).resolve().parent
SAMPLES = sorted(path.name for path in GOLDEN.iterdir() if (path / "snapshot").is_dir())

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per_tensor")


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Path:
    return GOLDEN / str(request.param)


def expected_of(sample: Path) -> dict[str, Any]:
    return torch.load(sample / "expected.pt", weights_only=False)  # type: ignore[no-any-return]


def test_a_golden_sample_restores_in_place(each_engine: str, sample: Path) -> None:
    expected = expected_of(sample)
    empty = expected["contents"]["layouts"]["empty"].numel() == 0
    app_state = states.make_app_state(1, StateDict, RNGState, empty=empty)
    Snapshot(sample / "snapshot").restore(app_state)
    drawn = torch.rand(3)
    for key, value in states.contents(app_state).items():
        assert_same(value, expected["contents"][key], key)
    assert_same(drawn, expected["drawn"])


def test_a_golden_sample_is_read_without_a_target(each_engine: str, sample: Path) -> None:
    snapshot = Snapshot(sample / "snapshot")
    for key, value in expected_of(sample)["contents"].items():
        assert_same(dict(snapshot.get_state_dict_for_key(key)), dict(value), key)


@pytest.mark.parametrize("version", [1, 2])
def test_a_golden_sample_of_ours_verifies(each_engine: str, version: int) -> None:
    snapshot = Snapshot(GOLDEN / f"format_{version}" / "snapshot")
    assert snapshot.verify()
    index = (GOLDEN / f"format_{version}" / "snapshot" / ".snapshot_index").read_bytes().partition(b"\n")[0]
    assert json.loads(index)["format_version"] == version


def test_large_tensors_of_a_base_and_of_changed_pieces_come_back(each_engine: str) -> None:
    snapshot = Snapshot(GOLDEN / "format_2" / "snapshot")
    assert snapshot.bases == (str(GOLDEN / "format_2" / "base"),)
    assert_same(snapshot.get_state_dict_for_key("large"), dict(large_tensors()))


def test_the_signature_of_a_golden_sample_holds() -> None:
    sample = GOLDEN / "format_2" / "snapshot"
    assert Snapshot(sample, signing_key=KEY).verify()
    with pytest.raises(SignatureError):
        Snapshot(sample, signing_key=b"of somebody else entirely").get_manifest()
