"""Whether all ranks restore from one snapshot: paths differ, links change, and directories are replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sucrose.errors import StateMismatchError

if TYPE_CHECKING:
    from sucrose.ranks import Exchange


def agree_to_read(exchange: Exchange, path: str, identity: bytes) -> None:
    """Returns when all ranks have come here, with the same snapshot in view.

    Args:
        exchange: the restore.
        path: where this rank sees it, for messages.
        identity: another one for another snapshot.

    Raises:
        StateMismatchError: on rank 0, if another rank sees another one.
        RankError: another rank has failed.
    """
    given = exchange.gather_distinct("the state fits", identity)
    for rank, other in enumerate(given or ()):
        if other != identity:
            raise StateMismatchError(
                f"rank {rank} restores another snapshot than the one that rank 0 sees at {path!r}; nothing was "
                "changed. Give all ranks the same path, and replace nothing there meanwhile",
                path=path,
            )
    exchange.broadcast("all see one snapshot", b"")
