"""What a rank that has failed leaves for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sucrose.errors import RankError

if TYPE_CHECKING:
    from sucrose.ranks.members import Members
    from sucrose.ranks.operation_store import OperationStore

_KEY = "failed"
_MAX_TEXT = 4000  # characters of an error's message: some contain a whole traceback


class _Failure(msgspec.Struct, array_like=True, frozen=True):
    ranks: tuple[int, ...]
    text: str
    error_type: str = ""


class Failure:
    """The failure of an operation, which all ranks share: the first that is posted counts.

    Args:
        store: of the operation.
        members: its ranks.
        what: the operation in words, as in ``"taking a snapshot"``.
    """

    def __init__(self, store: OperationStore, members: Members, what: str) -> None:
        self._store = store
        self._members = members
        self._what = what
        self.found: tuple[int, ...] | None = None
        """The ranks that have failed, as far as this one knows."""

    def check(self) -> None:
        """Asks whether a rank has failed.

        Raises:
            RankError: one has, maybe this one.
        """
        if not self._store.has(_KEY):
            return
        failure = msgspec.msgpack.decode(self._store.get(_KEY), type=_Failure)
        self.found = failure.ranks
        raise RankError(failure.text, ranks=failure.ranks, error_type=failure.error_type)

    def post(self, error: BaseException) -> None:
        """Tells the others of `error`, unless all know of a failure already."""
        if self.found is not None:
            return
        self.found = error.ranks if isinstance(error, RankError) and error.ranks else (self._members.rank,)
        text = str(error)[:_MAX_TEXT]
        if isinstance(error, RankError):
            error_type = error.error_type
        else:
            error_type = type(error).__name__
            text = f"{self._what} failed on {self._members.name(self.found)}: {error_type}: {text}"
        if not self._store.has(_KEY):
            self._store.put(_KEY, msgspec.msgpack.encode(_Failure(self.found, text, error_type)))

    def delete(self) -> None:
        """Removes what was posted."""
        self._store.delete(_KEY)
