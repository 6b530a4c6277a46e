"""What is in a catalog, as values that nothing changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from sucrose.storage import is_url
from sucrose.storage.leases import lease

if TYPE_CHECKING:
    from sucrose.catalog.objects.lease import ObjectLease
    from sucrose.formats.generation import GenerationRecord
    from sucrose.formats.signing_keys import Signer
    from sucrose.snapshot.snapshot import Snapshot
    from sucrose.storage.leases import Lease

    GenerationLease: TypeAlias = Lease | ObjectLease


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One snapshot of a catalog, complete when this was made; retention may have removed it since.

    Attributes:
        step: of the program, as it was given to the save.
        path: the snapshot's directory, or its URL.
        committed_ns: when it was committed, in nanoseconds since 1970.
        metrics: as they were given to the save.
        nbytes: of its files.
        pinned: whether retention keeps it whatever the rules say.
        timeline: grows by one where a program went back to an earlier step; see `order`.
        durable: whether its save fsynced it.
        id: name of the directory.

    Example:
        >>> import tempfile
        >>> from sucrose import Catalog, StateDict
        >>> generation = Catalog(tempfile.mkdtemp()).save(100, {"state": StateDict(loss=0.5)}, metrics={"loss": 0.5})
        >>> generation.step, dict(generation.metrics)
        (100, {'loss': 0.5})
        >>> generation.snapshot().read_object("0/state/loss")
        0.5
    """

    step: int
    path: str
    committed_ns: int
    metrics: Mapping[str, float] = field(hash=False)
    nbytes: int
    pinned: bool
    timeline: int
    durable: bool
    id: str
    bases: tuple[str, ...] = ()
    """Ids of the generations that this one refers to: none of them is removed before it."""
    signer: Signer | None = field(default=None, repr=False, compare=False)
    """Checks whose it is when it is read; see `Snapshot`."""
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    """Of its object store; there may be credentials among them."""

    @property
    def order(self) -> tuple[int, int, int, str]:
        """Sorts generations from the oldest to the newest.

        Within a timeline the step decides, and for equal steps the time of the commit. A save of an
        earlier step than the newest one's begins another timeline, which is newer as a whole: a program
        that was set back on purpose finds its own latest state, not the higher step that it has left.
        """
        return self.timeline, self.step, self.committed_ns, self.id

    def base_paths(self) -> list[str]:
        """Directories of the generations that this one refers to."""
        return [os.path.join(os.path.dirname(self.path), base) for base in self.bases]

    def snapshot(self, pg: Any = None) -> Snapshot:
        """The snapshot, to be read by its own methods. Hold a `lease` where others may collect meanwhile.

        Args:
            pg: process group of the ranks that restore it together, as for `Snapshot`.
        """
        from sucrose.snapshot.snapshot import Snapshot

        return Snapshot(self.path, pg, storage_options=self.storage_options, signing_key=self.signer)

    def lease(self) -> GenerationLease | None:
        """Keeps collections, of any process, from removing this generation until it is released.

        Object stores have nothing of the kind: there it only tells whether the generation `is_current`.

        Returns:
            A context manager with `release`; None where the generation is gone.
        """
        if is_url(self.path):
            from sucrose.catalog.objects.lease import lease_object

            return lease_object(self.path, self.storage_options)
        return lease(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A generation that was found broken, and was moved out of the way. Nothing deletes it but the user.

    Attributes:
        name: of the generation, and of its directory.
        path: where it is now.
        reason: what was found, in one line.
    """

    name: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A directory with the name of a generation that cannot be used as one.

    Attributes:
        name: of the directory.
        reason: why, in one line.
    """

    name: str
    reason: str


def generation_of(
    record: GenerationRecord,
    path: str,
    *,
    pinned: bool,
    signer: Signer | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Generation:
    """A committed record as users see it."""
    return Generation(
        step=record.step,
        path=path,
        committed_ns=record.committed_ns,
        metrics=record.metrics_as_floats(),
        nbytes=record.nbytes,
        pinned=pinned,
        timeline=record.timeline,
        durable=record.durable,
        id=record.id,
        bases=tuple(record.bases),
        signer=signer,
        storage_options=storage_options,
    )
