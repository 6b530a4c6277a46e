"""Memory, threads and rings that cannot be had (F2): an error, or less speed; never a lost or a damaged save."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import torch
from saves import SAVES, Save, hidden_in, open_files_and_threads, state, value_in

import sucrose.engine
from sucrose import Snapshot, StateDict
from sucrose.engine import make_engine
from sucrose.errors import SucroseError
from sucrose.options import current_options, override_options
from sucrose.testing import count_calls, inject

if TYPE_CHECKING:
    from pathlib import Path

SITES = ["allocate", "mmap", "thread_start", "submit", "completion"]


def use_new_engine(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with override_options(engine="native", io_backend=backend, ring_slots=4, workers=2, direct_min_nbytes=4096):
        monkeypatch.setitem(sucrose.engine._shared, "native", make_engine(current_options()))


def big_state(value: float) -> dict[str, StateDict]:
    return {"state": StateDict(tensor=torch.full((3 << 20,), value))}


@pytest.mark.parametrize("backend", ["io_uring", "threads"])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
def test_whatever_cannot_be_had_nothing_is_lost_and_the_next_save_works(
    backend: str, forever: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUCROSE_ENGINE", "native")
    use_new_engine(backend, monkeypatch)
    Snapshot.take(tmp_path / "s", big_state(1.0))
    with count_calls() as calls:
        use_new_engine(backend, monkeypatch)
        Snapshot.take(tmp_path / "s", big_state(1.0), overwrite=True)
    assert calls["allocate"]
    assert calls["thread_start"]
    old = 1.0
    for site in SITES:
        for nth in range(1, min(calls[site], 3) + 1):
            with inject(site, nth=nth, errno=errno.ENOMEM, forever=forever) as injection:
                try:
                    use_new_engine(backend, monkeypatch)
                    Snapshot.take(tmp_path / "s", big_state(old + 1), overwrite=True)
                except (OSError, MemoryError, RuntimeError, SucroseError) as error:
                    number = error.errno if isinstance(error, OSError) else errno.ENOMEM
                else:
                    number = 0
                    old += 1
            assert number == 0 or (injection.hits and number == errno.ENOMEM), (site, nth)
            found = Snapshot(tmp_path / "s").read_object("0/state/tensor")
            assert found.eq(old).all(), (site, nth)
            assert not hidden_in(tmp_path), (site, nth)
            old += 1
            Snapshot.take(tmp_path / "s", big_state(old), overwrite=True)
            assert Snapshot(tmp_path / "s").verify(), (site, nth)


@pytest.mark.parametrize("save", SAVES, ids=str)
@pytest.mark.usefixtures("each_backend")
def test_a_save_that_can_start_no_thread_fails_or_succeeds_and_leaves_nothing_open(
    save: Save, quick_path: Path
) -> None:
    save.save(quick_path, 1)
    with count_calls() as calls:
        save.save(quick_path, 2)
    value, before = 2, open_files_and_threads()
    for nth in range(1, calls["thread_start"] + 1):
        with inject("thread_start", nth=nth, errno=errno.EAGAIN, forever=True):
            try:
                save.save(quick_path, value + 1)
            except (OSError, RuntimeError, SucroseError):
                assert save.found(quick_path) in (value, value + 1)
            else:
                assert save.found(quick_path) == value + 1
        value = (save.found(quick_path) or 0) + 1
        save.save(quick_path, value)
        assert save.found(quick_path) == value
    assert open_files_and_threads() == before


@pytest.mark.usefixtures("each_backend")
def test_a_restore_without_a_mapping_reads_instead(tmp_path: Path) -> None:
    Snapshot.take(tmp_path / "s", state(5))
    with inject("mmap", errno=errno.ENOMEM, forever=True):
        assert value_in(Snapshot(tmp_path / "s")) == 5
