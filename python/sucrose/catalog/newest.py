"""Finding the newest generation that is sound, with what is broken put into quarantine on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sucrose.catalog.soundness import damage_of
from sucrose.errors import FormatVersionError, SignatureError, SucroseError

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation, GenerationLease

_LOOK_AGAIN_S = 0.001


def lease_newest(
    directory: CatalogDirectory, *, contents: bool, passed_over: set[str]
) -> tuple[Generation, GenerationLease] | None:
    """The newest sound generation, with a lease on it; None where there is none.

    Args:
        directory: of the catalog.
        contents: whether to read everything and compare all digests, or to check the structure alone.
        passed_over: ids that do not count. Those that are found broken are added.

    Raises:
        SignatureError: keys are set, and of all that are sound none is signed with one of them.
        FormatVersionError: the catalog has generations of a newer release, which may be the newest.
        OSError: a file cannot be read, for a reason that is not the generation's.
    """
    refused: list[SignatureError] = []
    while True:
        listing = directory.listing()
        for broken in listing.broken:
            if broken.name not in passed_over:  # once, where it cannot be moved
                passed_over.add(broken.name)
                directory.quarantine(broken.name, broken.reason)
        if listing.newer:
            raise FormatVersionError(listing.newer[0].reason, path=directory.path_of(listing.newer[0].name))
        candidates = [generation for generation in listing.generations if generation.id not in passed_over]
        if not candidates:
            if refused:
                raise _none_signed(directory, refused[0])
            return None
        generation = candidates[-1]
        lease = generation.lease()
        if lease is None:  # somebody has moved it meanwhile, or is about to
            time.sleep(_LOOK_AGAIN_S)
            continue
        try:
            directory.check(generation, contents=contents)
        except SignatureError as error:
            # Not broken: somebody else's, or written without the key. It stays where it is.
            lease.release()
            passed_over.add(generation.id)
            refused.append(error)
            directory.warn_of_refused(generation, error)
        except (SucroseError, OSError) as error:
            found_broken(directory, generation, lease, error, passed_over)
        except BaseException:
            lease.release()
            raise
        else:
            return generation, lease


def found_broken(
    directory: CatalogDirectory, generation: Generation, lease: GenerationLease, error: Exception, passed_over: set[str]
) -> None:
    """Passes over a generation that `error` came of, and puts it into quarantine.

    Raises:
        Exception: `error`, where it does not speak against the generation.
    """
    with lease:
        reason = damage_of(error, generation.path, generation.base_paths())
        if reason is None:
            raise error
        put_aside(directory, generation, lease, reason, passed_over)


def put_aside(
    directory: CatalogDirectory,
    generation: Generation,
    lease: GenerationLease,
    reason: str,
    passed_over: set[str],
) -> None:
    """Passes over a broken generation, and puts it into quarantine."""
    passed_over.add(generation.id)
    if lease.is_current():  # and its files are not missing because somebody has moved them meanwhile
        directory.quarantine(generation.id, reason)


def _none_signed(directory: CatalogDirectory, newest: SignatureError) -> SignatureError:
    return SignatureError(
        f"no generation in {directory.root!r} is signed with a key that is set here. Of the newest: {newest}. If you "
        "trust them all: for generation in Catalog(root).generations(): generation.snapshot().sign()",
        path=directory.root,
    )
