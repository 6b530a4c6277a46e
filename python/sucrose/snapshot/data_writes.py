"""The data files of one take on their way to the storage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sucrose.formats.index import DIGEST_NAME
from sucrose.snapshot.progress import MAX_UNDER_WAY, ProgressBar, cancel_and_wait, ends_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from sucrose.engine import Encoding, Extents, Staging, WriteResult, WriteTicket
    from sucrose.snapshot.places.place import Place

_LOOK_UP_S = 0.5
_STAGING_MODES = ("none", "device", "host", "blocking")  # the later, the longer the caller waits


class DataWrites:
    """Writes under way, and the results of those that have ended, in the order of submission.

    `submit`, `wait_safe`, `wait` and `cancel_and_wait` belong to one thread at a time; the other
    methods may be called from any. Whoever waits calls `alive` now and then, which may raise.
    """

    def __init__(
        self,
        place: Place,
        *,
        staging: Staging | None,
        show_progress: bool | None,
        alive: Callable[[], None],
        digest_kind: str = DIGEST_NAME,
    ) -> None:
        self.results: list[WriteResult] = []
        self._place = place
        self._staging = staging
        self._digest_kind = digest_kind
        self._alive = alive
        self._bar = ProgressBar("saving", show_progress, alive)
        # Replaced as a whole and never changed, so that other threads see tickets and bytes that
        # belong together.
        self._state: tuple[tuple[WriteTicket, ...], int] = ((), 0)
        self._modes: set[str] = {"none"}

    def submit(self, name: str, sources: Extents, encoding: Encoding | None) -> None:
        """Begins a file. Waits for the oldest one where too many are under way."""
        under_way, ended_nbytes = self._state
        if len(under_way) == MAX_UNDER_WAY:
            self._take_oldest()
            under_way, ended_nbytes = self._state
        ticket = self._place.begin_write(
            name, sources, staging=self._staging, encoding=encoding, digest_kind=self._digest_kind
        )
        self._state = ((*under_way, ticket), ended_nbytes)

    def wait_safe(self) -> None:
        """Blocks until the sources may be changed. A write that has failed is told of by `wait`."""
        for ticket in self._state[0]:
            while not _is_safe_within(ticket, _LOOK_UP_S):
                self._alive()
        self.release_staged()

    def release_staged(self) -> bool:
        """Lets go of all sources that are not needed any more; whether that is all of them."""
        return all([_release(ticket) for ticket in self._state[0]])  # noqa: C419 - each of them, not up to the first

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for all files; False where that takes longer than `timeout_s`.

        Raises:
            OSError: a write has failed; others may still be under way.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while under_way := self._state[0]:
            if deadline is not None and not ends_within(under_way[0], max(0.0, deadline - time.monotonic())):
                self._bar.update(under_way)
                return False
            self._take_oldest()
        self._bar.close()
        return True

    def cancel(self) -> None:
        """Begins no further chunk; `wait` raises."""
        for ticket in self._state[0]:
            ticket.cancel()

    def cancel_and_wait(self) -> None:
        """Returns once nothing is under way any more, and forgets the tickets."""
        under_way, ended_nbytes = self._state
        cancel_and_wait(under_way)
        self._state = ((), ended_nbytes)
        self._bar.close()

    def progress(self) -> tuple[int, int]:
        """Bytes written, and bytes of all files that were submitted."""
        under_way, ended_nbytes = self._state
        progress = [ticket.progress() for ticket in under_way]
        return ended_nbytes + sum(done for done, _ in progress), ended_nbytes + sum(total for _, total in progress)

    def staging(self) -> str:
        """The mode of the file whose sources were in the way longest; of those that have ended."""
        return max(self._modes, key=_STAGING_MODES.index)

    def _take_oldest(self) -> None:
        under_way, ended_nbytes = self._state
        result = self._bar.wait(under_way)
        if self._staging is not None:
            self._modes.add(under_way[0].staging())
        self.results.append(result)
        self._state = (under_way[1:], ended_nbytes + result.nbytes)


def _is_safe_within(ticket: WriteTicket, timeout_s: float) -> bool:
    try:
        ticket.wait_safe(timeout_s)
    except TimeoutError as error:
        return error.errno is not None  # the storage's own time-out has ended the write
    except OSError:
        pass
    return True


def _release(ticket: WriteTicket) -> bool:
    try:
        if not ticket.staged():
            return False
        ticket.wait_staged()
    except Exception:  # noqa: BLE001, S110 - told of by `wait`; its sources go with the ticket
        pass
    return True
