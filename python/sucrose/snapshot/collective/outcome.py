"""How a take went, for those ranks that did not commit it."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

import msgspec

from sucrose.errors import NotDurableError, RankError

if TYPE_CHECKING:
    from sucrose.ranks import Exchange
    from sucrose.snapshot.places.place import JoinedPlace

logger = logging.getLogger(__name__)


class _Outcome(msgspec.Struct):
    """The snapshot is in place."""

    not_durable: str = ""
    """Why a power cut may undo that."""


_decoder = msgspec.msgpack.Decoder(_Outcome)


def tell_outcome(exchange: Exchange, error: NotDurableError | None = None) -> None:
    """Tells all ranks that the snapshot is in place, and ends the exchange.

    What fails from here on is no failure of it. Ranks that cannot be told look for themselves. Nothing is raised.
    """
    if exchange.world_size > 1:
        try:
            exchange.broadcast("outcome", msgspec.msgpack.encode(_Outcome("" if error is None else str(error))))
        except RankError as lost:
            logger.warning("the snapshot is committed, but not all ranks can be told: %s", lost)
    exchange.close()


def hear_outcome(exchange: Exchange, place: JoinedPlace) -> None:
    """Returns when rank 0 has committed.

    Where rank 0 is lost it may have come that far: then its last step is done here.

    Raises:
        NotDurableError: the snapshot is in place, and a power cut may undo that.
        RankError: nothing was committed, as far as can be seen.
    """
    try:
        not_durable = _decoder.decode(exchange.broadcast("outcome", None)).not_durable
    except RankError:
        if not place.is_in_place():
            raise
        logger.warning("%s is committed, though rank 0 could not tell so", place.target)
        not_durable = ""
        place.settle()
    if not_durable:
        raise NotDurableError(errno.EIO, f"rank 0: {not_durable}", place.target, path=place.target)
