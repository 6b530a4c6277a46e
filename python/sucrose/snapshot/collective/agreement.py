"""Comparing what ranks say to have alike."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from sucrose.snapshot.collective.replicated_values import ReplicatedValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sucrose.ranks import Exchange

logger = logging.getLogger(__name__)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[ReplicatedValue])
_names_decoder = msgspec.msgpack.Decoder(frozenset[str])
_MAX_NAMED = 5


def agree_on_replicated(
    exchange: Exchange, own: Mapping[str, ReplicatedValue], per_rank_anyway: tuple[str, ...] = ()
) -> dict[str, ReplicatedValue]:
    """Those that all ranks have with the same description.

    Args:
        exchange: the take.
        own: this rank's, sorted by path.
        per_rank_anyway: beginnings of paths of which nobody is surprised that they differ.

    Raises:
        RankError: another rank has failed.
    """
    if exchange.world_size == 1:
        return dict(own)
    given = exchange.gather_distinct("replicated values", _encoder.encode(list(own.values())))
    answer = None
    if given is not None:
        different = differences(_decoder.decode(encoded) for encoded in dict.fromkeys(given))
        _warn(sorted(path for path in different if not path.startswith(per_rank_anyway or "\0")))
        answer = _encoder.encode(different)
    different = _names_decoder.decode(exchange.broadcast("values that differ", answer))
    return {path: value for path, value in own.items() if path not in different}


def differences(given: Iterable[Iterable[ReplicatedValue]]) -> frozenset[str]:
    """Paths of values that not all have, or not all alike."""
    by_path = [{value.path: value for value in values} for values in given]
    first, *others = by_path
    return frozenset(
        path
        for path in set().union(*by_path)
        if (value := first.get(path)) is None or any(other.get(path) != value for other in others)
    )


def _warn(different: list[str]) -> None:
    if different:
        more = f" and {len(different) - _MAX_NAMED} more" if len(different) > _MAX_NAMED else ""
        logger.warning(
            "not the same on all ranks, and so saved for each rank by itself: %s%s",
            ", ".join(different[:_MAX_NAMED]),
            more,
        )
