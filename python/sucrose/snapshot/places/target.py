"""Where a take is to put a snapshot, as all its ranks go by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sucrose.snapshot.arguments import check_target
from sucrose.snapshot.remote.target import check_object_target
from sucrose.storage import is_url

if TYPE_CHECKING:
    from sucrose.snapshot.staged_upload.upload import StagedUpload


@dataclass(frozen=True, slots=True)
class TakeTarget:
    """A path, or a URL with what its storage needs."""

    location: str
    """Absolute path, or URL; rank 0's."""
    tag: str
    """In the names of the take's files in an object store; empty on file systems."""
    storage_options: Mapping[str, Any] | None
    """This rank's."""
    upload: StagedUpload | None = None
    """Where `location` is in a staging folder: what becomes of it."""

    @property
    def is_remote(self) -> bool:
        """Whether it is in an object store."""
        return is_url(self.location)

    def check(self, *, overwrite: bool) -> None:
        """Refuses a place where a snapshot must not be put.

        Raises:
            FileExistsError: there is a snapshot and `overwrite` is false, or something else.
            StorageError: the store does not answer.
        """
        if not self.is_remote:
            check_target(self.location, overwrite)
            return
        from sucrose.storage.objects.shared import shared_storage

        check_object_target(shared_storage(self.location, self.storage_options), overwrite=overwrite)
