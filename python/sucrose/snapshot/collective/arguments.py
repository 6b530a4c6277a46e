"""Arguments of a take, as all ranks go by them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from sucrose.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sucrose.ranks import Exchange

logger = logging.getLogger(__name__)


class TakeArguments(msgspec.Struct, frozen=True):
    """What has to be the same on all ranks."""

    target: str
    """Absolute path, or URL."""
    replicated: tuple[str, ...]
    """Globs of logical paths without the rank."""
    digest_kind: str
    is_durable: bool
    tag: str = ""
    """Rank 0's, for names in an object store; the others give none."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TakeArguments)


def agree_on_arguments(exchange: Exchange, own: TakeArguments) -> TakeArguments:
    """Rank 0's, with the globs that all ranks have given; where ranks differ a warning tells it.

    Raises:
        ConfigError: some ranks sign, and some do not.
        RankError: another rank has failed.
    """
    if exchange.world_size == 1:
        return own
    given = exchange.gather_distinct("arguments", _encoder.encode(own))
    agreed = None
    if given is not None:
        ranks: dict[bytes, int] = {}
        for rank, encoded in enumerate(given):
            ranks.setdefault(encoded, rank)
        agreed = _encoder.encode(merged({rank: _decoder.decode(encoded) for encoded, rank in ranks.items()}))
    return _decoder.decode(exchange.broadcast("agreed arguments", agreed))


def merged(given: Mapping[int, TakeArguments]) -> TakeArguments:
    """What counts where these were given, by rank; rank 0 is among them.

    Raises:
        ConfigError: some ranks sign, and some do not.
    """
    first = given[0]
    _warn_of_paths(given)
    for rank, arguments in given.items():
        if arguments.digest_kind != first.digest_kind:
            raise ConfigError(
                f"rank {rank} and rank 0 do not both have a signing key: give all ranks the same, or none, by "
                "signing_key= or SUCROSE_SIGNING_KEY"
            )
        if arguments.is_durable != first.is_durable:
            logger.warning(
                "rank %d takes the snapshot with durable=%s; rank 0's durable=%s counts",
                rank,
                arguments.is_durable,
                first.is_durable,
            )
    return msgspec.structs.replace(first, replicated=_intersected([each.replicated for each in given.values()]))


def _warn_of_paths(given: Mapping[int, TakeArguments]) -> None:
    others = {rank: each.target for rank, each in given.items() if each.target != given[0].target}
    if others:
        rank, target = next(iter(others.items()))
        logger.warning("rank %d takes the snapshot to %r; rank 0's path counts: %r", rank, target, given[0].target)


def _intersected(globs: Sequence[Sequence[str]]) -> tuple[str, ...]:
    common = set(globs[0]).intersection(*globs[1:])
    left_out = sorted(set().union(*globs) - common)
    if left_out:
        logger.warning("replicated: not all ranks have given %s, which therefore does not count", ", ".join(left_out))
    return tuple(dict.fromkeys(glob for glob in globs[0] if glob in common))
