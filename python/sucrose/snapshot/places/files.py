"""The place of a take on a file system: a hidden directory beside the target."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sucrose.formats.index import DIGEST_NAME
from sucrose.snapshot.places.place import Place

if TYPE_CHECKING:
    from sucrose.engine import Encoding, Engine, Extents, Staging, WriteTicket
    from sucrose.storage import JoinedDirectory, StagedDirectory
    from sucrose.storage.leases import Lease


class FilesPlace(Place):
    """The directory, and what in it is not durable yet."""

    def __init__(self, directory: StagedDirectory | JoinedDirectory, engine: Engine, *, durable: bool) -> None:
        self.target = directory.target
        self._directory = directory
        self._sync = engine.sync if durable else None
        self._engine = engine
        self._unsynced: list[str] = []

    @property
    def small_nbytes(self) -> int:
        return self._directory.small_nbytes

    def begin_write(
        self,
        name: str,
        sources: Extents,
        *,
        staging: Staging | None,
        encoding: Encoding | None,
        digest_kind: str = DIGEST_NAME,
    ) -> WriteTicket:
        return self._engine.write(
            self._directory.create_path(name),
            sources,
            durable=self._sync is not None,
            staging=staging,
            encoding=encoding,
            digest_kind=digest_kind,
        )

    def write(self, name: str, data: bytes) -> None:
        self._unsynced.append(self._directory.write(name, data))

    def hold(self, bases: Iterable[Lease]) -> None:
        self._directory.hold(bases)

    def discard(self) -> None:
        self._directory.discard()
