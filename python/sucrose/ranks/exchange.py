"""What ranks do together in one collective call, whether they are many or one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Exchange(ABC):
    """One collective operation; `Ranks.begin` makes it.

    All ranks go through the same steps in the same order. It belongs to one thread at a time, and may go to another
    one after it was begun. As a context manager it tells the others of an exception, and closes::

        with Ranks.of(pg).begin("taking a snapshot") as exchange:
            sizes = exchange.gather("sizes", size)
            plan = exchange.broadcast("plan", make_plan(sizes) if sizes is not None else None)

    Every method but `fail` and `close` raises a `RankError` as soon as another rank has failed.

    Attributes:
        rank: this one, as the group numbers them.
        world_size: ranks in the group.
    """

    rank: int
    world_size: int

    @abstractmethod
    def gather(self, step: str, value: bytes) -> list[bytes] | None:
        """Brings a value of each rank to rank 0.

        Args:
            step: the same on all ranks; in messages it says what was waited for.
            value: this rank's.

        Returns:
            On rank 0 all values, by rank. On the others None, as soon as theirs is posted.

        Raises:
            RankError: a rank has failed or is silent.
        """

    @abstractmethod
    def gather_distinct(self, step: str, value: bytes) -> list[bytes] | None:
        """As `gather`, where many ranks have the same value: that travels once."""

    @abstractmethod
    def broadcast(self, step: str, value: bytes | None) -> bytes:
        """Brings a value of rank 0 to all.

        Args:
            step: the same on all ranks.
            value: on rank 0 the value; what other ranks give is not looked at.

        Raises:
            RankError: a rank has failed, or rank 0 is silent.
        """

    def agree(self, step: str) -> None:
        """Returns when all ranks have come here.

        Raises:
            RankError: a rank has failed or is silent.
        """
        self.gather(step, b"")
        self.broadcast(step, b"")

    @abstractmethod
    def alive(self) -> None:
        """Shows the others that this rank is at work: for loops that take long. It costs nothing most of the time.

        Raises:
            RankError: a rank has failed.
        """

    @abstractmethod
    def check(self) -> None:
        """Asks at once whether a rank has failed.

        Raises:
            RankError: one has, maybe this one.
        """

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Tells all others that this rank has failed, the first time; never raises."""

    @abstractmethod
    def give_up_waiting(self) -> None:
        """Ends the wait for other ranks that is under way, and those to come, by a `RankError`. For any thread."""

    @abstractmethod
    def close(self) -> None:
        """Ends the operation on this rank; the last one removes its keys. Raises nothing, and a second call is none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(error)
        self.close()
