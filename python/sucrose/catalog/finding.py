"""The newest generation of a certain step."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sucrose.errors import IncompleteSnapshotError

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation, GenerationLease


def newest_of_step(directory: CatalogDirectory, step: int) -> Generation:
    """The newest one, complete by its record.

    Raises:
        IncompleteSnapshotError: there is none; the message lists the newest steps that there are.
        OSError: the folder cannot be read.
    """
    generations = directory.listing().generations
    of_step = [generation for generation in generations if generation.step == step]
    if not of_step:
        there_are = ", ".join(str(step) for step in sorted({generation.step for generation in generations})[-8:])
        raise IncompleteSnapshotError(
            errno.ENOENT,
            f"no generation of step {step} here; the newest steps are {there_are or 'none at all'}",
            directory.root,
            path=directory.root,
        )
    return of_step[-1]


def lease_of_step(directory: CatalogDirectory, step: int) -> tuple[Generation, GenerationLease]:
    """The same, kept from being removed; checked where a signing key is set.

    Raises:
        IncompleteSnapshotError: there is none.
        SignatureError: it is not signed with a key that is set.
    """
    generation = newest_of_step(directory, step)
    lease = generation.lease()
    while lease is None:  # collected between the two lines
        generation = newest_of_step(directory, step)
        lease = generation.lease()
    if directory.signer is not None:  # the step that it was chosen by is not signed by itself
        with ExitStack() as until_checked:
            until_checked.enter_context(lease)
            directory.check(generation, contents=False)
            until_checked.pop_all()
    return generation, lease
