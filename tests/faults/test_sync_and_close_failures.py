"""An fsync that fails once is final (F10), and so is a close (F11): nothing is committed that was not safe."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from saves import SAVES, Save, hidden_in

from sucrose.errors import NotDurableError
from sucrose.testing import count_calls, inject

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("save", SAVES, ids=str)
@pytest.mark.usefixtures("each_backend")
def test_after_an_fsync_that_failed_once_nothing_new_is_there_unless_the_error_says_so(
    save: Save, quick_path: Path
) -> None:
    save.save(quick_path, 1)
    with count_calls() as calls:
        save.save(quick_path, 2)
    value, told = 2, set()
    for nth in range(1, calls["fsync"] + 1):
        with inject("fsync", nth=nth), pytest.raises(OSError, match=r".") as caught:
            save.save(quick_path, value + 1)
        assert caught.value.errno == errno.EIO
        in_place = isinstance(caught.value, NotDurableError)
        told.add(in_place)
        assert save.found(quick_path) == value + in_place, f"fsync {nth}"
        assert in_place or not hidden_in(quick_path), f"fsync {nth}"
        value += 2
        save.save(quick_path, value)
        assert save.found(quick_path) == value
    assert told == {False, True}  # of the files, and of the folder in the end


@pytest.mark.parametrize("save", SAVES, ids=str)
@pytest.mark.usefixtures("each_backend")
def test_a_close_that_fails_never_lets_half_a_save_be_found(save: Save, quick_path: Path) -> None:
    save.save(quick_path, 1)
    with count_calls() as calls:
        save.save(quick_path, 2)
    value, failed = 2, 0
    for nth in range(1, calls["close"] + 1):
        with inject("close", nth=nth):
            try:
                save.save(quick_path, value + 1)
            except OSError as error:
                failed += 1
                number = error.errno
            else:
                number = None
        assert number in (None, errno.EIO)
        assert save.found(quick_path) in ((value + 1,) if number is None else (value, value + 1)), f"close {nth}"
        value += 2
        save.save(quick_path, value)
        assert save.found(quick_path) == value
    assert failed
