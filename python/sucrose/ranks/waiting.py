"""Waiting for other ranks: by looking again and again, so that Ctrl-C, failures and silence end it.

A blocking wait of the store would keep its connection to itself, and shows neither of the three.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sucrose.ranks.failure import Failure
    from sucrose.ranks.heartbeat import Heart, Listening, Place

_SHORTEST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.2
_FAILURE_INTERVAL_S = 0.1


def pause_after(waited_s: float) -> float:
    """How long to sleep before the next look: a wait gets longer by an eighth of itself at most."""
    return min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, waited_s / 8))


def wait_until(
    is_there: Callable[[], bool],
    missing: Callable[[], Sequence[int]],
    *,
    place: Place,
    failure: Failure,
    heart: Heart,
    listening: Listening,
) -> None:
    """Waits until `is_there`, and beats the own heart meanwhile.

    Args:
        is_there: what is waited for; asked often.
        missing: the ranks that it depends on; asked as often as the heart beats.
        place: where this rank is.
        failure: of the operation.
        heart: of this rank.
        listening: to the others.

    Raises:
        RankError: a rank has failed, is silent, or does something else.
    """
    began = next_check = time.monotonic()
    while not is_there():
        now = time.monotonic()
        if now >= next_check:
            failure.check()
            next_check = now + _FAILURE_INTERVAL_S
        if heart.beat(place):
            astray = listening.listen(missing())
            if astray is not None and not is_there() and astray.ranks[0] in missing():
                raise astray
        time.sleep(pause_after(time.monotonic() - began))
