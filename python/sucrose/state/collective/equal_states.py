"""Which states are the same on all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sucrose.engine import get_engine
from sucrose.state.copies import pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sucrose.engine import Engine
    from sucrose.ranks import Exchange
    from sucrose.state.values import FrozenState

_PIECE_NBYTES = 256 << 20  # digested between two signs of life


class _Description(msgspec.Struct, array_like=True, frozen=True):
    key: str
    digest: bytes
    sizes: tuple[int, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[_Description, ...])
_keys_decoder = msgspec.msgpack.Decoder(frozenset[str])


def equal_on_all(exchange: Exchange, states: Mapping[str, FrozenState]) -> frozenset[str]:
    """The keys that all ranks have with the same bytes.

    Tensors are digested only where pickles and sizes are equal on all ranks.

    Raises:
        RankError: another rank has failed.
    """
    engine = get_engine()
    candidates = _agree(exchange, "pickles", (_outline(key, state, engine) for key, state in states.items()))
    if not any(states[key].storages for key in candidates):
        return candidates
    return _agree(exchange, "contents", (_content(key, states[key], engine, exchange) for key in sorted(candidates)))


def _agree(exchange: Exchange, step: str, own: Iterable[_Description]) -> frozenset[str]:
    given = exchange.gather_distinct(step, _encoder.encode(tuple(own)))
    answer = None
    if given is not None:
        common = set.intersection(*(set(_decoder.decode(encoded)) for encoded in dict.fromkeys(given)))
        answer = _encoder.encode([description.key for description in common])
    return _keys_decoder.decode(exchange.broadcast(f"equal {step}", answer))


def _outline(key: str, state: FrozenState, engine: Engine) -> _Description:
    return _Description(key, engine.digest(state.pickled), tuple(storage.nbytes() for storage in state.storages))


def _content(key: str, state: FrozenState, engine: Engine, exchange: Exchange) -> _Description:
    digests = []
    for piece in pieces_of(state):
        for begin in range(0, len(piece), _PIECE_NBYTES):
            exchange.alive()
            digests.append(engine.digest(piece[begin : begin + _PIECE_NBYTES]))
    return _Description(key, engine.digest(b"".join(digests)))
