"""What saves itself before the end of the program, besides the states of the group."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.reports import report


class LastSave(Protocol):
    """Something with a save of its own."""

    @property
    def where(self) -> str:
        """Where it saves to, for reports."""

    def save_before_end(self, *, at_boundary: bool) -> None:
        """Saves what is not saved yet; called again and again, and in signal handlers, in the middle of anything.

        Args:
            at_boundary: the thread in which it was added is at a boundary, and waits.
        """

    def expected_s(self) -> float:
        """How long that will take; 0.0 where it is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Participant:
    """A last save, and the thread that has added it."""

    last_save: LastSave
    thread: threading.Thread


def of_this_thread() -> list[Participant]:
    """Those that the present thread has added."""
    thread = threading.current_thread()
    return [one for one in [*PROCESS.participants.values()] if one.thread is thread]


def save_participants(
    which: Collection[Participant] | None = None, *, but: Collection[Participant] = (), at_boundary: bool = False
) -> bool:
    """Has everybody save, or those that are named. False where one has failed, which is reported."""
    is_saved = True
    for one in [*PROCESS.participants.values()] if which is None else which:
        if one in but:
            continue
        has_saved = _save(one.last_save, at_boundary=at_boundary)
        is_saved = (has_saved or _save(one.last_save, at_boundary=at_boundary, is_last=True)) and is_saved
    return is_saved


def _save(last_save: LastSave, *, at_boundary: bool, is_last: bool = False) -> bool:
    """Is tried twice: a handler may raise in the middle, such as torch's when its workers are killed as well."""
    try:
        last_save.save_before_end(at_boundary=at_boundary)
    except Exception as error:  # noqa: BLE001 - the others are to be saved, too
        if is_last:
            report(
                f"the last save to {last_save.where} failed, earlier ones are untouched: "
                f"{type(error).__name__}: {error}"
            )
        return False
    return True


def expected_s() -> float:
    """How long all of them will take."""
    return sum(one.last_save.expected_s() for one in [*PROCESS.participants.values()])
