"""The place of a take in an object store, as rank 0 has it: putting the commit record makes it a snapshot.

1. All files of the take have names that only it has: its tag is in those of data files and objects, and the digest of
   the commit record in those of index and signature. So nothing that is there is touched before step 3.
2. Index and signature are put when all other files are there.
3. The commit record is put, in the place of an older one where that is to be replaced. This one request is the commit.
4. What the replaced snapshot consisted of is deleted, and so is what takes have left that died before step 3, when it
   is so old that nobody can be at it any more. What fails here is no failure of the take.

Where step 3 has no clear answer, and the record there is not this one, it may still be carried out by a store that is
slow: then the files stay, as they are those of a snapshot in the worst case, and what else they are for the next
take's step 4.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, final

from sucrose.errors import CorruptionError, StorageError
from sucrose.formats.index import index_names
from sucrose.formats.limits import MAX_METADATA_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.signature import signature_names
from sucrose.snapshot.places.objects import ObjectsPlace
from sucrose.snapshot.places.place import CommitFiles, StagedPlace
from sucrose.snapshot.remote.leftovers import remove_abandoned
from sucrose.snapshot.remote.replaced import replaced_files
from sucrose.snapshot.remote.target import check_object_target, check_stored_files, taken

if TYPE_CHECKING:
    from sucrose.snapshot.collective.parts import Part

logger = logging.getLogger(__name__)

_CLEAR_REFUSALS = frozenset({errno.EACCES, errno.ENOENT, errno.ENOSPC, errno.EPROTO, errno.EROFS})
"""The store has answered, and not done it: this time."""


@final
class StagedObjects(ObjectsPlace, StagedPlace):
    """See above."""

    _is_over = False
    """It is committed, or nobody knows whether it is."""
    _made: frozenset[str] = frozenset()
    """What the snapshot consists of, once it is committed."""
    _replaced: frozenset[str] = frozenset()
    """What is to be deleted after the commit."""

    def check(self, parts: Sequence[Part], *, overwrite: bool) -> None:
        if len(parts) > 1:
            check_stored_files(self._storage, self._tag, parts)
        check_object_target(self._storage, overwrite=overwrite)

    def commit(self, files: CommitFiles, *, overwrite: bool, alive: Callable[[], object]) -> None:
        replaced = replaced_files(self._storage) if overwrite else frozenset()
        self.finish()  # what was written since
        index_name, signature_name = index_names(files.metadata)[0], signature_names(files.metadata)[0]
        by_digest = {index_name: files.encoded_index}
        if files.signature is not None:
            by_digest[signature_name] = files.signature
        for name, data in by_digest.items():
            if name not in replaced:  # an equal snapshot's: it needs them if this take fails
                self._names.append(name)
            self._storage.put(name, data)
        alive()
        self._made = frozenset({METADATA_FILE, *by_digest, *files.index.own_files()})
        replaced -= self._made
        self._put_record(files.metadata, overwrite=overwrite)
        self._replaced = replaced

    def sweep(self) -> None:
        self._delete_replaced()
        remove_abandoned(self._storage, self._made, self._options.abandoned_after_s)

    def discard(self) -> None:
        self._end_all()
        self._delete_replaced()  # where Ctrl-C came after the commit
        if self._is_over:
            return
        self._is_over = True
        names = {*self._names, *(self._names_of_all() if self._is_shared else ())}
        if names:
            self._delete(sorted(names))

    def _delete_replaced(self) -> None:
        if self._replaced:
            self._delete(self._replaced)
            self._replaced = frozenset()

    def _put_record(self, metadata: bytes, *, overwrite: bool) -> None:
        self._is_over = True  # until there is a clear answer
        try:
            self._storage.put(METADATA_FILE, metadata, if_absent=not overwrite)
        except StorageError as error:
            is_there = self._is_there(metadata)
            if error.errno == errno.EEXIST:
                self._is_over = is_there is not False  # index and signature may be that one's, too
                raise taken(self.target) from error
            if is_there:
                logger.info("%s is committed, though the store's answer was lost: %s", self.target, error)
                return
            # An attempt before may have reached the store, whatever was said to the last one.
            is_refused = error.errno in _CLEAR_REFUSALS and error.attempts == 1
            self._is_over = not (is_refused and is_there is False)
            if self._is_over:
                logger.warning("%s: nobody knows whether it will still be committed; its files stay", self.target)
            raise

    def _is_there(self, metadata: bytes) -> bool | None:
        """Whether this is the commit record; None where the store does not say."""
        try:
            return self._storage.read(METADATA_FILE, MAX_METADATA_NBYTES) == metadata
        except (FileNotFoundError, CorruptionError):
            return False
        except Exception:  # noqa: BLE001 - the error that led here is raised
            return None
