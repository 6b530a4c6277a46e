"""The hidden directory of a take: made by rank 0, joined by the others."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from sucrose.errors import StorageError
from sucrose.storage import JoinedDirectory, StagedDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from sucrose.ranks import Exchange

_NBYTES = struct.Struct("<Q")


def make_or_join(
    exchange: Exchange, target: str, nbytes: int, make: Callable[[int], StagedDirectory]
) -> StagedDirectory | JoinedDirectory:
    """Returns the directory that becomes `target`.

    Args:
        exchange: the take.
        target: absolute path, the same on all ranks.
        nbytes: what this rank is going to write, as far as it is certain.
        make: called on rank 0 with the bytes of all ranks.

    Raises:
        StorageError: the directory that rank 0 has made is not to be seen from here.
        RankError: another rank has failed; the directory is removed.
    """
    sizes = exchange.gather("bytes to write", _NBYTES.pack(nbytes))
    if sizes is None:
        root = exchange.broadcast("folder", None).decode("utf-8", "surrogateescape")
        try:
            return JoinedDirectory(root, target)
        except StorageError:
            exchange.check()  # after the failure of a rank it has been removed again
            raise
    staged = make(sum(_NBYTES.unpack(size)[0] for size in sizes))
    try:
        exchange.broadcast("folder", staged.root.encode("utf-8", "surrogateescape"))
    except BaseException:
        staged.discard()
        raise
    return staged
