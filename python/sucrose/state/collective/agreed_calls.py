"""What all ranks do at the same call of `should_stop`, whichever of them was asked to.

1. A rank that was asked to stop, or to save, **requests** it at its next call. Each call looks for requests: one
   question to the store, the answer of which is a count.
2. A rank that sees a request for the first time, at its call m, **posts** m, and does nothing else.
3. At its call m + 1 it waits until all ranks have posted. The **agreed call** is the one after the latest of what was
   posted. Nobody is past it: each rank waits at the call after its own. All do at the agreed call what was requested.
4. Requests are numbered, and seen and waited for in that order. Who has seen one to **stop** requests nothing more, so
   that whatever was requested after it was so before the agreed call was known to anybody, and is seen by all at
   that call at the latest. There it is posted, and nobody waits for it.
5. A rank that has read all posts of a request counts that, and the last one deletes what there is of it: programs
   may save in the background for months.

It cannot deadlock where ranks are in lockstep, that is where step s of a rank needs the others to be in step s as
well: a rank that waits, at call m + 1, has done its part of all steps before that, so that every other rank comes
to its own call m + 1, sees the request there at the latest, and posts. Where ranks are not in lockstep nobody
needs the waiting rank, and all come to a call by themselves. A rank that has ended posts nothing and is not waited for;
one that is there and makes no more calls is, for as long as `rank_timeout_s` says.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sucrose.errors import RankError
from sucrose.options import current_options
from sucrose.ranks.waiting import pause_after
from sucrose.state.collective.departures import departed

if TYPE_CHECKING:
    from sucrose.ranks import Ranks

logger = logging.getLogger(__name__)

STOP = "stop"
"""The request after which there are no calls."""

_COUNT = "count"
_LOOK_FOR_DEPARTURES_S = 0.1


@dataclass(slots=True)
class _Request:
    number: int
    what: str
    agreed: int | None = None
    """The call at which it is due, once all have posted."""


class AgreedCalls:
    """The calls of this rank. For one thread, but for signal handlers that come in between.

    Args:
        ranks: that make the same calls.
        name: of the calls, in messages.
    """

    def __init__(self, ranks: Ranks, name: str = "should_stop") -> None:
        self._ranks = ranks
        self._name = name
        self._keys = ranks.keys("agreed")
        self._call = 0
        self._seen = 0
        self._open: list[_Request] = []
        self._is_ending = False
        """A request to stop was seen."""
        self.missing: tuple[int, ...] = ()
        """Ranks that were waited for in vain."""

    def request(self, what: str) -> None:
        """All are to do it at one and the same call, which is yet to be agreed on; before a `call`.

        Nothing is requested any more once a request to stop was seen.

        Raises:
            RankError: the store is gone.
        """
        if self._is_ending:
            return
        number = self._keys.count(_COUNT, 1)
        self._keys.put(str(number), what.encode())

    def call(self) -> list[str]:
        """This rank's next call: what all ranks do at it.

        Raises:
            RankError: ranks that were waited for made no call, or the store is gone.
        """
        self._call += 1
        due = []
        for request in self._open:
            if request.agreed is None:
                request.agreed = self._wait_for_all(request) + 1
            if request.agreed == self._call:
                due.append(request)
                if request.what == STOP:
                    break
        self._open = [request for request in self._open if request not in due]
        self._look_for_requests()
        return [request.what for request in due]

    def _look_for_requests(self) -> None:
        count = self._keys.count(_COUNT)
        while self._seen < count and self._keys.has(str(self._seen + 1)):
            self._seen += 1
            number = self._seen
            self._keys.put(f"{number}/{self._ranks.rank}", str(self._call).encode())
            what = self._keys.get(str(number)).decode()
            self._is_ending = self._is_ending or what == STOP
            self._open.append(_Request(number, what))

    def _wait_for_all(self, request: _Request) -> int:
        """The latest call at which a rank has seen the request."""
        posts: dict[int, int] = {}
        began = time.monotonic()
        timeout_s = current_options().rank_timeout_s
        gone: list[int] = []
        look_next = began
        while True:
            self._read_posts(request, posts)
            missing = [rank for rank in range(self._ranks.world_size) if rank not in posts and rank not in gone]
            if not missing:
                self._has_read(request)
                return max(posts.values())
            now = time.monotonic()
            if now - began >= timeout_s:
                self.missing = tuple(missing)
                raise RankError(
                    f"{self._name}: {self._ranks.name(missing)} made no call for {timeout_s:g} s, while others waited "
                    f"to {request.what} at the same one. All ranks have to come to it in each step "
                    "(SUCROSE_RANK_TIMEOUT_S sets how long to wait)",
                    ranks=self.missing,
                )
            if now >= look_next:
                gone = departed(self._ranks)
                look_next = now + _LOOK_FOR_DEPARTURES_S
            time.sleep(pause_after(now - began))

    def _read_posts(self, request: _Request, posts: dict[int, int]) -> None:
        for rank in range(self._ranks.world_size):
            key = f"{request.number}/{rank}"
            if rank not in posts and self._keys.has(key):
                posts[rank] = int(self._keys.get(key))

    def _has_read(self, request: _Request) -> None:
        number, world_size = request.number, self._ranks.world_size
        if self._keys.count(f"{number}/read", 1) == world_size:
            for key in (number, *(f"{number}/{rank}" for rank in range(world_size)), f"{number}/read"):
                self._keys.delete(str(key))
