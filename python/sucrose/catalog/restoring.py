"""Restoring the newest generation that turns out to be sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sucrose.catalog.newest import found_broken, lease_newest
from sucrose.errors import CorruptionError, StateMismatchError, SucroseError, UnsafeObjectError

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation


def restore_newest(directory: CatalogDirectory, restore: Callable[[Generation], None]) -> Generation | None:
    """Calls `restore` with one generation after another, the newest first, until one is sound.

    Raises:
        CorruptionError: none was, and tensors may have been overwritten.
        Exception: of `restore`, where it does not speak against the generation.
    """
    passed_over: set[str] = set()
    tried: Generation | None = None
    while (found := lease_newest(directory, contents=False, passed_over=passed_over)) is not None:
        generation, lease = found
        try:
            restore(generation)
        except (SucroseError, OSError) as error:
            try:
                found_broken(directory, generation, lease, error, passed_over)
            except (StateMismatchError, UnsafeObjectError) as mismatch:
                if tried is None:
                    raise
                raise _with_warning(mismatch, tried) from error
            tried = generation
        except BaseException:
            lease.release()
            raise
        else:
            lease.release()
            return generation
    if tried is None:
        return None
    raise CorruptionError(
        f"no generation in {directory.root!r} is sound. {_warning(tried)}: initialize the program's state anew, or "
        "restore another copy",
        path=directory.root,
    )


def _with_warning(
    error: StateMismatchError | UnsafeObjectError, tried: Generation
) -> StateMismatchError | UnsafeObjectError:
    return type(error)(f"{error}\n{_warning(tried)}", path=error.path, key=error.key, offset=error.offset)


def _warning(tried: Generation) -> str:
    return (
        f"{tried.id} was found broken while it was read, so tensors of the program may have been overwritten with its "
        "content"
    )
