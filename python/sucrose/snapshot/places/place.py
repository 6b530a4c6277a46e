"""What a take needs of the place where it puts a snapshot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sucrose.formats.index import DIGEST_NAME

if TYPE_CHECKING:
    from sucrose.engine import Encoding, Extents, Staging, WriteTicket
    from sucrose.formats.index import SnapshotIndex
    from sucrose.snapshot.collective.parts import Part
    from sucrose.storage.leases import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitFiles:
    """What makes a snapshot of the files of all ranks."""

    index: SnapshotIndex
    encoded_index: bytes
    metadata: bytes
    """The manifest as it is written."""
    signature: bytes | None


class Place(ABC):
    """Where one rank of a take puts its files; nothing shows at the target before the commit.

    Belongs to one thread at a time. Where it is dropped without a word what it has begun is given up.
    """

    target: str
    """Absolute path, or URL, of the snapshot."""

    @property
    @abstractmethod
    def small_nbytes(self) -> int:
        """What `write` was given so far, successfully or not."""

    @abstractmethod
    def begin_write(
        self,
        name: str,
        sources: Extents,
        *,
        staging: Staging | None,
        encoding: Encoding | None,
        digest_kind: str = DIGEST_NAME,
    ) -> WriteTicket:
        """Begins to write a data file; `Engine.write` says what the arguments are."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Writes a small file; it may be on its way yet when this returns.

        Raises:
            OSError: this one, or one before, could not be written.
        """

    @abstractmethod
    def finish(self) -> None:
        """Returns when all files of this rank are there for others to see, whose writes have been waited for.

        Raises:
            OSError: a small one could not be written, or made durable where that was wanted.
        """

    @abstractmethod
    def hold(self, bases: Iterable[Lease]) -> None:
        """Keeps leases on the snapshots that this one refers to until the take is over."""

    @abstractmethod
    def discard(self) -> None:
        """Lets go of it all, and removes what nobody needs: everything, unless it was committed. Raises no OSError.

        To be called in the end, however that was, when no write is under way any more.
        """

    def is_gone_by(self, error: BaseException) -> bool:  # noqa: ARG002 - of those that know such errors
        """Whether the error may have come from the place being removed by another rank, which has failed."""
        return False


class StagedPlace(Place):
    """That of rank 0, which commits."""

    @abstractmethod
    def check(self, parts: Sequence[Part], *, overwrite: bool) -> None:
        """Looks for the files of the other ranks, and at the target once more.

        Raises:
            StorageError: a file is missing, or not as long as its rank has written it.
            FileExistsError: something has come to be at the target.
        """

    @abstractmethod
    def commit(self, files: CommitFiles, *, overwrite: bool, alive: Callable[[], object]) -> None:
        """Makes the snapshot show, in one instant.

        Args:
            files: are written, too.
            overwrite: whether one that is there is replaced.
            alive: called when only the last step is left; may raise.

        Raises:
            FileExistsError: something is at the target.
            IncompleteSnapshotError: a snapshot that this one refers to has been replaced or removed.
            NotDurableError: it shows, and a power cut may undo that.
            OSError: nothing was committed.
        """

    def sweep(self) -> None:
        """Removes what nobody needs after a commit. Raises no OSError."""


class JoinedPlace(Place):
    """That of another rank, which puts its files there."""

    @abstractmethod
    def is_in_place(self) -> bool:
        """Whether rank 0 has committed, as far as can be seen from here."""

    def settle(self) -> None:
        """Does rank 0's last step, where that may have been lost after the commit.

        Raises:
            OSError: it failed.
        """
