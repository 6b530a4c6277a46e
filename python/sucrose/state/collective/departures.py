"""Ranks that take part in nothing any more, because their process ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sucrose.errors import RankError
from sucrose.state.collective.job import known_ranks

if TYPE_CHECKING:
    from sucrose.ranks import Ranks

logger = logging.getLogger(__name__)

_NAME = "left"
_ANY = "any"


def tell_departure() -> None:
    """Says that this rank takes part in nothing from here on; never raises."""
    try:
        ranks = known_ranks()
        if ranks is not None:
            keys = ranks.keys(_NAME)
            keys.put(str(ranks.rank), b"")
            keys.count(_ANY, 1)
    except RankError as error:
        logger.debug("the other ranks were not told of the end of this one: %s", error)


def departed(ranks: Ranks) -> list[int]:
    """The ranks that have said so: one request where none has."""
    keys = ranks.keys(_NAME)
    if keys.count(_ANY) == 0:
        return []
    return [rank for rank in range(ranks.world_size) if keys.has(str(rank))]
