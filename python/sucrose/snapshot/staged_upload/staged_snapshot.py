"""`StagedSnapshot`: what a take with a staging folder returns, read from there until it is in the store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

from sucrose.errors import ForkError
from sucrose.snapshot.snapshot import Snapshot
from sucrose.snapshot.staged_upload.copies import remove_copy
from sucrose.snapshot.staged_upload.upload_queue import queue_of
from sucrose.storage import LocalDirectory

if TYPE_CHECKING:
    from sucrose.formats.manifest import SnapshotMetadata
    from sucrose.snapshot.restore import RestoreReport
    from sucrose.snapshot.staged_upload.upload import StagedUpload
    from sucrose.snapshot.stateful import AppState
    from sucrose.snapshot.verify import VerifyReport


@final
class StagedSnapshot(Snapshot):
    """A `Snapshot` like any other; not thread-safe either. While it reads the staged copy nobody removes that."""

    _is_reading = False

    def __init__(self, reference: Snapshot, upload: StagedUpload) -> None:
        """Refers to what `reference` refers to."""
        vars(self).update(vars(reference))
        self._staged = upload
        self._in_store = self._opened.directory

    def uploaded(self) -> bool:
        self._check_process()
        return self._staged.is_uploaded

    def wait_uploaded(self, timeout_s: float | None = None) -> None:
        self._check_process()
        queue = queue_of(self._staged.folder)
        if not queue.wait_ended(self._staged, timeout_s):
            raise TimeoutError(f"{self.path!r} was not uploaded after {timeout_s} s")
        queue.raise_error(self._staged)

    def restore(self, app_state: AppState, strict: bool = True, **options: Any) -> RestoreReport:
        with self._reading():
            return super().restore(app_state, strict, **options)

    def read_object(
        self, path: str, obj_out: Any = None, memory_budget_bytes: int | None = None, **options: Any
    ) -> Any:
        with self._reading():
            return super().read_object(path, obj_out, memory_budget_bytes, **options)

    def read_objects(self, paths: Sequence[str], **options: Any) -> list[Any]:
        with self._reading():
            return super().read_objects(paths, **options)

    @property
    def metadata(self) -> SnapshotMetadata:
        with self._reading():
            return super().metadata

    @property
    def bases(self) -> tuple[str, ...]:
        with self._reading():
            return super().bases

    def verify(self) -> VerifyReport:
        with self._reading():
            return super().verify()

    def flatten(self, target: str | os.PathLike[str] | None = None, *, durable: bool = True) -> Snapshot:
        if target is None:
            self.wait_uploaded()
        with self._reading():
            return super().flatten(target, durable=durable)

    def sign(self) -> None:
        self.wait_uploaded()
        with self._reading():
            super().sign()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Inside of it files come from one place; the staged copy is there until the end."""
        if self._is_reading:
            yield
            return
        held = self._staged.try_hold()
        self._opened.directory = self._in_store if held is None else LocalDirectory(self._staged.path)
        self._is_reading = True
        try:
            yield
        finally:
            self._is_reading = False
            if held is not None:
                held.release()
                if self._staged.is_uploaded:  # meanwhile
                    remove_copy(self._staged.path)

    def _check_process(self) -> None:
        if os.getpid() != self._staged.pid:
            raise ForkError(
                f"{self.path!r} is being uploaded by process {self._staged.pid} and cannot be waited for or asked in "
                f"its forked child {os.getpid()}: do that in the parent",
                path=self.path,
            )
