"""Catalogs with a signing key, and somebody without it who can write to the folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from signed_snapshots import DATA, KEY, METADATA, OTHER_KEY, SIGNATURE, flipped

from sucrose import Catalog, Generation, StateDict
from sucrose.errors import CorruptionError, IncompleteSnapshotError, SignatureError
from sucrose.formats.generation import GENERATION_FILE, decode_generation, encode_generation


def save(root: Path, step: int, *, key: object = KEY) -> Generation:
    state = {"state": StateDict(weight=torch.full((3,), float(step)))}
    return Catalog(root, signing_key=key).save(step, state, metrics={"loss": float("nan")})  # type: ignore[arg-type]


def restored(root: Path, step: int | None = None, *, key: object = KEY) -> float:
    """The value that is found, of the newest or of one step."""
    state = StateDict(weight=torch.zeros(3))
    catalog = Catalog(root, signing_key=key)  # type: ignore[arg-type]
    if step is None:
        assert catalog.restore_latest({"state": state}) is not None
    else:
        catalog.restore(step, {"state": state})
    return float(state["weight"][0])


def with_other_record(generation: Generation, **changes: object) -> None:
    """Makes the generation say something else of itself, with a digest that fits."""
    import msgspec

    path = Path(generation.path) / GENERATION_FILE
    record = decode_generation(path.read_bytes(), path=str(path))
    path.write_bytes(encode_generation(msgspec.structs.replace(record, **changes)))


def test_a_signed_catalog_is_restored_with_its_key_and_without(tmp_path: Path) -> None:
    save(tmp_path, 1)
    generation = save(tmp_path, 2)
    assert restored(tmp_path) == 2
    assert restored(tmp_path, 1) == 1
    assert restored(tmp_path, key=None) == 2
    assert float(generation.snapshot().read_object("0/state/weight")[0]) == 2
    latest = Catalog(tmp_path, signing_key=KEY).latest(verify=True)
    assert latest is not None
    assert latest.id == generation.id


def test_an_asynchronous_save_is_signed_too(tmp_path: Path) -> None:
    state = {"state": StateDict(weight=torch.full((3,), 4.0))}
    pending = Catalog(tmp_path, signing_key=KEY).async_save(1, state)
    assert float(pending.wait().snapshot().read_object("0/state/weight")[0]) == 4
    assert restored(tmp_path) == 4


@pytest.mark.parametrize("key", [None, OTHER_KEY], ids=["unsigned", "other-key"])
def test_the_newest_generation_that_is_signed_is_restored_and_the_log_names_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: object
) -> None:
    save(tmp_path, 1)
    planted = save(tmp_path, 2, key=key)
    assert restored(tmp_path) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert planted.path in caplog.text
    assert Path(planted.path).is_dir()  # it is somebody's, and not broken
    catalog = Catalog(tmp_path, signing_key=KEY)
    assert catalog.quarantined() == []
    latest = catalog.latest()
    assert latest is not None
    assert latest.step == 1
    with pytest.raises(SignatureError):
        restored(tmp_path, 2)


def test_what_is_saved_after_a_planted_generation_is_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 9, key=None)
    assert restored(tmp_path) == 1
    save(tmp_path, 2)
    assert restored(tmp_path) == 2
    assert restored(tmp_path, key=None) == 2


def test_where_nothing_is_signed_nothing_is_restored_and_nothing_begins_anew(tmp_path: Path) -> None:
    save(tmp_path, 1, key=None)
    save(tmp_path, 2, key=None)
    for look in (Catalog(tmp_path, signing_key=KEY).latest, lambda: restored(tmp_path)):
        with pytest.raises(SignatureError, match=r"no generation in .* is signed .*snapshot\(\)\.sign\(\)") as caught:
            look()
        assert caught.value.path == str(tmp_path)
    assert restored(tmp_path, key=None) == 2


def test_an_old_catalog_is_taken_over_by_signing_its_generations(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step, key=None)
    for generation in Catalog(tmp_path, signing_key=KEY).generations():
        generation.snapshot().sign()
    assert restored(tmp_path) == 2
    assert restored(tmp_path, 1) == 1
    assert Catalog(tmp_path, signing_key=KEY).latest(verify=True) is not None


def test_an_empty_catalog_has_no_newest_generation(tmp_path: Path) -> None:
    assert Catalog(tmp_path, signing_key=KEY).latest() is None


def test_a_generation_under_the_name_of_another_is_none(tmp_path: Path) -> None:
    five, nine = save(tmp_path, 5), save(tmp_path, 9)
    shutil.rmtree(nine.path)
    Path(five.path).rename(nine.path)
    assert Catalog(tmp_path, signing_key=KEY).steps() == []
    with pytest.raises(IncompleteSnapshotError):
        restored(tmp_path, 9)


def test_a_generation_that_is_given_another_step_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 3)
    five = save(tmp_path, 5)
    with_other_record(five, step=9)
    with pytest.raises((SignatureError, CorruptionError)):
        restored(tmp_path, 9)
    assert restored(tmp_path) == 3


def test_an_older_generation_that_claims_to_be_the_newest_is_not_taken(tmp_path: Path) -> None:
    five, nine = save(tmp_path, 5), save(tmp_path, 9)
    with_other_record(five, timeline=7)
    assert restored(tmp_path) == 9
    assert nine.path == getattr(Catalog(tmp_path, signing_key=KEY).latest(), "path", None)


def test_damage_goes_to_quarantine_as_ever(tmp_path: Path) -> None:
    save(tmp_path, 1)
    two = Path(save(tmp_path, 2).path)
    data = (two / DATA).read_bytes()
    (two / DATA).write_bytes(flipped(data, len(data) - 1))
    assert restored(tmp_path) == 1
    assert [found.name for found in Catalog(tmp_path).quarantined()] == [two.name]


@pytest.mark.parametrize("name", [METADATA, SIGNATURE])
def test_what_was_changed_after_it_was_signed_is_passed_over(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    two = Path(save(tmp_path, 2).path)
    (two / name).write_bytes(flipped((two / name).read_bytes(), 30))
    assert restored(tmp_path) == 1
    assert two.is_dir()


def test_nothing_is_collected_for_the_sake_of_a_planted_generation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2, key=None)
    report = Catalog(tmp_path, keep_last=1, signing_key=KEY).collect()
    assert report.removed == ()
    assert "is not signed" in caplog.text
    assert restored(tmp_path) == 1


def test_keys_of_a_catalog_can_be_changed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    both = [b"the new key, of bytes", KEY]
    save(tmp_path, 2, key=both)
    assert restored(tmp_path, key=both) == 2
    assert restored(tmp_path, 1, key=both) == 1
    assert restored(tmp_path, key=both[0]) == 2


def test_the_list_of_a_catalog_shows_what_is_not_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sucrose.catalog.checked_listing import checked_listing
    from sucrose.catalog.local.directory import LocalCatalogDirectory

    save(tmp_path, 1)
    planted = save(tmp_path, 2, key=None)
    monkeypatch.setenv("SUCROSE_SIGNING_KEY", KEY)
    listing = checked_listing(LocalCatalogDirectory(str(tmp_path)))
    assert [generation.step for generation in listing.generations] == [1]
    assert [(broken.name, "is not signed" in broken.reason) for broken in listing.broken] == [(planted.id, True)]
