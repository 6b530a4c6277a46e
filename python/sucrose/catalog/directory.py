"""What a catalog asks of the place that its generations are in: local/ and objects/ have the two kinds."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from sucrose.catalog.generation import generation_of
from sucrose.catalog.soundness import check_contents, check_structure, read_indexed
from sucrose.engine import get_engine
from sucrose.errors import SignatureError
from sucrose.formats.generation import GENERATION_FILE, decode_generation
from sucrose.snapshot.authenticity import signer_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sucrose.catalog.generation import Generation, Quarantined
    from sucrose.catalog.listing import Listing
    from sucrose.catalog.pins import Pins
    from sucrose.formats.generation import GenerationRecord
    from sucrose.formats.signing_keys import Signer
    from sucrose.storage import Directory

logger = logging.getLogger(__name__)


class CatalogDirectory(ABC):
    """One catalog's folder, which need not be there yet. Thread-safe.

    Attributes:
        root: absolute path, or URL.
        signer: checks whose the generations are; None where nobody asks.
        pins: markers of generations.
    """

    root: str
    signer: Signer | None
    pins: Pins
    storage_options: Mapping[str, Any] | None = None
    """Of object stores."""

    def __init__(self, root: str, signer: Signer | None = None) -> None:
        """Refers to the folder; without `signer` the keys of the environment count, if there are any.

        Raises:
            ConfigError: such a key is too short.
        """
        self.root = root
        self.signer = signer_of(signer)
        self._told_of: set[tuple[str, str]] = set()

    def path_of(self, name: str) -> str:
        """Path or URL of something right in the folder."""
        return f"{self.root}/{name}"

    @abstractmethod
    def files_of(self, name: str) -> Directory:
        """The files of a generation, for reading."""

    @abstractmethod
    def is_gone(self, name: str) -> bool:
        """Whether there is no such generation any more; does not take a guess.

        Raises:
            OSError: nobody can tell, and looking again would not help.
        """

    @abstractmethod
    def new_path(self, step: int) -> str:
        """Where a new generation of `step` goes."""

    @abstractmethod
    def listing(self) -> Listing:
        """All generations.

        No signature is looked at; the signer goes along with the generations, for whoever reads them.

        Raises:
            OSError: the folder, or a record, cannot be read.
        """

    @abstractmethod
    def quarantined(self) -> list[Quarantined]:
        """Broken generations that were moved out of the way, by name."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """Folders of unfinished saves, and what collections have not removed yet; relative to the root.

        A save that is under way has one, too: `remove` tells them apart.
        """

    @abstractmethod
    def newest_record(self) -> GenerationRecord | None:
        """The newest one's, without reading those again that were read before: saves wait for this."""

    @abstractmethod
    def record_of(self, generation: Generation) -> GenerationRecord:
        """A generation's record, read anew.

        Raises:
            CorruptionError: it is damaged.
            OSError: it cannot be read.
        """

    @abstractmethod
    def quarantine(self, name: str, reason: str) -> None:
        """Moves a broken generation out of the way, and says so in the log.

        Where that is impossible, or others refer to it, only the log says so, and the `.reason`. Where somebody else
        was faster nothing happens.
        """

    @abstractmethod
    def make_durable(self, generation: Generation) -> None:
        """Makes up for what a save without `durable` has not done."""

    @abstractmethod
    def discard(self, generation: Generation) -> bool:
        """Takes a generation away; `remove` of the leftover frees its space.

        Returns:
            False where it is in use, was pinned meanwhile, others refer to it, or it is gone already.

        Raises:
            OSError: it cannot be taken away.
        """

    @abstractmethod
    def is_unused(self, generation: Generation) -> bool:
        """Whether `discard` would take the generation away just now."""

    @abstractmethod
    def is_abandoned(self, leftover: str) -> bool:
        """Whether nobody writes or removes it."""

    @abstractmethod
    def remove(self, leftover: str) -> bool:
        """Removes one of `leftovers`; what a crash leaves of it is a leftover again.

        Returns:
            False where its writer may be alive, another process removes it, or it is gone already.

        Raises:
            OSError: it cannot be removed.
        """

    def generation(self, record: GenerationRecord, *, pinned: bool) -> Generation:
        """A committed record as users see it."""
        return generation_of(
            record, self.path_of(record.id), pinned=pinned, signer=self.signer, storage_options=self.storage_options
        )

    def warn_of_refused(self, generation: Generation, error: SignatureError) -> None:
        """Tells the log once that a generation is passed over: looking for the newest is done again and again."""
        told = (generation.id, str(error))
        if told not in self._told_of:
            self._told_of.add(told)
            logger.warning("%s is passed over: %s", generation.path, error)

    def check(self, generation: Generation, *, contents: bool) -> None:
        """Checks structure, and contents where asked for.

        Raises:
            SignatureError: keys are set, and it is not signed with any.
            SucroseError: something is wrong with it.
            OSError: a file cannot be read.
        """
        files = self.files_of(generation.id)
        index = check_structure(files, signer=self.signer)
        if self.signer is not None:
            self._check_record(generation, read_indexed(files, index, GENERATION_FILE))
        if contents:
            check_contents(files, index, get_engine())

    def _check_record(self, generation: Generation, data: bytes) -> None:
        """Whether it is the generation that the signed record speaks of: it was listed before anything was checked."""
        record = decode_generation(data, path=f"{generation.path}/{GENERATION_FILE}")
        signed = generation_of(record, generation.path, pinned=generation.pinned)
        # As text: among the metrics may be NaN, which equals nothing.
        if (signed.order, str(signed.metrics)) != (generation.order, str(generation.metrics)):
            raise SignatureError(
                f"the record of {generation.path!r} is not the one that is signed: it was changed while it was read",
                path=generation.path,
            )
