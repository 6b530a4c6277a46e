"""Signed snapshots that refer to others: what they refer to is covered by their signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from signed_snapshots import DATA, KEY, flipped

from sucrose import Catalog, Snapshot, StateDict
from sucrose.errors import CorruptionError, SignatureError

if TYPE_CHECKING:
    from pathlib import Path


def state_of(head: float) -> dict[str, StateDict]:
    return {"state": StateDict(body=torch.ones(50_000), head=torch.full((10,), head))}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "step_1"
    Snapshot.take(path, state_of(1.0), signing_key=KEY, fingerprints=True)
    return path


@pytest.fixture
def dependent(tmp_path: Path, base: Path) -> Path:
    path = tmp_path / "step_2"
    snapshot = Snapshot.take(path, state_of(2.0), signing_key=KEY, base=base)
    assert snapshot.bases == (str(base),)
    return path


def body_in(path: Path) -> torch.Tensor:
    body: torch.Tensor = Snapshot(path, signing_key=KEY).read_object("0/state/body")
    return body


def test_a_signed_snapshot_on_a_signed_base_is_restored(dependent: Path) -> None:
    assert torch.equal(body_in(dependent), torch.ones(50_000))
    assert Snapshot(dependent, signing_key=KEY).verify()


def test_changed_data_of_the_base_is_found(base: Path, dependent: Path) -> None:
    data = (base / DATA).read_bytes()
    (base / DATA).write_bytes(flipped(data, 8192))
    with pytest.raises(CorruptionError):
        body_in(dependent)
    assert not Snapshot(dependent, signing_key=KEY).verify()


def test_a_base_that_was_replaced_as_a_whole_is_found(base: Path, dependent: Path, tmp_path: Path) -> None:
    base.rename(tmp_path / "away")
    Snapshot.take(base, {"state": StateDict(body=torch.full((50_000,), 666.0), head=torch.ones(10))})
    with pytest.raises(CorruptionError):
        body_in(dependent)


def test_nothing_is_taken_over_from_a_base_that_is_not_signed(tmp_path: Path) -> None:
    # Its fingerprints could say that nothing has changed, and its files be somebody else's.
    Snapshot.take(tmp_path / "planted", state_of(1.0), fingerprints=True)
    with pytest.raises(SignatureError, match="is not signed"):
        Snapshot.take(tmp_path / "step_2", state_of(2.0), signing_key=KEY, base=tmp_path / "planted")
    assert not (tmp_path / "step_2").exists()


def test_a_snapshot_with_a_base_can_be_signed_afterwards(tmp_path: Path) -> None:
    Snapshot.take(tmp_path / "step_1", state_of(1.0), fingerprints=True)
    Snapshot.take(tmp_path / "step_2", state_of(2.0), base=tmp_path / "step_1")
    Snapshot(tmp_path / "step_2", signing_key=KEY).sign()
    assert torch.equal(body_in(tmp_path / "step_2"), torch.ones(50_000))
    assert Snapshot(tmp_path / "step_2", signing_key=KEY).verify()
    assert Snapshot(tmp_path / "step_2").verify()


def test_what_is_made_whole_stays_signed(dependent: Path, tmp_path: Path) -> None:
    Snapshot(dependent, signing_key=KEY).flatten(tmp_path / "whole")
    assert torch.equal(body_in(tmp_path / "whole"), torch.ones(50_000))
    Snapshot(dependent, signing_key=KEY).flatten()
    assert Snapshot(dependent, signing_key=KEY).verify()


def test_an_incremental_catalog_can_be_signed(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, signing_key=KEY, full_every=3)
    for step in range(1, 5):
        catalog.save(step, state_of(float(step)))
    state = state_of(0.0)
    restored = catalog.restore_latest(state)
    assert restored is not None
    assert restored.step == 4
    assert float(state["state"]["head"][0]) == 4


def test_a_planted_generation_is_no_base_and_does_not_keep_a_catalog_from_saving(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Catalog(tmp_path, full_every=3).save(1, state_of(666.0))
    generation = Catalog(tmp_path, signing_key=KEY, full_every=3).save(2, state_of(2.0))
    assert "is not signed" in caplog.text
    assert generation.snapshot().bases == ()
    assert generation.snapshot().verify()
