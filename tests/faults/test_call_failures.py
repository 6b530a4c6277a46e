"""Each call that a save or a restore makes to the system fails, once and from then on, with each errno (F1).

A program that goes on after the failure finds the old value or the new one, whole; a later save works.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import random
import shutil
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from saves import SAVES, Save, hidden_in, open_files_and_threads, state, value_in

from sucrose import Snapshot
from sucrose.engine import Extents, make_engine
from sucrose.errors import CorruptionError, NotDurableError, StorageError, SucroseError
from sucrose.options import current_options, override_options
from sucrose.testing import Injection, count_calls, inject

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

ERRNOS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR, errno.EAGAIN, errno.ENOMEM, errno.EROFS]
TRANSFERS = ["open", "pwrite", "pread", "fsync", "close", "ftruncate", "fallocate"]
SITES = [*TRANSFERS, "rename", "exchange", "mkdir", "unlink", "rmdir", "stat", "listdir"]
REMOVAL = {"open", "stat", "listdir", "unlink", "rmdir", "close"}
"""Where these fail a temporary cannot be removed, or not be found."""
LOOKS = {"stat", "listdir", "open", "pread"}
"""What these fail with may be taken for something that is not there, or is in the way."""


@dataclass(frozen=True)
class Failure:
    site: str
    nth: int
    errno: int
    forever: bool

    def injected(self) -> AbstractContextManager[Injection]:
        """Python makes interrupted calls again for ever, so that fifty of them have to do."""
        interrupts = self.errno == errno.EINTR
        times = 50 if interrupts and self.forever else 1
        return inject(self.site, nth=self.nth, errno=self.errno, times=times, forever=self.forever and not interrupts)

    def __str__(self) -> str:
        return f"{self.site} {self.nth} {errno.errorcode[self.errno]} {'from then on' if self.forever else 'once'}"


def all_failures(calls: dict[str, int]) -> list[Failure]:
    return [
        Failure(site, nth, number, forever)
        for site in SITES
        for nth in range(1, calls[site] + 1)
        for number in ERRNOS
        for forever in (False, True)
    ]


def one_of_each_kind(failures: list[Failure], chance: random.Random, most: int) -> list[Failure]:
    """Each call fails once at least, each errno comes at each site; drawn anew for each kind of save."""
    chance.shuffle(failures)
    calls, kinds, chosen = set(), set(), []
    for failure in failures:
        call, kind = (failure.site, failure.nth), (failure.site, failure.errno)
        looks = failure.site in ("stat", "listdir")
        if (call not in calls and not (looks and failure.nth % 3)) or (kind not in kinds and not looks):
            chosen.append(failure)
        calls.add(call)
        kinds.add(kind)
    return chosen[:most]


def try_failure(save: Save, folder: Path, failure: Failure, value: int) -> None:
    """Lets the save of `value` fail, and saves the next one."""
    raised: Exception | None = None
    with failure.injected() as injection:
        try:
            save.save(folder, value)
        except Exception as error:  # noqa: BLE001 - looked at below
            raised = error
    found = save.found(folder)
    if found is None and save.name == "states" and failure.errno == errno.EIO and failure.site in LOOKS | {"close"}:
        found = value - 1  # a generation that the disk cannot read is moved out of the way, and kept
        assert list(folder.glob("states/quarantine/step_*/.snapshot_metadata")), failure
    assert found in (value - 1, value), f"{failure}: found {found}"
    if raised is None:
        assert found == value, f"{failure}: the save said nothing"
    elif not injection.hits:
        raise raised
    else:
        assert isinstance(raised, (OSError, SucroseError)), f"{failure}: {raised!r}"
        if failure.site not in LOOKS:
            assert isinstance(raised, OSError), f"{failure}: {raised!r}"
            assert raised.errno == failure.errno, f"{failure}: {raised!r}"
        if isinstance(raised, NotDurableError):
            assert found == value, f"{failure}: said to be in place"
    if failure.site not in REMOVAL and not isinstance(raised, NotDurableError):
        assert not hidden_in(folder), failure
    for name in hidden_in(folder):
        shutil.rmtree(folder / name, ignore_errors=True)
    try:
        save.save(folder, value + 1)
    except OSError as error:
        raise AssertionError(f"the save after {failure}: {error!r}; that one raised {raised!r}") from error
    assert save.found(folder) == value + 1, f"the save after {failure}"


def try_failures(save: Save, folder: Path, failures: list[Failure], caplog: pytest.LogCaptureFixture) -> None:
    value = 3
    caplog.set_level(logging.CRITICAL, "sucrose")  # log records keep errors, and those what they have seen
    before = open_files_and_threads()
    for failure in failures:
        try_failure(save, folder, failure, value + 1)
        value += 2
    assert open_files_and_threads() == before


def calls_of(save: Save, folder: Path) -> dict[str, int]:
    """Of the third save: threads are there by then, and there is something to replace."""
    save.save(folder, 1)
    save.save(folder, 2)
    with count_calls() as calls:
        save.save(folder, 3)
    return calls


@pytest.mark.parametrize("save", SAVES, ids=str)
def test_whatever_call_fails_the_old_value_or_the_new_one_is_there(
    save: Save, each_backend: str, quick_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures = all_failures(calls_of(save, quick_path))
    chosen = one_of_each_kind(failures, random.Random(f"{save} {each_backend}"), most=24)
    assert len(chosen) > 10
    try_failures(save, quick_path, chosen, caplog)


@pytest.mark.large
@pytest.mark.parametrize("save", SAVES, ids=str)
@pytest.mark.usefixtures("each_backend")
def test_whatever_call_fails_with_each_errno_the_old_value_or_the_new_one_is_there(
    save: Save, quick_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    try_failures(save, quick_path, all_failures(calls_of(save, quick_path)), caplog)


@pytest.mark.parametrize("site", ["open", "pwrite", "fsync", "ftruncate", "fallocate"])
@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.usefixtures("each_backend")
def test_an_interrupted_call_is_made_again(site: str, times: int, tmp_path: Path) -> None:
    with inject(site, errno=errno.EINTR, times=times):
        Snapshot.take(tmp_path / "s", state(1))
    assert value_in(Snapshot(tmp_path / "s")) == 1


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN], ids=["EINTR", "EAGAIN"])
@pytest.mark.parametrize("site", ["pwrite", "pread"])
def test_transfers_that_are_put_off_are_made_again(site: str, number: int, each_backend: str, tmp_path: Path) -> None:
    if each_backend == "reference":
        pytest.skip("Python itself makes interrupted calls again, and no other")
    data, nbytes = str(tmp_path / "data"), 1 << 14
    sources, destinations = Extents(), Extents()
    sources.append_bytes(bytes(range(256)) * (nbytes // 256))
    found = bytearray(nbytes)
    destinations.append(ctypes.addressof(ctypes.c_char.from_buffer(found)), nbytes)
    with override_options(engine="native", io_backend=each_backend, read_mode="direct"):
        engine = make_engine(current_options())
    with inject(site, errno=number, times=30) as injection:
        engine.write(data, sources).wait()
        engine.read(data, array("Q", [0]), destinations, file_nbytes=nbytes).wait()
    assert injection.hits == 30
    assert found == bytes(range(256)) * (nbytes // 256)


@pytest.mark.usefixtures("each_backend")
def test_a_restore_whose_calls_fail_says_so_and_a_later_one_is_right(quick_path: Path) -> None:
    Snapshot.take(quick_path / "s", state(7))
    with count_calls() as calls:
        value_in(Snapshot(quick_path / "s"))
    failures = one_of_each_kind(all_failures(calls), random.Random(1), most=40)
    before = open_files_and_threads()
    for failure in failures:
        with failure.injected():
            try:
                outcome: object = value_in(Snapshot(quick_path / "s"))
            except (OSError, CorruptionError) as error:
                outcome = error
        if isinstance(outcome, OSError):
            assert outcome.errno == failure.errno or failure.site in LOOKS, failure
        else:
            assert isinstance(outcome, CorruptionError) or outcome == 7, failure
        assert value_in(Snapshot(quick_path / "s")) == 7, failure
    assert open_files_and_threads() == before


@pytest.mark.usefixtures("each_backend")
def test_a_folder_that_cannot_be_opened_is_not_taken_for_one_that_others_hold(quick_path: Path) -> None:
    """A save would otherwise make one hidden folder after another, each of them taken by somebody else."""
    with inject("open", errno=errno.EAGAIN, forever=True), pytest.raises(StorageError) as caught:
        Snapshot.take(quick_path / "s", state(1))
    assert caught.value.errno == errno.EAGAIN
    assert not (quick_path / "s").exists()


@pytest.mark.usefixtures("each_backend")
def test_where_nothing_can_be_looked_at_a_save_fails_and_does_not_search_for_ever(quick_path: Path) -> None:
    with inject("stat", forever=True), pytest.raises(OSError, match=r".") as caught:
        Snapshot.take(quick_path / "s", state(1))
    assert caught.value.errno == errno.EIO
